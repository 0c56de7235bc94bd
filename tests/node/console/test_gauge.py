"""Peaks and rates of sessions."""

from __future__ import annotations

from node.console.gauge import Gauge


def test_the_peak_stays_and_that_of_five_minutes_goes():
    gauge = Gauge()
    for second, sessions in ((0, 2), (5, 10), (10, 3), (200, 4), (306, 1)):
        gauge.read(float(second), sessions, 0)
    assert (gauge.sessions, gauge.peak, gauge.five_minute_peak) == (1, 10, 4)


def test_the_rate_is_what_came_since_the_last_reading():
    gauge = Gauge()
    gauge.read(0.0, 0, 0)
    gauge.read(5.0, 0, 50)
    gauge.read(10.0, 0, 60)
    assert (gauge.rate, gauge.peak_rate, gauge.since_startup) == (2, 10, 60)


def test_a_worker_that_begins_anew_takes_nothing_back():
    gauge = Gauge()
    gauge.read(0.0, 0, 50)
    gauge.read(5.0, 0, 10)
    assert (gauge.since_startup, gauge.rate) == (50, 0)
