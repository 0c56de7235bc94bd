from __future__ import annotations

from store.retry import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first=1.0, longest=5.0, spread=0.0)
    assert [backoff.pause(n) for n in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_chance_moves_a_pause_by_its_spread() -> None:
    backoff = Backoff(first=1.0, longest=5.0, spread=0.5)
    assert (backoff.pause(0, lambda: 0.0), backoff.pause(0, lambda: 1.0)) == (0.5, 1.5)


def test_a_long_outage_does_not_overflow() -> None:
    assert Backoff(first=1.0, longest=5.0, spread=0.0).pause(100_000) == 5.0
