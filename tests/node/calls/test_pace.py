"""The queue of re-INVITEs in virtual time: their order and their rate."""

from __future__ import annotations

from functools import partial

import pytest

from node.calls.pace import BURST, TICK, Pace
from node.calls.urgency import Rank
from tests.node.test_standby import Clock


def queue(clock: Clock, rate: float) -> tuple[Pace, list[tuple[float, str]]]:
    sent: list[tuple[float, str]] = []
    pace = Pace(clock.later, clock)
    pace.rate = rate
    return pace, sent


def want(pace: Pace, sent: list[tuple[float, str]], clock: Clock, name: str, rank: Rank) -> None:
    pace.push(rank, lambda: sent.append((clock.now, name)))


def test_answered_ones_come_first_then_emergencies_then_the_oldest() -> None:
    clock = Clock()
    pace, sent = queue(clock, 0)
    for name, rank in (
        ("rings", Rank(True, False, 1.0)),
        ("young", Rank(False, True, 9.0)),
        ("old", Rank(False, True, 2.0)),
        ("112", Rank(False, False, 8.0)),
    ):
        want(pace, sent, clock, name, rank)
    clock.run(1)
    assert [name for _at, name in sent] == ["112", "old", "young", "rings"]


def test_one_that_comes_later_overtakes_those_that_still_wait() -> None:
    clock = Clock()
    pace, sent = queue(clock, 10)
    for number in range(5):
        want(pace, sent, clock, f"call {number}", Rank(False, True, float(number)))
    clock.run(0.15)
    want(pace, sent, clock, "112", Rank(False, False, 99.0))
    clock.run(2)
    assert [name for _at, name in sent] == ["call 0", "call 1", "112", "call 2", "call 3", "call 4"]


def test_no_more_go_out_than_the_rate_allows() -> None:
    clock = Clock()
    pace, sent = queue(clock, 200)
    for number in range(1000):
        want(pace, sent, clock, str(number), Rank(False, True, float(number)))
    clock.run(10)
    times = [at for at, _name in sent]
    assert len(times) == 1000
    assert 4.9 < times[-1] - times[0] < 5.2
    for start in range(0, 800, 50):
        window = [at for at in times if times[start] <= at < times[start] + 0.5]
        assert len(window) <= 100 + 200 * TICK * 2


@pytest.mark.parametrize("rate", [3, 7, 10, 30, 50])
def test_a_loop_that_counts_milliseconds_and_rings_early_keeps_to_the_rate(rate: int) -> None:
    """As uvloop does: a third of a second has 333 of them."""
    clock = Clock()
    pace, sent = queue(clock, rate)
    pace = Pace(lambda delay, turn: clock.later(round(delay * 1000) / 1000, turn), clock)
    pace.rate = rate
    for number in range(10 * rate + 1):
        want(pace, sent, clock, str(number), Rank(False, True, float(number)))
    clock.run(30)
    assert len(sent) == 10 * rate + 1
    assert 9.8 < sent[-1][0] - sent[0][0] < 10.5


def test_thousands_a_second_go_out_in_lots() -> None:
    clock = Clock()
    pace, sent = queue(clock, 4000)
    for number in range(2000):
        want(pace, sent, clock, str(number), Rank(False, True, float(number)))
    clock.run(10)
    assert len(sent) == 2000
    assert 0.45 < sent[-1][0] < 0.55
    assert len({at for at, _name in sent}) < 100


def test_without_a_limit_the_loop_still_has_its_turns() -> None:
    clock = Clock()
    turns: list[int] = []
    pace = Pace(lambda delay, turn: clock.later(delay, partial(counted, turn)), clock)

    def counted(turn: object) -> None:
        turns.append(len(pace))
        turn()  # type: ignore[operator]

    for number in range(3 * BURST):
        pace.push(Rank(False, True, float(number)), lambda: None)
    clock.run(1)
    assert turns == [3 * BURST, 2 * BURST, BURST]


def test_a_closed_queue_says_nothing() -> None:
    clock = Clock()
    pace, sent = queue(clock, 0)
    want(pace, sent, clock, "late", Rank(False, True, 1.0))
    pace.close()
    clock.run(1)
    assert sent == []
    assert len(pace) == 0
