"""Which targets are tried last, and for how long."""

from __future__ import annotations

import pytest

from node.sip.flow import Flow
from node.sip.message import Response, parse
from node.transport import outages as module
from node.transport.outages import LONGEST, Outages, retry_after


def flow(port: int, transport: str = "UDP") -> Flow:
    return Flow("external", transport, ("192.0.2.1", 5080), ("192.0.2.9", port))  # type: ignore[arg-type]


ONE, TWO, THREE = flow(1), flow(2), flow(3)


def test_who_failed_is_tried_last_until_the_time_is_over() -> None:
    outages = Outages()
    outages.note(ONE, 30, now=100.0)
    assert outages.last([ONE, TWO, THREE], 129.9) == [TWO, THREE, ONE]
    assert outages.last([ONE, TWO, THREE], 130.0) == [ONE, TWO, THREE]


def test_those_that_all_failed_keep_their_order() -> None:
    outages = Outages()
    for each in (THREE, ONE, TWO):
        outages.note(each, 30, now=0.0)
    assert outages.last([ONE, TWO, THREE], 1.0) == [ONE, TWO, THREE]


def test_a_transport_of_a_target_fails_by_itself() -> None:
    outages = Outages()
    outages.note(flow(1, "TCP"), 30, now=0.0)
    assert outages.last([ONE, TWO], 1.0) == [ONE, TWO]
    assert outages.has(flow(1, "TCP"), 1.0)


def test_who_answers_again_has_its_place_back() -> None:
    outages = Outages()
    outages.note(ONE, 30, now=0.0)
    outages.forget(ONE)
    assert outages.last([ONE, TWO], 1.0) == [ONE, TWO]
    assert len(outages) == 0


def test_no_time_is_no_memory() -> None:
    outages = Outages()
    outages.note(ONE, 30, now=0.0)
    outages.note(ONE, 0, now=1.0)
    assert outages.last([ONE, TWO], 1.0) == [ONE, TWO]


def test_nobody_keeps_a_target_away_for_days() -> None:
    outages = Outages()
    outages.note(ONE, 86_400, now=0.0)
    assert not outages.has(ONE, LONGEST)


def test_of_too_many_the_oldest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    outages = Outages()
    for each in (ONE, TWO, ONE, THREE):
        outages.note(each, 30, now=0.0)
    assert [outages.has(each, 1.0) for each in (ONE, TWO, THREE)] == [True, False, True]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("Retry-After: 7", 7),
        ("Retry-After: 18 (in a meeting)", 18),
        ("Retry-After: 120;duration=60", 120),
        ("Retry-After: soon", 30),
        ("Retry-After: 99999999999", 30),
        ("Subject: none", 30),
    ],
)
def test_a_503_may_say_for_how_long(line: str, seconds: float) -> None:
    response = parse(
        f"SIP/2.0 503 Service Unavailable\r\n{line}\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nCSeq: 1 INVITE\r\n"
        "Call-ID: 1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\r\n".encode()
    )
    assert isinstance(response, Response)
    assert retry_after(response, 30) == seconds
