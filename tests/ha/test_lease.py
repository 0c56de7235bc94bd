"""The lease keeper as a real process, with a real SQLite store."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from ha.lease import Acquire, CallSlots, LeaseKeeper, Question, RaiseFence, Read, Release, Renew, Reply, Secret, keep
from ha.loop import Loop
from ha.process import Process, fork
from node.link import Link
from store.backends import open_store
from store.interface import opened
from store.records import Lease
from tests.support.node import STRETCH
from tests.support.postgres import postgres
from tests.support.tcpproxy import TcpProxy


class Desk:
    """A loop, a keeper, and what it answered."""

    def __init__(self, directory: Path, stuck: float = 30.0, loading: float = 0.0) -> None:
        self.loop = Loop()
        self.loading = loading
        self.dsn = f"sqlite://{directory / 'store.db'}"
        self.marker = directory / "last"
        self.forks = 0
        self.keeper = LeaseKeeper(self.loop, self._fork, stuck)
        self.keeper.start()

    def _fork(self) -> Process:
        self.forks += 1
        dsn, marker, loading = self.dsn, self.marker, self.loading

        def main(link: Link) -> None:
            time.sleep(loading)
            keep(link, dsn, marker.parent, marker.touch)

        return fork("lease", main, self.loop.now(), guard=False)

    def reopen(self, dsn: str) -> None:
        """Another keeper, for another store."""
        self.close()
        self.dsn = dsn
        self.keeper = LeaseKeeper(self.loop, self._fork, 30.0)
        self.keeper.start()

    def ask(self, question: Question, within: float = 10.0) -> Reply:
        replies: list[Reply] = []
        self.keeper.ask(question, replies.append)
        self.until(lambda: bool(replies), within)
        return replies[0]

    def until(self, holds, within: float = 10.0) -> None:
        ends = time.monotonic() + within * STRETCH
        while not holds():
            assert time.monotonic() < ends, "it never came"
            self.loop.turn(0.02)

    def close(self) -> None:
        process = self.keeper.process
        self.keeper.close()
        if process is not None:
            ends = time.monotonic() + 5
            while not process.reap() and time.monotonic() < ends:
                time.sleep(0.005)
            process.kill()


@pytest.fixture
def desk(tmp_path: Path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_a_lease_is_acquired_renewed_shown_and_given_back(desk: Desk):
    lease = desk.ask(Acquire("alpha", 30.0)).lease
    assert lease is not None
    assert lease.holder == "alpha"
    assert lease.until - lease.now == pytest.approx(30.0, abs=0.05)
    assert desk.ask(Acquire("beta", 30.0)).lease is None
    renewed = desk.ask(Renew(lease, 30.0))
    assert renewed.lease is not None
    assert renewed.lease.until >= lease.until
    assert renewed.lease.epoch == lease.epoch
    shown = desk.ask(Read()).lease
    assert shown is not None
    assert shown.holder == "alpha"
    assert not desk.ask(Release(renewed.lease)).error
    taken = desk.ask(Acquire("beta", 30.0)).lease
    assert taken is not None
    assert taken.epoch > lease.epoch


def test_where_no_process_can_be_had_it_is_tried_until_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Memory or processes ran out for a moment: a node without its keeper would never have the lease again."""
    fails, real = iter([True, True, True]), os.fork

    def no_fork() -> int:
        if next(fails, False):
            raise OSError(12, "Cannot allocate memory")
        return real()

    monkeypatch.setattr(os, "fork", no_fork)
    desk = Desk(tmp_path)
    assert desk.ask(Read()).error == "the lease keeper is being started again"
    desk.until(lambda: desk.keeper.process is not None)
    assert desk.ask(Read()).error == ""
    assert desk.forks == 4
    desk.close()


def test_a_lease_that_another_took_is_reported_as_lost(desk: Desk):
    lease = desk.ask(Acquire("alpha", 0.05)).lease
    assert lease is not None
    desk.until(lambda: desk.ask(Acquire("beta", 5.0)).lease is not None)
    reply = desk.ask(Renew(lease, 0.7))
    assert reply.lost
    assert reply.lease is None


def test_the_answer_says_when_the_call_began(desk: Desk):
    before = time.monotonic()
    reply = desk.ask(Read())
    assert before <= reply.began <= time.monotonic()


