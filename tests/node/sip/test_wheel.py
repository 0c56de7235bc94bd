from __future__ import annotations

from random import Random

from node.sip.wheel import Alarm, Wheel


def drain(wheel: Wheel[str], now: float) -> list[str]:
    items = []
    while (item := wheel.due(now)) is not None:
        items.append(item)
    return items


def test_alarms_go_off_in_the_order_of_their_times():
    wheel: Wheel[str] = Wheel()
    wheel.set(4.0, "late", 0.0)
    wheel.set(0.5, "early", 0.1)
    wheel.set(4.0, "later", 0.2)
    wheel.set(0.5, "soon", 3.0)
    assert wheel.next_wake() == 0.6
    assert drain(wheel, 0.59) == []
    assert drain(wheel, 4.0) == ["early", "soon", "late"]
    assert wheel.next_wake() == 4.2
    assert drain(wheel, 10.0) == ["later"]
    assert wheel.next_wake() is None


def test_a_cancelled_alarm_does_not_go_off_and_does_not_wake():
    wheel: Wheel[str] = Wheel()
    first = wheel.set(0.5, "first", 0.0)
    wheel.set(1.0, "second", 0.0)
    wheel.cancel(first)
    assert wheel.next_wake() == 1.0
    assert len(wheel) == 1
    assert drain(wheel, 5.0) == ["second"]
    assert len(wheel) == 0


def test_what_is_set_while_others_go_off_is_seen():
    wheel: Wheel[str] = Wheel()
    wheel.set(1.0, "a", 0.0)
    assert wheel.due(1.0) == "a"
    wheel.set(0.5, "b", 1.0)
    assert wheel.next_wake() == 1.5


def test_a_thousand_random_alarms_behave_like_a_sorted_list():
    random = Random(7)
    wheel: Wheel[int] = Wheel()
    expected: dict[int, tuple[float, Alarm[int]]] = {}
    gone: list[int] = []
    now = 0.0
    for number in range(3000):
        now += random.uniform(0, 0.05)
        delay = random.choice([0.2, 0.5, 1.0, 2.0, 4.0, 5.0, 32.0, random.uniform(0, 40)])
        alarm = wheel.set(delay, number, now)
        expected[number] = (alarm.at, alarm)
        if random.random() < 0.6:
            victim = random.choice(list(expected))
            wheel.cancel(expected.pop(victim)[1])
        assert wheel.next_wake() == min((at for at, _ in expected.values()), default=None)
        due = sorted((at, n) for n, (at, _) in expected.items() if at <= now)
        for _, n in due:
            del expected[n]
        while (item := wheel.due(now)) is not None:
            gone.append(item)
        assert sorted(gone[len(gone) - len(due) :] if due else []) == sorted(n for _, n in due)
    assert len(wheel) == len(expected)
