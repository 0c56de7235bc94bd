"""Forking: what a child inherits, how its end is seen, how often it is started again."""

from __future__ import annotations

import gc
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from ha.process import Backoff, Process, fork
from node.link import Beaten, Link, LinkClosed
from tests.support.node import ROOT


def wait(process: Process, within: float = 10.0) -> None:
    ends = time.monotonic() + within
    while not process.reap():
        assert time.monotonic() < ends, "the child does not end"
        time.sleep(0.005)


def run(main: Callable[[Link], None]) -> Process:
    process = fork("worker", main, time.monotonic(), guard=False)
    wait(process)
    return process


def test_a_child_has_its_link_and_none_of_its_parents_sockets():
    parents = socket.socket()
    sibling, _other = Link.pair()

    def main(link: Link) -> None:
        kept = [each.fileno() for each in (parents, sibling) if open_(each.fileno())]
        link.send(Beaten(len(kept)))

    process = run(main)
    assert process.link.receive() == (Beaten(0), [])
    parents.close()


def test_what_its_parent_forgot_is_not_closed_in_a_child():
    """Garbage of the parent still names descriptors; in the child those numbers belong to something else by now."""

    class Forgotten:
        def __init__(self) -> None:
            self.sockets = socket.socketpair()
            self.itself = self

    def main(link: Link) -> None:
        pairs = [socket.socketpair() for _ in range(10)]
        gc.collect()
        link.send(Beaten(sum(open_(each.fileno()) for pair in pairs for each in pair)))

    gc.disable()
    try:
        for _ in range(5):
            Forgotten()
        process = run(main)
    finally:
        gc.enable()
    assert process.link.receive() == (Beaten(20), [])


def test_how_long_a_child_waited_for_a_processor_is_known():
    """Two that compute on one processor: each waits about half of the time; one that sleeps, not at all."""
    (first, *_) = os.sched_getaffinity(0)

    def compute(link: Link) -> None:
        os.sched_setaffinity(0, {first})
        while True:
            pass

    both = [fork("worker", compute, time.monotonic()) for _ in range(2)]
    idle = fork("worker", lambda link: time.sleep(60), time.monotonic())
    try:
        ends = time.monotonic() + 20
        while min(each.waited() for each in both) < 0.1 and time.monotonic() < ends:
            time.sleep(0.02)
        assert min(each.waited() for each in both) >= 0.1
        assert idle.waited() < 1.0
    finally:
        for each in (*both, idle):
            each.kill()
            wait(each)
    assert both[0].waited() == 0.0


CLOGGED = """
import os, select, sys, threading, time
from ha.process import fork
thread = threading.Thread(target=lambda: (sys.stderr.write("x" * 300_000 + chr(10)), sys.stderr.flush()), daemon=True)
thread.start()
while select.select([], [2], [], 0)[1]:
    time.sleep(0)
began = time.monotonic()
process = fork("worker", lambda link: print("the child speaks", flush=True), began, guard=False)
took = time.monotonic() - began
while not process.reap():
    time.sleep(0.01)
print(f"forked in {took:.3f} s, {process.fate}", flush=True)
os._exit(0)
"""


def test_a_log_that_nobody_reads_does_not_hold_up_a_fork():
    """A thread of the supervisor writes to a clogged stderr; children come and go all the same."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    words, pipe = [sys.executable, "-c", CLOGGED], subprocess.PIPE
    clogged = subprocess.Popen(words, cwd=ROOT, env=buffered, stdout=pipe, stderr=pipe, text=True)
    try:
        assert clogged.stdout is not None
        said = [clogged.stdout.readline() for _ in range(2)]
        assert said[0] == "the child speaks\n"
        assert re.fullmatch(r"forked in \d\.\d+ s, exited with status 0\n", said[1])
    finally:
        clogged.kill()
        clogged.communicate()


def open_(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_the_end_of_a_child_is_the_end_of_its_link():
    process = run(lambda link: None)
    with pytest.raises(LinkClosed):
        process.link.receive()
    assert process.fate == "exited with status 0"


@pytest.mark.parametrize(
    ("main", "fate"),
    [
        (lambda link: os._exit(3), "exited with status 3"),
        (lambda link: os.kill(os.getpid(), signal.SIGKILL), "was killed by SIGKILL"),
        (lambda link: 1 / 0, "exited with status 70"),
    ],
)
def test_its_fate_is_told(main: Callable[[Link], None], fate: str):
    assert run(main).fate == fate


def test_a_child_minds_its_parents_terminal_not():
    def main(link: Link) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGHUP)

    assert run(main).fate == "exited with status 0"


def test_a_guarded_child_dies_with_its_parent():
    ours, theirs = Link.pair()

    def parent(link: Link) -> None:
        child = fork("worker", lambda _link: signal.pause(), time.monotonic())
        link.send(Beaten(child.pid))

    process = run(parent)
    received = process.link.receive()
    assert received is not None
    message = received[0]
    assert isinstance(message, Beaten)
    ends = time.monotonic() + 5
    while os.path.exists(f"/proc/{message.number}") and time.monotonic() < ends:
        time.sleep(0.005)
    state = "gone"
    if os.path.exists(f"/proc/{message.number}/stat"):
        with open(f"/proc/{message.number}/stat") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
    assert state in ("gone", "Z")
    ours.close()
    theirs.close()


def test_killing_twice_is_no_error():
    process = fork("worker", lambda _link: signal.pause(), time.monotonic(), guard=False)
    process.kill()
    wait(process)
    process.kill()
    assert process.fate == "was killed by SIGKILL"


def test_a_child_that_keeps_dying_is_started_ever_more_rarely():
    backoff = Backoff()
    waits = [backoff.ended(lived=0.1, now=0.0) for _ in range(10)]
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert backoff.ended(lived=60.0, now=0.0) == 0.0
