"""`sofia_dig` in a real console process, asking a real name server; against what FreeSWITCH prints."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.console.rig import Console
from tests.node.console.transcripts import transcript
from tests.support.nameserver import NameServer
from tests.support.node import STRETCH

HEADER = transcript("sofia_dig_localhost").split("-ERR")[0]

ZONE = {
    ("example.org.", "NAPTR"): (
        '300 IN NAPTR 20 1 "s" "SIP+D2U" "" _sip._udp.example.org.',
        '300 IN NAPTR 10 1 "s" "SIPS+D2T" "" _sips._tcp.example.org.',
    ),
    ("_sips._tcp.example.org.", "SRV"): "300 IN SRV 1 1 5061 a.example.org.",
    ("_sip._udp.example.org.", "SRV"): (
        "300 IN SRV 1 60 5060 a.example.org.",
        "300 IN SRV 1 40 5070 b.example.org.",
        "300 IN SRV 2 1 5080 c.example.org.",
    ),
    ("a.example.org.", "A"): "300 IN A 192.0.2.1",
    ("a.example.org.", "AAAA"): "300 IN AAAA 2001:db8::1",
    ("b.example.org.", "A"): "300 IN A 192.0.2.2",
    ("c.example.org.", "A"): "300 IN A 192.0.2.3",
    ("_sip._udp.guess.org.", "SRV"): "300 IN SRV 1 1 5060 a.example.org.",
    ("_sip._tcp.guess.org.", "SRV"): "300 IN SRV 1 1 5062 b.example.org.",
    ("_sip._udp.five.org.", "SRV"): "300 IN SRV 1 1 5060 a.example.org.",
    ("_sip._sctp.five.org.", "SRV"): "300 IN SRV 1 1 5063 a.example.org.",
    ("_sips._tcp.five.org.", "SRV"): "300 IN SRV 1 1 5061 a.example.org.",
    ("_sips._sctp.five.org.", "SRV"): "300 IN SRV 1 1 5064 a.example.org.",
    ("plain.org.", "NAPTR"): '300 IN NAPTR 1 1 "a" "SIPS+D2T" "" c.example.org.',
}


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with NameServer(ZONE) as server:
        yield server


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    made = Console(tmp_path_factory.mktemp("console"))
    yield made
    made.end()


def rows(text: str) -> list[list[str]]:
    assert text.startswith(HEADER)
    return [line.split() for line in text[len(HEADER) :].splitlines()]


def test_a_name_that_is_not_there_is_said_as_freeswitch_says_it(console: Console, names: NameServer) -> None:
    assert console.api(f"sofia_dig @{names.text} localhost") == transcript("sofia_dig_localhost")


@pytest.mark.parametrize(
    "line",
    ["", "--help", "-h", "-?", "--pigeon example.org", "-p", "-p pigeon x", "@300.1.1.1 x", "-", " ".join(["x"] * 50)],
)
def test_who_does_not_know_how_is_told(console: Console, line: str) -> None:
    assert console.api(f"sofia_dig {line}".strip()) == transcript("sofia_dig")


def test_naptr_then_srv_then_addresses_with_their_shares(console: Console, names: NameServer) -> None:
    # Who goes first among equals is left to chance, by their shares (RFC 2782).
    assert sorted(rows(console.api(f"sofia_dig -4 @{names.text} example.org"))) == [
        ["1", "1.000", "tls", "5061", "192.0.2.1"],
        ["2", "0.400", "udp", "5070", "192.0.2.2"],
        ["2", "0.600", "udp", "5060", "192.0.2.1"],
        ["3", "1.000", "udp", "5080", "192.0.2.3"],
    ]


def test_the_table_is_set_as_freeswitch_sets_it(console: Console, names: NameServer) -> None:
    line = "{:>10}\t{:>10}\t{:>10}\t{:>10}\t{:>10}\n".format("1", "1.000", "udp", "5090", "192.0.2.3")
    assert console.api(f"sofia_dig --udp @{names.text} sip:c.example.org:5090") == HEADER + line


def test_both_families_are_shown_and_the_newer_one_first(console: Console, names: NameServer) -> None:
    both = rows(console.api(f"sofia_dig --tls @{names.text} example.org"))
    assert [row[-1] for row in both] == ["2001:db8::1", "192.0.2.1"]
    turned = rows(console.api(f"sofia_dig --tls -6 -4 @{names.text} example.org"))
    assert [row[-1] for row in turned] == ["192.0.2.1", "2001:db8::1"]


def test_without_naptr_each_transport_with_srv_records_has_its_share(console: Console, names: NameServer) -> None:
    assert rows(console.api(f"sofia_dig -4 @{names.text} guess.org")) == [
        ["1", "0.500", "udp", "5060", "192.0.2.1"],
        ["2", "0.500", "tcp", "5062", "192.0.2.2"],
    ]


def test_a_transport_in_the_uri_or_among_the_options_leaves_the_others_out(console: Console, names: NameServer) -> None:
    for line in ("sip:guess.org;transport=tcp", "--tcp guess.org", "-p=tcp guess.org", "-p tcp guess.org"):
        words = line.rsplit(" ", 1)
        options, uri = (words[0], words[1]) if len(words) > 1 else ("", line)
        found = rows(console.api(f"sofia_dig {options} -4 @{names.text} {uri}".replace("  ", " ")))
        assert found == [["1", "1.000", "tcp", "5062", "192.0.2.2"]]


def test_a_transport_of_the_operators_own_is_asked_for(console: Console, names: NameServer) -> None:
    names.zone["_x._y.guess.org.", "SRV"] = "300 IN SRV 1 1 99 c.example.org."
    assert rows(console.api(f"sofia_dig -p own/X+D2Y/_x._y. -4 @{names.text} guess.org")) == [
        ["1", "1.000", "own", "99", "192.0.2.3"]
    ]


def test_sctp_is_among_the_transports_unless_it_is_left_out(console: Console, names: NameServer) -> None:
    def ports(options: str, uri: str = "five.org") -> list[tuple[str, str]]:
        found = rows(console.api(f"sofia_dig -4 {options} @{names.text} {uri}"))
        shares = {row[1] for row in found}
        assert shares == {f"{1 / len(found):.3f}"}
        assert [row[0] for row in found] == [str(place) for place in range(1, len(found) + 1)]
        return [(row[2], row[3]) for row in found]

    assert ports("") == [("udp", "5060"), ("sctp", "5063"), ("tls", "5061"), ("tls-sctp", "5064")]
    assert ports("--no-sctp") == [("udp", "5060"), ("tls", "5061")]
    assert ports("--tls-sctp --sctp") == [("tls-sctp", "5064"), ("sctp", "5063")]
    assert ports("", "sips:five.org") == [("tls", "5061"), ("tls-sctp", "5064")]
    assert ports("--udp --tls -") == [("udp", "5060"), ("tls", "5061")]


def test_a_service_may_lead_to_an_address_and_tls_has_its_own_port(console: Console, names: NameServer) -> None:
    assert rows(console.api(f"sofia_dig -4 @{names.text} plain.org")) == [["1", "1.000", "tls", "5061", "192.0.2.3"]]


def test_of_a_uri_that_makes_no_sense_nothing_is_said(console: Console) -> None:
    assert console.api("sofia_dig sip:[::1") == HEADER


def test_a_number_needs_no_name_server(console: Console) -> None:
    assert rows(console.api("sofia_dig 192.0.2.9")) == [
        ["1", "1.000", "udp", "5060", "192.0.2.9"],
        ["2", "1.000", "tcp", "5060", "192.0.2.9"],
    ]
    assert rows(console.api("sofia_dig sip:192.0.2.9;transport=tcp")) == [["1", "1.000", "tcp", "5060", "192.0.2.9"]]
    assert rows(console.api("sofia_dig sips:192.0.2.9")) == [["1", "1.000", "tls", "5061", "192.0.2.9"]]


def test_an_address_alone_is_shared_by_udp_and_tcp(console: Console, names: NameServer) -> None:
    assert rows(console.api(f"sofia_dig @{names.text} c.example.org")) == [
        ["1", "0.500", "udp", "5060", "192.0.2.3"],
        ["1", "0.500", "tcp", "5060", "192.0.2.3"],
    ]


def test_xml_and_several_uris(console: Console, names: NameServer) -> None:
    text = console.api(f"sofia_dig xml --udp -4 @{names.text} sip:c.example.org nowhere.org")
    assert text == (
        "<routes>\nsip:c.example.org <route>\n  <preference>1</preference>\n  <weight>1.000</weight>\n"
        "  <transport>udp</transport>\n  <port>5060</port>\n  <address>192.0.2.3</address>\n </route>\n"
        "nowhere.org-ERR: nowhere.org: not found\n</routes>\n"
    )


def test_a_silent_name_server_holds_up_nobody_else(console: Console, tmp_path: Path) -> None:
    with NameServer() as dead, console.client() as waiting:
        dead.silent.add("*")
        begun = time.monotonic()
        waiting.send(f"api sofia_dig @{dead.text} slow.org")
        while not dead.asked:
            assert time.monotonic() - begun < 10 * STRETCH
            time.sleep(0.01)
        assert "not found" not in console.api("version")
        assert not select.select([waiting._sock], [], [], 0)[0], "the other one is still waiting"
