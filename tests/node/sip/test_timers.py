from __future__ import annotations

from itertools import accumulate

from node.sip.timers import Timers, TwoHundredRepeater


def test_a_2xx_is_repeated_like_timer_g_and_given_up_after_32_seconds():
    repeater = TwoHundredRepeater(Timers())
    delays = []
    while (delay := repeater.next_delay()) is not None:
        delays.append(delay)
    assert list(accumulate(delays)) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 32.0]
    assert repeater.exhausted


def test_other_times_scale():
    assert Timers(t1=0.25).give_up_after == 16
    assert TwoHundredRepeater(Timers(t1=0.25, t2=0.5)).next_delay() == 0.25
