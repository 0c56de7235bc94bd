"""Which questions lead to a URI's targets, and in which order they are tried."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.sip import targets as module
from node.sip.targets import Question, Server, Service, Target, Wish, by_weight, plan

servers = st.lists(
    st.builds(Server, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 65535), st.sampled_from("abcdefgh")),
    max_size=12,
)


@given(servers, st.integers(0, 2**32))
def test_an_order_holds_each_server_once_and_a_lower_priority_first(rows: list[Server], seed: int) -> None:
    ordered = by_weight(rows, random.Random(seed))
    assert Counter(ordered) == Counter(rows)
    assert [one.priority for one in ordered] == sorted(one.priority for one in rows)


@given(st.lists(st.integers(1, 500), min_size=2, max_size=6, unique=True), st.integers(0, 2**32))
def test_each_server_is_first_as_often_as_its_weight_says(weights: list[int], seed: int) -> None:
    rows = [Server(1, weight, 5060, str(weight)) for weight in weights]
    chance, turns = random.Random(seed), 2000
    first = Counter(by_weight(rows, chance)[0].weight for _ in range(turns))
    for weight in weights:
        share = weight / sum(weights)
        # Six standard deviations, and what RFC 2782's draw from 0 on favours the first one by.
        bound = 6 * (turns * share * (1 - share)) ** 0.5 + turns / sum(weights) + 1
        assert abs(first[weight] - turns * share) <= bound


def test_the_second_place_goes_by_weight_too() -> None:
    rows = [Server(1, weight, 5060, str(weight)) for weight in (10, 20, 70)]
    chance = random.Random(7)
    seconds = Counter(by_weight(rows, chance)[1].weight for _ in range(10_000))
    # 70 first (7 of 10), then 20 twice as often as 10; and so on for the others.
    expected = {10: 0.7 / 3 + 0.2 / 8, 20: 0.7 * 2 / 3 + 0.1 * 2 / 9, 70: 0.2 * 7 / 8 + 0.1 * 7 / 9}
    for weight, share in expected.items():
        assert seconds[weight] / 10_000 == pytest.approx(share, abs=0.03)


def test_a_server_of_weight_0_is_hardly_ever_first_and_never_left_out() -> None:
    rows = [Server(1, 0, 5060, "zero"), Server(1, 100, 5060, "hundred")]
    chance = random.Random(1)
    orders = [by_weight(rows, chance) for _ in range(5000)]
    assert 0 < sum(one[0].weight == 0 for one in orders) < 150
    assert all(len(one) == 2 for one in orders)


# ---- the plan ------------------------------------------------------------------------------------------------------------


class Zone:
    """Answers that are given as they are asked for, and what was asked."""

    def __init__(self, **records: Sequence[Any]) -> None:
        self.records = {tuple(key.rsplit(" ", 1)): rows for key, rows in records.items()}
        self.answers: dict[Question, Sequence[Any]] = {}
        self.rounds: list[list[str]] = []

    def targets(self, host: str = "example.org", **wish: Any) -> list[Target]:
        given: dict[str, Any] = {"port": None, "transport": None, "secure": False, "transports": ("UDP", "TCP", "TLS")}
        asked = Wish(host, **{**given, "families": ("A",), **wish})
        for _ in range(6):
            found, missing = plan(asked, self.answers.get, random.Random(1))
            if not missing:
                return found
            assert not found
            self.rounds.append([f"{each.name} {each.kind}" for each in missing])
            for each in missing:
                assert each not in self.answers, "nothing is asked twice"
                self.answers[each] = self.records.get(each, ())
        raise AssertionError(f"it goes on asking: {self.rounds}")


def test_everything_that_is_missing_is_asked_for_at_once() -> None:
    zone = Zone(
        **{
            "_sip._udp.example.org SRV": [Server(1, 1, 5060, "a.org"), Server(2, 1, 5060, "b.org")],
            "a.org A": ["192.0.2.1"],
            "b.org A": ["192.0.2.2"],
        }
    )
    found = zone.targets()
    assert [one.address[0] for one in found] == ["192.0.2.1", "192.0.2.2"]
    assert zone.rounds == [
        ["example.org NAPTR"],
        ["_sip._udp.example.org SRV", "_sip._tcp.example.org SRV", "_sips._tcp.example.org SRV"],
        ["a.org A", "b.org A"],
    ]


def test_web_sockets_are_found_by_their_services_of_rfc_7118() -> None:
    zone = Zone(
        **{
            "example.org NAPTR": [
                Service(10, 1, "S", "sips+d2w", "_sips._ws.example.org"),
                Service(20, 1, "s", "SIP+D2W", "_sip._ws.example.org"),
            ],
            "_sips._ws.example.org SRV": [Server(1, 1, 7443, "edge.example.org")],
            "_sip._ws.example.org SRV": [Server(1, 1, 5066, "edge.example.org")],
            "edge.example.org A": ["192.0.2.7"],
        }
    )
    assert zone.targets(transports=("UDP", "WS", "WSS")) == [
        ("WSS", ("192.0.2.7", 7443)),
        ("WS", ("192.0.2.7", 5066)),
    ]


def test_what_cannot_be_spoken_is_passed_over() -> None:
    zone = Zone(
        **{
            "example.org NAPTR": [
                Service(10, 1, "s", "SIP+D2S", "_sip._sctp.example.org"),
                Service(20, 1, "u", "E2U+sip", ""),
            ],
            "example.org A": ["192.0.2.1"],
        }
    )
    assert zone.targets() == [("UDP", ("192.0.2.1", 5060))]


def test_sips_is_never_sent_in_the_clear() -> None:
    zone = Zone(
        **{
            "example.org NAPTR": [Service(10, 1, "s", "SIP+D2U", "_sip._udp.example.org")],
            "_sip._udp.example.org SRV": [Server(1, 1, 5060, "a.org")],
            "example.org A": ["192.0.2.1"],
        }
    )
    assert zone.targets(secure=True) == [("TLS", ("192.0.2.1", 5061))]


def test_a_server_named_by_its_address_needs_no_question() -> None:
    zone = Zone(**{"_sip._tcp.example.org SRV": [Server(1, 1, 5070, "192.0.2.4")]})
    assert zone.targets(transport="TCP") == [("TCP", ("192.0.2.4", 5070))]
    assert zone.rounds == [["_sip._tcp.example.org SRV"]]


def test_nobody_is_tried_twice_and_the_list_ends() -> None:
    zone = Zone(
        **{
            "_sip._udp.example.org SRV": [Server(number // 2, 1, 5060 + number // 2, "a.org") for number in range(90)],
            "a.org A": ["192.0.2.1"],
        }
    )
    found = zone.targets(transport="UDP")
    assert len(found) == len(set(found)) <= module.MAXIMUM
