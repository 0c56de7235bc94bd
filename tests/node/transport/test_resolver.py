"""Where a URI is reached: numbers at once, names by hosts file and a real name server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.sip.errors import SipError, Unresolvable
from node.sip.targets import Target
from node.sip.uri import Uri
from node.transport import questions as module
from node.transport.hosts import Hosts
from node.transport.resolver import Reach, Resolver
from tests.support.nameserver import NameServer
from tests.support.node import STRETCH

ZONE = {
    ("example.org.", "NAPTR"): (
        '300 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.org.',
        '300 IN NAPTR 20 10 "s" "SIPS+D2T" "" _sips._tcp.example.org.',
        '300 IN NAPTR 5 10 "s" "SIP+D2S" "" _sip._sctp.example.org.',
    ),
    ("_sip._udp.example.org.", "SRV"): (
        "300 IN SRV 20 1 5070 b.example.org.",
        "300 IN SRV 10 1 5060 a.example.org.",
    ),
    ("_sip._tcp.example.org.", "SRV"): "300 IN SRV 1 1 5080 a.example.org.",
    ("_sips._tcp.example.org.", "SRV"): "300 IN SRV 1 1 5061 a.example.org.",
    ("a.example.org.", "A"): "300 IN A 192.0.2.1",
    ("a.example.org.", "AAAA"): "300 IN AAAA 2001:db8::1",
    ("b.example.org.", "A"): "300 IN A 192.0.2.2",
    ("plain.example.org.", "A"): "300 IN A 192.0.2.3",
    ("short.example.org.", "A"): "0 IN A 192.0.2.4",
    ("alias.example.org.", "CNAME"): "300 IN CNAME plain.example.org.",
}
UDP, TCP, TLS = "UDP", "TCP", "TLS"
BOTH = Reach(("UDP", "TCP"))
ALL = Reach(("UDP", "TCP", "TLS", "WS", "WSS"))


class Bench:
    """A resolver whose name server is ours."""

    def __init__(self, tmp_path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        (tmp_path / "hosts").write_text("192.0.2.9 here.example.org here # ours\n2001:db8::9 here.example.org\n")
        self.server = NameServer(ZONE)
        self.resolver = Resolver(self.loop, servers=[self.server.address], hosts=tmp_path / "hosts")

    def locate(self, uri: str, reach: Reach = BOTH) -> list[Target] | SipError:
        found: list[list[Target] | SipError] = []
        self.resolver.locate(Uri.parse(uri), found.append, reach)
        self.wait(lambda: bool(found))
        return found[0]

    def wait(self, until: Callable[[], bool]) -> None:
        async def wait() -> None:
            async with asyncio.timeout(20 * STRETCH):
                while not until():
                    await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.resolver.close()
    made.server.close()
    made.loop.run_until_complete(asyncio.sleep(0))
    made.loop.close()


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:a@192.0.2.1", Target("UDP", ("192.0.2.1", 5060))),
        ("sip:a@192.0.2.1:5070;transport=tcp", Target("TCP", ("192.0.2.1", 5070))),
        ("sips:a@192.0.2.1", Target("TLS", ("192.0.2.1", 5061))),
        ("sips:a@192.0.2.1;transport=ws", Target("WSS", ("192.0.2.1", 443))),
        ("sip:a@[2001:db8::1]", Target("UDP", ("2001:db8::1", 5060))),
        ("sip:a@example.org;maddr=192.0.2.8", Target("UDP", ("192.0.2.8", 5060))),
    ],
)
def test_a_number_is_told_at_once(bench: Bench, uri: str, target: Target) -> None:
    found: list[Any] = []
    bench.resolver.locate(Uri.parse(uri), found.append, BOTH)
    assert found == [[target]]


def test_naptr_leads_to_srv_in_the_order_of_priority(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org") == [(UDP, ("192.0.2.1", 5060)), (UDP, ("192.0.2.2", 5070))]


def test_a_service_that_comes_later_follows_the_first_one(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org", ALL) == [
        (UDP, ("192.0.2.1", 5060)),
        (UDP, ("192.0.2.2", 5070)),
        (TLS, ("192.0.2.1", 5061)),
    ]


def test_sips_takes_only_what_is_secure(bench: Bench) -> None:
    assert bench.locate("sips:a@example.org", ALL) == [(TLS, ("192.0.2.1", 5061))]


def test_both_families_where_there_are_sockets_for_them(bench: Bench) -> None:
    reach = Reach(("UDP", "TCP"), ipv4=True, ipv6=True)
    assert bench.locate("sip:a@example.org;transport=tcp", reach) == [
        (TCP, ("2001:db8::1", 5080)),
        (TCP, ("192.0.2.1", 5080)),
    ]
    assert bench.locate("sip:a@here.example.org", reach) == [
        (UDP, ("2001:db8::9", 5060)),
        (UDP, ("192.0.2.9", 5060)),
    ]
    assert bench.locate("sip:a@b.example.org:5060", Reach(ipv4=False, ipv6=True)) != []


def test_a_transport_asks_for_its_own_srv(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org;transport=tcp") == [(TCP, ("192.0.2.1", 5080))]
    assert not any("NAPTR" in asked for asked in bench.server.asked)


def test_a_transport_that_nobody_knows_is_refused(bench: Bench) -> None:
    assert isinstance(bench.locate("sip:a@example.org;transport=pigeon"), Unresolvable)
    assert bench.server.asked == []


def test_a_port_asks_for_addresses_only(bench: Bench) -> None:
    assert bench.locate("sip:a@plain.example.org:5999") == [(UDP, ("192.0.2.3", 5999))]
    assert bench.server.asked == ["plain.example.org. A"]


def test_without_srv_the_address_and_the_default_port(bench: Bench) -> None:
    assert bench.locate("sip:a@plain.example.org") == [(UDP, ("192.0.2.3", 5060))]
    assert sorted(bench.server.asked) == [
        "_sip._tcp.plain.example.org. SRV",
        "_sip._udp.plain.example.org. SRV",
        "plain.example.org. A",
        "plain.example.org. NAPTR",
    ]


def test_naptr_and_srv_can_be_switched_off(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org", Reach(naptr=False)) == [
        (UDP, ("192.0.2.1", 5060)),
        (UDP, ("192.0.2.2", 5070)),
    ]
    assert bench.locate("sip:a@plain.example.org", Reach(srv=False)) == [(UDP, ("192.0.2.3", 5060))]
    assert "plain.example.org. NAPTR" not in bench.server.asked


def test_the_hosts_file_comes_first(bench: Bench) -> None:
    assert bench.locate("sip:a@HERE.example.org") == [(UDP, ("192.0.2.9", 5060))]
    assert bench.server.asked == []


def test_a_browsers_name_is_not_asked_for(bench: Bench) -> None:
    assert isinstance(bench.locate("sip:x@df7jal23ls0d.invalid;transport=ws", ALL), Unresolvable)
    assert bench.server.asked == []


def test_an_alias_is_followed(bench: Bench) -> None:
    assert bench.locate("sip:a@alias.example.org:5060") == [(UDP, ("192.0.2.3", 5060))]


# ---- remembering ---------------------------------------------------------------------------------------------------------


def test_an_answer_is_remembered_and_then_told_at_once(bench: Bench) -> None:
    bench.locate("sip:a@example.org")
    asked = len(bench.server.asked)
    found: list[Any] = []
    bench.resolver.locate(Uri.parse("sip:b@example.org"), found.append, BOTH)
    assert found == [[(UDP, ("192.0.2.1", 5060)), (UDP, ("192.0.2.2", 5070))]]
    assert len(bench.server.asked) == asked


def test_an_answer_without_life_is_asked_for_again(bench: Bench) -> None:
    for _ in range(2):
        assert bench.locate("sip:a@short.example.org:5060") == [(UDP, ("192.0.2.4", 5060))]
    assert bench.server.asked == ["short.example.org. A"] * 2


def test_an_answer_is_forgotten_when_its_own_life_is_over(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.server.zone["one.example.org.", "A"] = "60 IN A 192.0.2.5"
    bench.server.zone["two.example.org.", "A"] = "600 IN A 192.0.2.6"
    names = ("sip:one.example.org:5060", "sip:two.example.org:5060")
    for name in names:
        bench.locate(name)
    now = bench.loop.time
    monkeypatch.setattr(bench.loop, "time", lambda: now() + 61)
    for name in names:
        bench.locate(name)
    assert bench.server.asked == ["one.example.org. A", "two.example.org. A", "one.example.org. A"]


def test_that_there_is_no_such_name_is_remembered_as_long_as_its_zone_says(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.server.soa = "example.org. 900 60"
    for _ in range(2):
        assert isinstance(bench.locate("sip:a@nowhere.example.org:5060"), Unresolvable)
    assert bench.server.asked == ["nowhere.example.org. A"]
    now = bench.loop.time
    monkeypatch.setattr(bench.loop, "time", lambda: now() + 61)
    bench.locate("sip:a@nowhere.example.org:5060")
    assert bench.server.asked == ["nowhere.example.org. A"] * 2


def test_a_zone_cannot_have_a_missing_name_remembered_for_days(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.server.soa = "example.org. 90000 90000"
    bench.locate("sip:a@nowhere.example.org:5060")
    now = bench.loop.time
    monkeypatch.setattr(bench.loop, "time", lambda: now() + module.NEGATIVE + 1)
    bench.locate("sip:a@nowhere.example.org:5060")
    assert bench.server.asked == ["nowhere.example.org. A"] * 2


def test_a_question_is_asked_once_however_many_wait_for_it(bench: Bench) -> None:
    bench.server.delays["plain.example.org."] = 0.2
    found: list[Any] = []
    for _ in range(50):
        bench.resolver.locate(Uri.parse("sip:plain.example.org:5060"), found.append, BOTH)
    bench.wait(lambda: len(found) == 50)
    assert bench.server.asked == ["plain.example.org. A"]


def test_memory_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    for name in "abc":
        bench.locate(f"sip:{name}.nowhere.example.org:5060")
    assert len(bench.resolver.questions._remembered) == 2


# ---- bad name servers ----------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_there_is_unresolvable(bench: Bench) -> None:
    assert isinstance(bench.locate("sip:a@nowhere.example.org"), Unresolvable)


def test_an_answer_too_long_for_a_datagram_comes_by_tcp(bench: Bench) -> None:
    bench.server.truncated.add("plain.example.org.")
    assert bench.locate("sip:a@plain.example.org:5060") == [(UDP, ("192.0.2.3", 5060))]
    assert bench.server.asked == ["plain.example.org. A", "plain.example.org. A tcp"]


def test_a_dead_name_server_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.2)
    bench.server.silent.add("*")
    assert isinstance(bench.locate("sip:a@example.org"), Unresolvable)
    assert set(bench.server.asked) == {"example.org. NAPTR"}, "nobody is asked a second thing who is silent"


def test_a_silent_name_server_holds_up_only_who_asks_it(bench: Bench) -> None:
    bench.server.silent.add("slow.example.org. A")
    slow: list[Any] = []
    bench.resolver.locate(Uri.parse("sip:slow.example.org:5060"), slow.append, BOTH)
    assert bench.locate("sip:a@plain.example.org:5060") == [(UDP, ("192.0.2.3", 5060))]
    assert slow == []


def test_the_next_name_server_is_asked_when_one_is_silent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with NameServer() as dead:
        dead.silent.add("*")
        bench.resolver.configure([dead.address, bench.server.address])
        assert bench.locate("sip:a@plain.example.org:5060") == [(UDP, ("192.0.2.3", 5060))]
        assert dead.asked


def test_a_server_that_fails_for_services_still_gives_the_address(bench: Bench) -> None:
    bench.server.failing |= {"_sip._udp.plain.example.org.", "_sip._tcp.plain.example.org."}
    assert bench.locate("sip:a@plain.example.org") == [(UDP, ("192.0.2.3", 5060))]


def test_a_family_that_is_never_answered_does_not_keep_the_other_away(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.2)
    bench.server.silent.add("a.example.org. AAAA")
    found = bench.locate("sip:a@a.example.org:5060", Reach(ipv4=True, ipv6=True))
    assert found == [(UDP, ("192.0.2.1", 5060))]


def test_what_was_known_serves_on_while_nobody_answers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.2)
    bench.locate("sip:a@plain.example.org:5060")
    bench.server.silent.add("*")
    now = bench.loop.time
    monkeypatch.setattr(bench.loop, "time", lambda: now() + 301)
    assert bench.locate("sip:a@plain.example.org:5060") == [(UDP, ("192.0.2.3", 5060))]
    monkeypatch.setattr(bench.loop, "time", lambda: now() + 301 + module.STALE)
    assert isinstance(bench.locate("sip:a@plain.example.org:5060"), Unresolvable)


def test_a_service_that_is_expressly_not_offered_is_not_sought_by_address(bench: Bench) -> None:
    bench.server.zone["_sip._udp.plain.example.org.", "SRV"] = "300 IN SRV 0 0 0 ."
    assert isinstance(bench.locate("sip:a@plain.example.org"), Unresolvable)


def test_names_are_asked_of_whom_resolv_conf_names(bench: Bench, tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 127.0.0.1\n")
    asking = module.Questions(bench.loop, resolv_conf=conf)
    assert asking._asking().nameservers == ["127.0.0.1"]
    time.sleep(0.01)
    conf.write_text("nameserver 127.0.0.2\nnameserver 127.0.0.3\n")
    assert asking._asking().nameservers == ["127.0.0.2", "127.0.0.3"]


def test_without_resolv_conf_a_name_is_unresolvable_and_nothing_breaks(bench: Bench, tmp_path: Path) -> None:
    bench.resolver.questions = module.Questions(bench.loop, resolv_conf=tmp_path / "none")
    assert isinstance(bench.locate("sip:a@plain.example.org"), Unresolvable)


def test_the_hosts_file_may_be_missing(tmp_path: Path) -> None:
    assert Hosts(tmp_path / "none").find("localhost") == []
