"""Who is served when not all can be, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from node.sip.admission import TABLE, Backlog, Expected, Pace, PenaltyBox, Sources, Table, Told, source_of
from node.sip.glance import Standing
from tests.support.crowd import Crowd

FRESH, CHALLENGED = Standing.FRESH, Standing.CHALLENGED


def taken(pace: Pace, count: int, now: float, stretch: float = 1.0) -> int:
    return sum(pace.take(now, stretch) for _ in range(count))


def taken_by(sources: Sources, source: str, count: int) -> int:
    return sum(sources.take(source, 1.0) for _ in range(count))


def test_a_pace_lets_a_burst_pass_and_then_its_rate() -> None:
    pace = Pace(128, 1.0)
    assert taken(pace, 500, 10.0) == 128
    assert taken(pace, 500, 10.5) == 64
    assert taken(pace, 500, 99.0) == 128


def test_what_is_urgent_may_take_as_much_again() -> None:
    pace = Pace(128, 1.0)
    assert taken(pace, 500, 10.0) == 128
    assert taken(pace, 500, 10.0, stretch=2.0) == 128
    assert taken(pace, 500, 10.0, stretch=2.0) == 0


def test_no_rate_is_no_limit() -> None:
    assert taken(Pace(0), 5000, 1.0) == 5000
    assert taken_by(Sources(0), "a", 5000) == 5000


def test_each_source_has_its_own() -> None:
    sources = Sources(10, 1.0)
    assert taken_by(sources, "a", 50) == 10
    assert taken_by(sources, "b", 5) == 5


def test_a_flood_from_forged_addresses_does_not_fill_the_memory() -> None:
    sources = Sources(10, 1.0, half=100)
    for number in range(10_000):
        sources.take(f"198.51.{number // 256}.{number % 256}", 1.0)
    assert len(sources) <= 200


def test_who_has_taken_all_he_may_gets_no_more_because_others_have_come() -> None:
    """What is known of him goes over into the newer half with him."""
    sources = Sources(10, 1.0, half=2)
    assert taken_by(sources, "a", 50) == 10
    assert taken_by(sources, "b", 1) == taken_by(sources, "c", 1) == 1
    assert taken_by(sources, "a", 50) == 0


def test_what_comes_without_asking_is_charged_up_to_twice_the_burst() -> None:
    sources = Sources(10, 1.0)
    for _ in range(500):
        sources.charge("a", 1.0)
    assert sources.spent("a", 1.0)
    assert not sources.spent("b", 1.0)
    assert not sources.spent("a", 1.2)
    assert sources.take("a", 3.01)


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("nonsense:", "nonsense:"),
    ],
)
def test_an_ipv6_household_is_one_source(host: str, source: str) -> None:
    assert source_of(host) == source


def test_who_guesses_too_long_is_put_into_the_box_once_and_comes_out_again() -> None:
    box = PenaltyBox(5, 60.0, 30.0)
    assert [box.fail("a", 1.0) for _ in range(7)] == [False] * 5 + [True, False]
    assert box.holds("a", 30.9)
    assert not box.holds("a", 31.1)
    assert not box.holds("b", 1.0)


def test_a_phone_with_a_wrong_password_that_asks_each_half_minute_stays_out_of_the_box() -> None:
    box = PenaltyBox(5, 60.0, 30.0)
    assert not any(box.fail("a", 30.0 * number) for number in range(100))


def test_a_copy_that_crossed_its_answer_gets_no_other_one() -> None:
    told = Told()
    assert told.known(b"a", arrived=1.0) == "new"
    told.note(b"a", 2.0, refused=True)
    told.note(b"b", 2.0, refused=False)
    assert told.known(b"a", arrived=1.5) == "crossed"
    assert told.known(b"b", arrived=2.05) == "crossed"


def test_whose_answer_was_lost_is_refused_again_or_challenged_again() -> None:
    told = Told()
    told.note(b"a", 2.0, refused=True)
    told.note(b"b", 2.0, refused=False)
    assert told.known(b"a", arrived=2.5) == "refused"
    assert told.known(b"b", arrived=2.5) == "new"


def test_what_was_told_is_bounded() -> None:
    told = Told(half=10)
    for number in range(1000):
        told.note(b"%d" % number, 1.0, refused=True)
    assert len(told) <= 20


def test_a_table_knows_the_last_ones() -> None:
    table: Table[int, str] = Table(10)
    for number in range(100):
        table.put(number, str(number))
    assert len(table) <= 20
    assert [table.get(number, "") for number in range(90, 100)] == [str(number) for number in range(90, 100)]
    table.drop(99)
    assert table.get(99, "gone") == "gone"


# ---- the backlog ---------------------------------------------------------------------------------------------------


def test_whose_challenge_is_paid_for_goes_first() -> None:
    backlog: Backlog[str] = Backlog()
    for item, standing in (("new", FRESH), ("half", CHALLENGED), ("newer", FRESH)):
        assert backlog.put(item, standing, 1.0)
    assert [backlog.next(1.0), backlog.next(1.0), backlog.next(1.0), backlog.next(1.0)] == [
        "half",
        "new",
        "newer",
        None,
    ]


def test_nobody_new_waits_until_he_would_ask_again() -> None:
    backlog: Backlog[str] = Backlog()
    backlog.put("new", FRESH, 1.0)
    backlog.put("half", CHALLENGED, 1.0)
    assert backlog.overdue(1.3) == []
    assert backlog.overdue(1.4) == ["new"]
    assert backlog.overdue(4.9) == []
    assert backlog.overdue(5.1) == ["half"]
    assert len(backlog) == 0
    assert Backlog.PATIENCE[FRESH] < 0.5


def offer(
    backlog: Backlog[tuple[float, int]], rate: float, served: float, begin: float, seconds: float
) -> tuple[int, int, list[float]]:
    """Offer so many a second, serve so many a second; how many were served, refused, and how long the served ones waited."""
    done, refused, waits, credit = 0, 0, [], 0.0
    for step in range(int(seconds * 1000)):
        now = begin + step / 1000
        for number in range(int((step + 1) * rate / 1000) - int(step * rate / 1000)):
            refused += not backlog.put((now, number), FRESH, now)
        refused += len(backlog.overdue(now))
        credit = min(credit + served / 1000, 10.0)
        while credit >= 1 and (item := backlog.next(now)) is not None:
            credit -= 1
            done += 1
            waits.append(now - item[0])
    return done, refused, waits


def test_below_the_rate_that_can_be_served_nobody_is_refused() -> None:
    done, refused, waits = offer(Backlog(), 900, 1000, 1.0, 5.0)
    assert refused == 0
    assert done >= 4490
    assert max(waits) < 0.01


@pytest.mark.parametrize("times", [1.5, 3, 10])
def test_above_it_all_time_is_used_and_the_wait_stays_short(times: float) -> None:
    done, refused, waits = offer(Backlog(), 1000 * times, 1000, 1.0, 5.0)
    assert done >= 4900
    assert done + refused >= 5000 * times - 400
    assert sorted(waits[1000:])[-50] < 0.36
    assert sum(waits[2000:]) / len(waits[2000:]) < 0.15


@pytest.mark.parametrize("lag", [0.0, 0.3, 1.0, 2.0])
def test_no_more_are_challenged_than_can_be_served_when_they_come_again(lag: float) -> None:
    """A challenge takes a tenth of what the rest takes: all time could go into challenges, and what follows be refused."""
    backlog: Backlog[tuple[float, int, bool]] = Backlog()
    coming: list[tuple[float, int]] = []
    done = credit = 0.0
    for step in range(20_000):
        now = 1.0 + step / 1000
        for number in range(12):
            backlog.put((now, step * 12 + number, False), FRESH, now, step * 12 + number)
        while coming and coming[0][0] <= now:
            at, who = coming.pop(0)
            backlog.put((at, who, True), CHALLENGED, now, who)
        backlog.overdue(now)
        credit = min(credit + 1.0, 5.0)
        while credit > 0 and (item := backlog.next(now)) is not None:
            credit -= 1.0 if item[2] else 0.1
            if item[2]:
                done += step >= 5000
            else:
                coming.append((now + lag, item[1]))
                backlog.challenged(item[1], now)
    assert done / 15 > 1000 / 1.1 * 0.9


def test_after_the_load_it_is_itself_at_once() -> None:
    backlog: Backlog[tuple[float, int]] = Backlog()
    offer(backlog, 5000, 1000, 1.0, 3.0)
    offer(backlog, 0, 1000, 4.0, 0.3)
    done, refused, waits = offer(backlog, 900, 1000, 4.3, 2.0)
    assert refused == 0
    assert max(waits) < 0.01
    assert done >= 1790


def test_a_burst_that_can_be_served_in_time_is_served() -> None:
    backlog: Backlog[tuple[float, int]] = Backlog()
    assert sum(backlog.put((1.0, number), FRESH, 1.0) for number in range(1000)) == 1000
    done, refused, _waits = offer(backlog, 0, 4000, 1.0, 0.3)
    assert (done, refused) == (1000, 0)


def test_what_is_repeated_waits_once() -> None:
    backlog: Backlog[str] = Backlog()
    assert [backlog.put("again", standing, 1.0) for standing in (FRESH, FRESH, CHALLENGED)] == [True] * 3
    assert len(backlog) == 1
    assert (backlog.next(1.0), backlog.next(1.0)) == ("again", None)
    assert backlog.put("again", FRESH, 1.1)
    assert backlog.overdue(2.0) == ["again"]
    assert backlog.put("again", FRESH, 2.1)
    backlog.clear()
    assert backlog.put("again", FRESH, 2.2)
    assert len(backlog) == 1


def test_a_queue_that_was_emptied_by_refusing_has_no_room_for_a_burst() -> None:
    backlog: Backlog[int] = Backlog()
    assert sum(backlog.put(number, FRESH, 1.0) for number in range(1000)) == 1000
    assert backlog.next(1.0) == 0
    for step in range(12):
        backlog.next(1.0 + step / 10)
    assert len(backlog.overdue(2.2)) == 987
    assert sum(backlog.put(number, FRESH, 2.2) for number in range(2000, 3000)) < 100


def test_what_waits_is_bounded() -> None:
    backlog: Backlog[int] = Backlog(100)
    assert sum(backlog.put(number, FRESH, 1.0) for number in range(1000)) == 100
    assert sum(backlog.put(number, CHALLENGED, 1.0) for number in range(1000, 2000)) == 100
    backlog.clear()
    assert len(backlog) == 0


def test_those_who_are_expected_are_bounded() -> None:
    expected = Expected()
    for number in range(100_000):
        expected.add(number, 1.0)
        if not number % 1000:
            expected.look(1.0)
    assert len(expected) <= TABLE + 1000
    expected.look(1.1)
    assert len(expected) <= TABLE
    expected.look(9.0)
    assert len(expected) == 0


def test_how_long_it_takes_who_is_challenged_is_learnt_even_when_he_is_not_expected_any_more() -> None:
    expected = Expected()
    for number in range(100):
        now = 1 + number / 10
        expected.add(number, now)
        if number >= 20:
            assert expected.come(number - 20, now)
        expected.look(now)
    assert expected.lag == pytest.approx(2.0)
    assert 18 <= len(expected) <= 20
    assert not expected.come("a stranger", 11.0)


# ---- the backlog in a server whose capacity is known ---------------------------------------------------------------

LOAD = 6.0
"Seconds."


def overloaded(times: float, capacity: float, **more: Any) -> Crowd:
    """So many times what can be carried, and then a third of it for some seconds."""
    crowd = Crowd(lambda _at: capacity, lambda at: capacity * (times if at < LOAD else 0.3), **more)
    crowd.run(LOAD + 4.0)
    return crowd


@pytest.mark.parametrize(("capacity", "lag"), [(150, 0.005), (800, 0.1)])
@pytest.mark.parametrize("times", [1.0, 1.5, 2, 3, 5, 10])
def test_what_can_be_carried_is_carried_whatever_comes_by_udp(times: float, capacity: float, lag: float) -> None:
    crowd = overloaded(times, capacity, lag=lag)
    assert all(crowd.rate(second, second + 1) >= 0.85 * capacity for second in (3, 4, 5))
    assert crowd.most_waiting < 5000
    after = [crowd.rate(LOAD + second, LOAD + second + 1) / capacity for second in range(4)]
    if times <= 3:
        assert after[3] == pytest.approx(0.3, abs=0.03), "whoever repeats himself is served by now"
    else:
        assert min(after) > 0.28, "many repeat themselves still, and all that are served now as well"


@pytest.mark.parametrize("capacity", [150, 800])
@pytest.mark.parametrize("times", [1.0, 1.5, 2, 3, 5, 10])
def test_what_can_be_carried_is_carried_whatever_comes_by_one_stream(times: float, capacity: float) -> None:
    """A stream has to be read, and who comes back stands behind those who are new: all that cannot be served is refused."""
    crowd = overloaded(times, capacity, streams=True)
    refusal = crowd.costs.refusal
    left = min(1.0, (1 - times * refusal) / (1 - refusal))
    assert crowd.rate(3, LOAD) >= min(0.85, 0.93 * left) * capacity
    after = crowd.rate(LOAD + 3, LOAD + 4) / capacity
    assert after > 0.28
    if times <= 5:
        assert after == pytest.approx(0.3, abs=0.03), "what was left in the stream is done by now"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("change", [0.5, 2.0])
def test_a_machine_that_becomes_slower_or_faster_is_used_all_the_same(change: float, streams: bool) -> None:
    crowd = Crowd(lambda at: 600 * (change if at >= 3 else 1.0), lambda at: 1500 if at < 9 else 0, streams=streams)
    crowd.run(10.0)
    assert crowd.rate(2, 3) >= 0.85 * 600
    assert crowd.rate(6, 9) >= (0.75 if change < 1 and streams else 0.85) * min(600 * change, 1500)


@pytest.mark.parametrize(("lag", "settled"), [(0.3, 3), (0.6, 4), (1.0, 5), (2.0, 9)])
@pytest.mark.parametrize("times", [1.5, 3])
def test_phones_that_are_slow_to_come_back_are_waited_for_while_others_are_served(
    times: float, lag: float, settled: int
) -> None:
    crowd = Crowd(lambda _at: 600, lambda _at: 600 * times, lag=lag)
    crowd.run(settled + 6.0)
    assert crowd.rate(settled, settled + 6) >= 0.85 * 600


@pytest.mark.parametrize("lost", [0.5, 0.9])
def test_those_who_never_come_back_take_no_more_than_their_challenge(lost: float) -> None:
    crowd = Crowd(lambda _at: 600, lambda _at: 3000, lost=lost)
    crowd.run(6.0)
    costs = crowd.costs
    each = costs.challenge + (1 - lost) * costs.finish
    assert crowd.rate(3, 6) >= 0.85 * 600 * (1 - lost) / each


def test_challenges_are_not_more_than_can_be_finished_though_nobody_is_known_again() -> None:
    """Where Call-IDs change, who comes back cannot be told from who was never challenged."""
    crowd = Crowd(lambda _at: 600, lambda _at: 1800, strangers=True)
    crowd.run(8.0)
    assert crowd.rate(3, 8) >= 0.8 * 600
