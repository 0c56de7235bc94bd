"""Our own time stands still while others have the processor."""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection

from node.transport.stolen import Stolen


def crowd(core: int, until: float) -> None:
    """Want this core too."""
    os.sched_setaffinity(0, {core})
    while time.monotonic() < until:
        pass


def watch(answer: Connection, until: float, core: int) -> None:
    """Be busy on this core, and tell how long that took by both clocks and by the processor's own."""
    os.sched_setaffinity(0, {core})
    stolen = Stolen()
    began, before, used = time.monotonic(), stolen(), time.thread_time()
    while time.monotonic() < until:
        pass
    answer.send((time.monotonic() - began, stolen() - before, time.thread_time() - used))
    stolen.close()
    assert stolen() == 0.0


def test_the_time_in_which_others_run_is_counted() -> None:
    core = sorted(os.sched_getaffinity(0))[0]
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    until = time.monotonic() + 1.0
    busy = [context.Process(target=crowd, args=(core, until)) for _ in range(2)]
    watcher = context.Process(target=watch, args=(there, until, core))
    for process in (*busy, watcher):
        process.start()
    assert here.poll(30), "the watcher has not told"
    wall, stolen, used = here.recv()
    for process in (*busy, watcher):
        process.join()
    assert stolen > wall / 5, "two others wanted the same core"
    assert abs(wall - stolen - used) < 0.3 * wall


def test_who_waits_for_something_else_is_not_robbed() -> None:
    stolen = Stolen()
    began, before = time.monotonic(), stolen()
    here, _there = multiprocessing.get_context("fork").Pipe()
    here.poll(0.2)
    assert stolen() - before < (time.monotonic() - began) / 2
    stolen.close()
