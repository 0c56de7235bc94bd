"""Where a URI is reached: numbers at once, names by hosts file and DNS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
import pytest

from node.sip.errors import SipError, Unresolvable
from node.sip.uri import Uri
from node.transport import resolver as module
from node.transport.resolver import Hosts, Resolver, Target

ZONE = {
    ("example.org.", "NAPTR"): '300 IN NAPTR 10 10 "s" "SIP+D2U" "" _sip._udp.example.org.',
    ("_sip._udp.example.org.", "SRV"): (
        "300 IN SRV 20 1 5070 b.example.org.",
        "300 IN SRV 10 1 5060 a.example.org.",
    ),
    ("_sip._tcp.example.org.", "SRV"): "300 IN SRV 1 1 5080 a.example.org.",
    ("a.example.org.", "A"): "300 IN A 192.0.2.1",
    ("b.example.org.", "A"): "300 IN A 192.0.2.2",
    ("plain.example.org.", "A"): "300 IN A 192.0.2.3",
}


class NameServer(asyncio.DatagramProtocol):
    """Answers from ZONE."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, source: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{question.name} {kind}")
        answer = dns.message.make_response(query)
        rows = ZONE.get((str(question.name), kind), ())
        for row in (rows,) if isinstance(rows, str) else rows:
            ttl, _in, _kind, rest = row.split(" ", 3)
            answer.answer.append(dns.rrset.from_text(question.name, int(ttl), "IN", kind, rest))
        assert self.transport is not None
        self.transport.sendto(answer.to_wire(), source)


class Bench:
    """A resolver whose name server is ours."""

    def __init__(self, tmp_path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        (tmp_path / "hosts").write_text("192.0.2.9 here.example.org here # ours\n")
        self.resolver = Resolver(self.loop, hosts=tmp_path / "hosts")
        transport, self.server = self.loop.run_until_complete(
            self.loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
        )
        self.transport = transport
        asked = dns.asyncresolver.Resolver(configure=False)
        asked.nameservers = ["127.0.0.1"]
        asked.port = transport.get_extra_info("sockname")[1]
        asked.lifetime = 2.0
        self.resolver._dns = asked

    def locate(self, uri: str, **options: bool) -> list[Target] | SipError:
        found: list[list[Target] | SipError] = []
        self.resolver.locate(Uri.parse(uri), found.append, **options)

        async def wait() -> None:
            async with asyncio.timeout(5):
                while not found:
                    await asyncio.sleep(0.001)

        self.loop.run_until_complete(wait())
        return found[0]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.resolver.close()
    made.transport.close()
    made.loop.run_until_complete(asyncio.sleep(0))
    made.loop.close()


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("sip:a@192.0.2.1", Target("UDP", ("192.0.2.1", 5060))),
        ("sip:a@192.0.2.1:5070;transport=tcp", Target("TCP", ("192.0.2.1", 5070))),
        ("sips:a@192.0.2.1", Target("TLS", ("192.0.2.1", 5061))),
        ("sip:a@[2001:db8::1]", Target("UDP", ("2001:db8::1", 5060))),
    ],
)
def test_a_number_is_told_at_once(bench: Bench, uri: str, target: Target) -> None:
    found: list[Any] = []
    bench.resolver.locate(Uri.parse(uri), found.append)
    assert found == [[target]]


def test_naptr_leads_to_srv_in_the_order_of_priority(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org") == [
        Target("UDP", ("192.0.2.1", 5060)),
        Target("UDP", ("192.0.2.2", 5070)),
    ]


def test_a_transport_asks_for_its_own_srv(bench: Bench) -> None:
    assert bench.locate("sip:a@example.org;transport=tcp") == [Target("TCP", ("192.0.2.1", 5080))]
    assert not any("NAPTR" in asked for asked in bench.server.asked)


def test_a_port_asks_for_addresses_only(bench: Bench) -> None:
    assert bench.locate("sip:a@plain.example.org:5999") == [Target("UDP", ("192.0.2.3", 5999))]
    assert bench.server.asked == ["plain.example.org. A"]


def test_without_srv_the_address_and_the_default_port(bench: Bench) -> None:
    assert bench.locate("sip:a@plain.example.org") == [Target("UDP", ("192.0.2.3", 5060))]


def test_the_hosts_file_comes_first(bench: Bench) -> None:
    assert bench.locate("sip:a@HERE.example.org") == [Target("UDP", ("192.0.2.9", 5060))]
    assert bench.server.asked == []


def test_an_answer_is_remembered(bench: Bench) -> None:
    bench.locate("sip:a@example.org")
    asked = len(bench.server.asked)
    bench.locate("sip:b@example.org")
    assert len(bench.server.asked) == asked


def test_a_name_that_is_not_there_is_unresolvable(bench: Bench) -> None:
    assert isinstance(bench.locate("sip:a@nowhere.example.org"), Unresolvable)


def test_a_dead_name_server_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LIFETIME", 0.2)
    bench.transport.close()
    assert isinstance(bench.locate("sip:a@example.org"), Unresolvable)


def test_the_hosts_file_may_be_missing(tmp_path: Path) -> None:
    assert Hosts(tmp_path / "none").find("localhost") == []
