"""Who may connect, in virtual time."""

from __future__ import annotations

from node.config.streams import StreamLimits
from node.transport import door
from node.transport.door import TOO_MANY, TOO_OFTEN, Door

LIMITS = StreamLimits(accept_rate=100, accept_rate_per_source=10, max_connections_per_source=30)


def tried(there: Door, source: str, times: int, now: float, cost: float = 1.0) -> int:
    """How many of so many at once come in."""
    came = 0
    for _ in range(times):
        if not there.refusal(source, now, cost):
            there.entered(source)
            came += 1
    return came


def test_a_source_has_its_rate_after_a_burst_of_twice_as_many():
    there = Door(LIMITS, 0.0)
    assert tried(there, "10.0.0.1", 100, 0.0) == 20
    assert there.refusal("10.0.0.1", 0.0, 1) == TOO_OFTEN
    assert tried(there, "10.0.0.1", 100, 0.5) == 5
    assert tried(there, "10.0.0.2", 100, 0.5) == 20


def test_tls_costs_more():
    there = Door(LIMITS, 0.0)
    assert tried(there, "10.0.0.1", 100, 0.0, cost=4.0) == 5


def test_a_source_has_so_many_connections_and_one_more_for_each_that_ends():
    there = Door(LIMITS, 0.0)
    for second in range(0, 20, 2):
        tried(there, "10.0.0.1", 20, float(second))
    assert there.inside("10.0.0.1") == 30
    assert there.refusal("10.0.0.1", 30.0, 1) == TOO_MANY
    there.left("10.0.0.1")
    assert there.refusal("10.0.0.1", 40.0, 1) == ""


def test_what_is_refused_takes_nothing_from_the_others():
    there = Door(LIMITS, 0.0)
    tried(there, "10.0.0.1", 100_000, 0.0)
    assert there.pause(0.0, 1) == 0
    assert tried(there, "10.0.0.2", 20, 0.0) == 20


def test_all_together_wait_when_they_are_too_many():
    there = Door(LIMITS, 0.0)
    came = sum(tried(there, f"10.0.{n // 250}.{n % 250}", 1, 0.0) for n in range(200))
    assert came == 200
    assert there.pause(0.0, 1) == 0.01
    assert there.pause(0.01, 1) == 0


def test_a_crowd_of_forged_sources_does_not_fill_the_memory():
    there = Door(LIMITS, 0.0)
    for number in range(3 * door.SOURCES):
        there.refusal(str(number), 0.0, 1)
    assert len(there._rates) <= door.SOURCES


def test_other_limits_leave_those_inside_where_they_are():
    there = Door(LIMITS, 0.0)
    tried(there, "10.0.0.1", 10, 0.0)
    there.configure(StreamLimits(max_connections_per_source=10), 1.0)
    assert there.refusal("10.0.0.1", 1.0, 1) == TOO_MANY


def test_who_is_exempt_has_only_the_limit_of_all() -> None:
    there = Door(LIMITS, 0.0)
    there.exempt = lambda source: source == "10.0.0.1"
    assert tried(there, "10.0.0.1", 150, 0.0) == 150
    assert there.pause(0.0, 100) > 0
    assert tried(there, "10.0.0.2", 150, 0.0) == 20


def test_an_ipv6_household_is_one_source() -> None:
    there = Door(LIMITS, 0.0)
    assert sum(tried(there, f"2001:db8::{number:x}", 1, 0.0) for number in range(1, 100)) == 20
    assert there.inside("2001:db8::ffff") == 20
    assert tried(there, "2001:db8:0:1::1", 1, 0.0) == 1
    there.left("2001:db8::1")
    assert there.inside("2001:db8::1") == 19
