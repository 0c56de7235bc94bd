from __future__ import annotations

from store.breaker import Breaker, State
from store.settings import BreakerSettings

SETTINGS = BreakerSettings(failures=2, first_pause=1.0, longest_pause=4.0, spread=0.5)


def breaker() -> Breaker:
    return Breaker(SETTINGS, chance=lambda: 0.5)


def test_one_failure_is_forgiven() -> None:
    one = breaker()
    one.failed(0.0)
    assert one.allows(0.0)
    one.succeeded()
    one.failed(1.0)
    assert one.state is State.CLOSED


def test_failures_in_a_row_open_it() -> None:
    one = breaker()
    one.failed(0.0)
    one.failed(0.1)
    assert not one.allows(1.0)
    assert one.allows(1.1)
    assert one.state is State.PROBING


def test_a_probe_that_succeeds_closes_it() -> None:
    one = breaker()
    one.trip(0.0)
    assert one.allows(1.0)
    one.succeeded()
    assert one.state is State.CLOSED


def test_probes_that_fail_come_ever_later_up_to_a_limit() -> None:
    one = breaker()
    one.trip(0.0)
    pauses = []
    now = 0.0
    for _ in range(5):
        pauses.append(one.probe_at - now)
        now = one.probe_at
        assert one.allows(now)
        one.failed(now)
    assert pauses == [1.0, 2.0, 4.0, 4.0, 4.0]


def test_after_a_success_the_pauses_begin_anew() -> None:
    one = breaker()
    for _ in range(3):
        one.trip(0.0)
    one.allows(one.probe_at)
    one.succeeded()
    one.trip(100.0)
    assert one.probe_at == 101.0


def test_chance_spreads_the_probes() -> None:
    times = set()
    for chance in (0.0, 0.5, 1.0):
        one = Breaker(SETTINGS, chance=lambda chance=chance: chance)
        one.trip(0.0)
        times.add(one.probe_at)
    assert times == {0.5, 1.0, 1.5}