def test_no_fence_is_raised_for_who_has_lost_the_lease(desk: Desk):
    lease = desk.ask(Acquire("alpha", 0.2)).lease
    assert lease is not None
    assert desk.ask(RaiseFence("internal#0")).epoch > lease.epoch
    with opened(open_store(desk.dsn)) as store:
        theirs = None
        while theirs is None:
            theirs = store.acquire_lease("beta", 60.0)
    reply = desk.ask(RaiseFence("internal#0"))
    assert reply.lost
    assert reply.epoch == 0


def test_a_store_that_was_away_is_asked_again(desk: Desk):
    server = postgres()
    with server.fresh() as name, TcpProxy(("127.0.0.1", server.port)) as proxy:
        desk.reopen(server.dsn(name, port=proxy.port))
        granted: list[Lease] = []

        def acquired() -> bool:
            # On a busy machine the store may have been away before it was cut off: connecting has a deadline.
            granted.extend(filter(None, [desk.ask(Acquire("alpha", 60.0)).lease]))
            return bool(granted)

        desk.until(acquired)
        lease = granted[-1]
        proxy.cut()
        assert desk.ask(Renew(lease, 60.0)).error
        assert desk.ask(Read()).error
        proxy.restore()
        desk.until(lambda: desk.ask(Renew(lease, 60.0)).lease is not None)


def test_fences_slots_and_secrets_come_through(desk: Desk):
    first, second = desk.ask(RaiseFence("internal#0")), desk.ask(RaiseFence("internal#0"))
    assert second.epoch > first.epoch, (first.error, second.error)
    assert desk.ask(CallSlots()).slots == {}
    secret = desk.ask(Secret("peer")).secret
    assert len(secret) == 32
    assert desk.ask(Secret("peer")).secret == secret


def test_a_store_that_cannot_be_opened_is_an_answer_and_is_tried_again(tmp_path: Path):
    (tmp_path / "store.db").mkdir()
    desk = Desk(tmp_path)
    try:
        assert desk.ask(Read()).error
        (tmp_path / "store.db").rmdir()
        assert not desk.ask(Read()).error
        assert desk.forks == 1
    finally:
        desk.close()


def test_a_locked_store_is_an_answer_in_time(tmp_path: Path):
    desk = Desk(tmp_path, stuck=5.0)
    try:
        desk.ask(Acquire("alpha", 0.7))
        with sqlite3.connect(tmp_path / "store.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            assert desk.ask(Acquire("alpha", 0.7)).error
            assert time.monotonic() - began < 8.0
    finally:
        desk.close()


def test_a_keeper_that_is_stuck_is_killed_and_another_one_answers(tmp_path: Path):
    desk = Desk(tmp_path, stuck=1.5)
    try:
        desk.ask(Read())
        process = desk.keeper.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        reply = desk.ask(Read())
        assert reply.error.startswith("the store has not answered for 1.")
        desk.until(lambda: desk.keeper.process not in (None, process))
        assert not desk.ask(Read()).error
        assert desk.forks == 2
        desk.until(process.reap)
    finally:
        desk.close()


def test_a_keeper_that_loads_slowly_is_waited_for(tmp_path: Path):
    """A starved machine: a store's driver may take seconds to import, and another keeper's would take as long."""
    desk = Desk(tmp_path, stuck=0.3, loading=1.0)
    try:
        assert desk.ask(Read()).error == ""
        assert desk.forks == 1
    finally:
        desk.close()


def test_a_keeper_is_not_blamed_for_what_stood_still_with_it(tmp_path: Path):
    desk = Desk(tmp_path, stuck=0.5)
    try:
        desk.ask(Read())
        process = desk.keeper.process
        assert process is not None
        os.kill(process.pid, signal.SIGSTOP)
        replies: list[Reply] = []
        desk.keeper.ask(Read(), replies.append)
        time.sleep(1.2)
        desk.loop.turn(0.0)
        os.kill(process.pid, signal.SIGCONT)
        desk.until(lambda: bool(replies))
        assert replies[0].error == ""
        assert desk.forks == 1
    finally:
        desk.close()


def test_a_question_to_a_dead_keeper_gets_an_answer_too(desk: Desk):
    assert desk.keeper.process is not None
    os.kill(desk.keeper.process.pid, signal.SIGKILL)
    assert desk.ask(Read()).error


def test_an_orphaned_keeper_does_its_last_thing_and_leaves(desk: Desk):
    desk.ask(Read())
    process = desk.keeper.process
    assert process is not None
    desk.close()
    assert desk.marker.exists()
    assert process.status == 0
