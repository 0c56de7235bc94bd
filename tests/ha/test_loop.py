"""The supervisor's loop."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from ha.loop import Loop


def test_a_callback_that_breaks_is_logged_and_the_others_go_on(caplog: pytest.LogCaptureFixture):
    loop, done = Loop(), []
    loop.after(0, lambda: 1 / 0)
    loop.after(0, lambda: done.append("after"))
    with caplog.at_level(logging.ERROR):
        loop.turn(0.01)
    assert done == ["after"]
    assert "failed in the supervisor's loop, going on" in caplog.text


def test_an_alarm_that_was_cancelled_is_silent():
    loop, done = Loop(), []
    loop.after(0, lambda: done.append(1)).cancel()
    every = loop.every(0.001, lambda: (done.append(2), every.cancel()))
    ends = time.monotonic() + 0.1
    while time.monotonic() < ends:
        loop.turn(0.01)
    assert done == [2]


def test_rounds_missed_in_a_pause_are_not_made_up_for():
    loop, done = Loop(), []
    loop.every(0.01, lambda: done.append(1))
    time.sleep(0.1)
    loop.turn(0)
    assert len(done) == 1


def test_a_source_forgotten_in_the_same_round_is_not_called():
    loop, called = Loop(), []
    pairs = [socket.socketpair() for _ in range(2)]

    def first(mine: int, other: int) -> None:
        called.append(mine)
        loop.forget(pairs[other][0])

    for index, (ours, theirs) in enumerate(pairs):
        loop.watch(ours, lambda index=index: first(index, 1 - index))
        theirs.send(b"x")
    loop.turn(0.1)
    assert len(called) == 1
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_a_rewatched_source_has_its_last_action():
    loop, called = Loop(), []
    ours, theirs = socket.socketpair()
    loop.watch(ours, lambda: called.append("first"))
    loop.watch(ours, lambda: called.append("second"))
    theirs.send(b"x")
    loop.turn(0.1)
    assert called == ["second"]
    loop.forget(ours)
    loop.forget(ours)
    ours.close()
    theirs.close()
