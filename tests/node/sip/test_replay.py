from __future__ import annotations

import random

import pytest

from node.sip.replay import UNUSED, WIDTH, fresh, used


def test_a_count_is_fresh_once():
    window = used(UNUSED, 1)
    assert not fresh(window, 1)
    assert fresh(window, 2)
    assert not fresh(window, 0)
    assert not fresh(window, -1)


def test_counts_may_overtake_each_other_within_the_window():
    window = used(UNUSED, WIDTH)
    assert all(fresh(window, count) for count in range(1, WIDTH))
    assert not fresh(used(window, WIDTH + 1), 1)
    assert fresh(used(window, WIDTH + 1), 2)


def test_a_great_leap_leaves_nothing_of_the_window():
    window = used(used(UNUSED, 5), 2**31)
    assert not fresh(window, 6)
    assert fresh(window, 2**31 - WIDTH + 1)


@pytest.mark.parametrize("seed", range(50))
def test_in_whatever_order_no_count_is_taken_twice(seed):
    chance = random.Random(seed)
    window, taken = UNUSED, set()
    for _ in range(500):
        count = max(1, (max(taken, default=1)) + chance.randrange(-40, 8))
        if fresh(window, count):
            assert count not in taken
            taken.add(count)
            window = used(window, count)
        else:
            assert count in taken or count <= max(taken) - WIDTH
