from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from store.backends import open_store
from store.errors import Refused, StoreError, Unavailable
from store.interface import Outcome, Put, Remove, Store, Write, opened
from store.journal import Journal
from store.memory import Book, MemoryStore, memory_store
from store.records import CallRecord, Registration
from store.settings import BreakerSettings, SqliteSettings, WriterSettings
from store.writer import Writer
from tests.store.faults import LIMIT, Faults, Loop
from tests.store.samples import call, registration

STORED, STALE, FENCED, AT_RISK = Outcome.STORED, Outcome.STALE, Outcome.FENCED, Outcome.AT_RISK
SETTINGS: dict[str, Any] = {
    "deadline": 0.1,
    "hang": 0.3,
    "breaker": BreakerSettings(first_pause=0.02, longest_pause=0.05),
}
names = (f"writer-{n}" for n in itertools.count())


class Stage:
    """A writer on a store that can be taken away, and what it has told."""

    def __init__(self, journal: Path) -> None:
        self.factory = memory_store(next(names))
        self.faults = Faults(self.factory)
        self.loop = Loop()
        self.journal = journal
        self.told: list[tuple[str, Outcome]] = []
        self.fenced: list[tuple[str, int]] = []
        self.writers: list[Writer] = []
        self.writer = self.start()

    def start(self, factory: Callable[[], Store] | None = None, **settings: Any) -> Writer:
        writer = Writer(
            factory or self.faults.factory,
            WriterSettings(**(SETTINGS | settings)),
            call_soon=self.loop.call_soon,
            call_later=self.loop.call_later,
            journal=Journal(self.journal),
        )
        writer.on_fenced = lambda slot, epoch: self.fenced.append((slot, epoch))
        writer.start()
        self.writer = writer
        self.writers.append(writer)
        return writer

    def restart(self, **settings: Any) -> None:
        self.writer.close(LIMIT)
        self.start(**settings)

    def put(self, record: Registration | CallRecord) -> None:
        self.writer.put(record, lambda outcome, key=record.key: self.told.append((key, outcome)))

    def settle(self, count: int = 1) -> list[Outcome]:
        """Wait until so many have been told; what."""
        self.loop.run(lambda: len(self.told) >= count)
        return [outcome for _, outcome in self.told]

    def frozen(self) -> None:
        """Freeze the store and wait until the writer has run into it."""
        self.faults.freeze()
        self.writer.put(registration("ice"))
        assert self.faults.frozen.acquire(timeout=LIMIT)

    def stored(self) -> list[str]:
        with opened(self.factory) as store:
            return sorted([r.sip_user for r in store.registrations()] + [c.uuid for c in store.calls()])

    def until_stored(self, *keys: str) -> None:
        self.loop.run(lambda: self.stored() == sorted(keys))

    def ask(self, question: Callable[[Store], Any], **kwargs: Any) -> Any:
        answers: list[Any] = []
        self.writer.ask(question, answers.append, **kwargs)
        self.loop.run(lambda: answers)
        return answers[0]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "journal" / "internal.0")
    yield stage
    stage.faults.mend()
    for writer in stage.writers:
        writer.close(LIMIT)


# ---- collecting ----------------------------------------------------------------------------------------------------


def test_who_waits_hears_that_it_is_stored(stage: Stage) -> None:
    stage.put(registration())
    stage.put(call())
    assert stage.settle(2) == [STORED, STORED]
    assert stage.stored() == ["1000", "call-1"]


def test_it_is_called_back_in_the_loop_only(stage: Stage) -> None:
    threads: list[threading.Thread] = []
    stage.writer.put(registration(), lambda _: threads.append(threading.current_thread()))
    stage.loop.run(lambda: threads)
    assert threads == [threading.main_thread()]


def test_what_comes_during_a_commit_is_committed_together(stage: Stage) -> None:
    stage.frozen()
    for n in range(30):
        stage.put(registration(str(n)))
    stage.faults.thaw()
    stage.settle(30)
    assert [len(writes) for writes in stage.faults.commits] == [1, 30]


def test_the_first_write_after_a_rest_does_not_wait_for_the_window(stage: Stage) -> None:
    stage.restart(window=5.0, deadline=9.0, hang=10.0)
    stage.put(registration())
    assert stage.loop.run(lambda: stage.told) < 2.5


def test_a_full_batch_does_not_wait_for_the_window(stage: Stage) -> None:
    stage.restart(window=5.0, batch=8, deadline=9.0, hang=10.0)
    stage.put(registration())
    stage.settle()
    for n in range(8):
        stage.put(registration(str(n)))
    assert stage.loop.run(lambda: len(stage.told) == 9) < 2.5


def test_of_one_record_only_the_last_write_of_a_batch_is_sent(stage: Stage) -> None:
    stage.frozen()
    for version in range(1, 11):
        stage.writer.put(call(version=version))
    stage.put(call(version=11))
    stage.writer.put(call(version=12))
    stage.faults.thaw()
    assert stage.settle() == [STORED]
    assert [[write.record.version for write in writes] for writes in stage.faults.commits[1:]] == [[12]]


def test_a_removal_takes_the_place_of_the_put_before_it(stage: Stage) -> None:
    stage.frozen()
    stage.writer.put(registration())
    stage.writer.remove(registration(version=2))
    stage.faults.thaw()
    stage.until_stored("ice")
    assert stage.ask(lambda store: len(store.registrations())) == 1
    assert len(stage.faults.commits) == 2


def test_each_who_waits_for_the_same_record_hears_once(stage: Stage) -> None:
    stage.frozen()
    for version in (1, 2, 3):
        stage.put(call(version=version))
    stage.faults.thaw()
    assert stage.settle(3) == [STORED, STORED, STORED]


def test_a_record_may_change_after_it_was_put(stage: Stage) -> None:
    record = call()
    stage.frozen()
    stage.put(record)
    record.legs.clear()
    record.state = "ended"
    stage.faults.thaw()
    stage.settle()
    assert stage.ask(lambda store: store.calls()) == [call()]


def test_stale_and_fenced_are_told_and_counted(stage: Stage) -> None:
    stage.put(call(version=5))
    stage.settle()
    stage.put(call(version=5))
    assert stage.settle(2)[1] is STALE
    stage.ask(lambda store: store.raise_fence("internal#0"))
    stage.put(call(version=6))
    assert stage.settle(3)[2] is FENCED
    assert stage.fenced == [("internal#0", 0)]
    assert (stage.writer.stats.stale, stage.writer.stats.refused) == (1, 1)


def test_one_who_breaks_keeps_nobody_from_hearing(stage: Stage) -> None:
    stage.frozen()
    stage.writer.put(registration("1"), lambda _: 1 / 0)  # type: ignore[arg-type]
    stage.put(registration("2"))
    stage.faults.thaw()
    assert stage.settle() == [STORED]


def test_a_write_that_the_driver_chokes_on_takes_no_other_with_it(stage: Stage) -> None:
    stage.faults.poison = "bad"
    stage.frozen()
    for user in ("1", "bad", "2"):
        stage.put(registration(user))
    stage.faults.thaw()
    assert stage.settle(3) == [STORED, AT_RISK, STORED]
    assert stage.stored() == ["1", "2", "ice"]
    assert stage.writer.stats.lost == 1
    assert not stage.writer.stats.open


def test_at_rest_it_sets_no_alarm(stage: Stage) -> None:
    stage.put(registration())
    stage.settle()
    stage.loop.run(lambda: stage.loop.idle)


# ---- a store that is slow, gone, or hangs --------------------------------------------------------------------------


def test_who_waits_is_told_at_the_deadline_and_never_again(stage: Stage) -> None:
    stage.restart(hang=LIMIT)
    stage.frozen()
    started = time.monotonic()
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    assert 0.08 <= time.monotonic() - started < 1.0
    stage.faults.thaw()
    stage.until_stored("1000", "ice")
    stage.loop.run(lambda: not stage.writer.behind)
    assert stage.told == [(registration().key, AT_RISK)]
    # What was being committed counts once, though it is in the journal and has reached the store besides.
    assert (stage.writer.stats.at_risk, stage.writer.stats.journaled, stage.writer.stats.late) == (2, 2, 0)


def test_whoever_is_told_that_it_is_at_risk_has_it_in_the_journal(stage: Stage) -> None:
    """The process may be killed the moment after: what is being committed, what waits, what comes later, in order."""
    stage.restart(hang=LIMIT)
    stage.frozen()
    stage.put(call(version=1))
    stage.writer.remove(registration(version=5))
    stage.settle()
    stage.put(call(version=2))
    stage.settle(2)
    left = Journal(stage.journal)
    left.open()
    lot = left.oldest()
    assert lot is not None
    assert [(type(write), write.record.key, write.record.version) for write in lot.writes] == [
        (Put, registration("ice").key, 1),
        (Put, "call-1", 1),
        (Remove, registration().key, 5),
        (Put, "call-1", 2),
    ]
    assert {outcome for _, outcome in stage.told} == {AT_RISK}


def test_who_waits_is_told_at_the_deadline_even_if_the_disk_of_the_journal_hangs(stage: Stage) -> None:
    stage.restart(hang=LIMIT)
    stage.frozen()
    disk = threading.Event()
    journal: Any = stage.writer._shared.journal
    append = journal.append
    journal.append = lambda writes: disk.wait(LIMIT) and append(writes)
    started = time.monotonic()
    stage.put(call())
    assert stage.settle() == [AT_RISK]
    assert 0.1 <= time.monotonic() - started < 1.0
    assert stage.writer.stats.journaled == 0
    disk.set()
    stage.loop.run(lambda: stage.writer.stats.journaled == 2)
    assert stage.writer.stats.at_risk == 2
    stage.faults.thaw()
    stage.until_stored("call-1", "ice")


def test_a_journal_that_breaks_costs_one_lot_and_is_told(stage: Stage) -> None:
    lost: list[str] = []
    stage.writer.on_unstored = lambda outcome, record: lost.append(record.key) if outcome is None else None
    stage.faults.cut()
    journal: Any = stage.writer._shared.journal
    append = journal.append
    journal.append = lambda writes: 1 / 0
    stage.put(call("first"))
    assert stage.settle() == [AT_RISK]
    journal.append = append
    stage.put(call("second"))
    assert stage.settle(2) == [AT_RISK] * 2
    stage.faults.mend()
    stage.until_stored("second")
    assert (lost, stage.writer.stats.lost) == (["first"], 1)


def test_what_the_store_takes_late_is_not_brought_back_after_its_removal(stage: Stage) -> None:
    """The put is in hand when the store freezes, its removal goes by the journal: the put must not come after it."""
    stage.restart(hang=LIMIT)
    stage.faults.cut()
    stage.put(call("first"))
    stage.settle()
    stage.loop.run(lambda: stage.writer.stats.open)
    stage.faults.freeze()
    stage.faults.mend_the_cut()
    assert stage.faults.frozen.acquire(timeout=LIMIT)
    stage.put(call())
    stage.settle(2)
    stage.writer.remove(call(version=2))
    stage.put(call("last"))
    stage.settle(3)
    stage.faults.thaw()
    stage.until_stored("first", "last")
    stage.loop.run(lambda: not stage.writer.behind)
    assert stage.stored() == ["first", "last"]


def test_while_much_is_replayed_nobody_waits_for_it(stage: Stage) -> None:
    stage.restart(batch=4, batch_limit=8, hang=LIMIT, deadline=LIMIT)
    stage.faults.cut()
    for n in range(100):
        stage.put(call(f"old-{n:02d}"))
    stage.settle(100)
    stage.faults.freeze_from(12)
    stage.faults.mend_the_cut()
    assert stage.faults.frozen.acquire(timeout=LIMIT)
    # Twelve commits of the replay have gone by, and the breaker is closed; the next hangs for a while.
    assert not stage.writer.stats.open
    assert stage.writer.behind
    started = time.monotonic()
    for n in range(10):
        stage.put(call(f"new-{n}"))
    assert stage.settle(110) == [AT_RISK] * 110
    assert time.monotonic() - started < 2.0
    stage.faults.thaw()
    stage.loop.run(lambda: not stage.writer.behind)
    assert len(stage.stored()) == 110
    stage.put(call("after"))
    assert stage.settle(111)[-1] is STORED


def test_a_replay_gives_the_interpreter_back_at_once_whenever_the_loop_wants_it(stage: Stage) -> None:
    ordinary, seen = sys.getswitchinterval(), []

    def watched() -> Store:
        store = stage.faults.factory()
        commit = store.commit

        def watch(writes: Sequence[Write]) -> list[Outcome]:
            seen.append(sys.getswitchinterval())
            return commit(writes)

        store.commit = watch  # type: ignore[method-assign]
        return store

    stage.writer.close(LIMIT)
    stage.start(factory=watched)
    stage.put(call("before"))
    stage.settle()
    stage.faults.cut()
    stage.put(call("during"))
    stage.settle(2)
    stage.faults.mend()
    stage.loop.run(lambda: not stage.writer.behind)
    assert seen[0] == ordinary
    assert seen[-1] <= ordinary / 10
    stage.loop.run(lambda: sys.getswitchinterval() == ordinary)


def test_however_much_comes_during_a_replay_it_comes_to_an_end(stage: Stage) -> None:
    """New writes without a pause: those that come last wait for the rest of the replay, and none is overtaken."""
    stage.restart(batch=4, batch_limit=8, deadline=LIMIT / 2, hang=LIMIT / 2)
    stage.faults.cut()
    for n in range(50):
        stage.put(call(f"old-{n:02d}"))
    stage.settle(50)
    stage.faults.mend()
    version = itertools.count(2)
    put = lambda: stage.put(call("busy", version=next(version)))  # noqa: E731
    stage.loop.run(lambda: put() or stage.told[-1][1] is STORED)
    last = next(version) - 1
    stage.loop.run(lambda: len(stage.told) == 50 + last - 1)
    with opened(stage.factory) as store:
        assert {record.uuid: record.version for record in store.calls()}["busy"] == last


def test_once_a_deadline_was_missed_nobody_waits_for_the_same_call_any_more(stage: Stage) -> None:
    stage.restart(hang=LIMIT, deadline=1.0)
    stage.frozen()
    stage.put(call("first"))
    assert stage.settle() == [AT_RISK]
    started = time.monotonic()
    for n in range(20):
        stage.put(call(str(n)))
    assert stage.settle(21) == [AT_RISK] * 21
    assert time.monotonic() - started < 1.0
    stage.faults.thaw()
    stage.until_stored("first", "ice", *map(str, range(20)))
    stage.loop.run(lambda: not stage.writer.behind)
    assert stage.writer.stats.at_risk == stage.writer.stats.journaled == 22
    stage.put(call("after"))
    assert stage.settle(22)[-1] is STORED


def test_nobody_waits_for_a_store_that_is_only_being_tried(stage: Stage) -> None:
    stage.restart(hang=LIMIT, deadline=1.0)
    stage.faults.cut()
    stage.put(call("first"))
    stage.settle()
    stage.loop.run(lambda: stage.writer.stats.open)
    stage.faults.freeze()
    stage.faults.mend_the_cut()
    # The next probe runs into the ice.
    assert stage.faults.frozen.acquire(timeout=LIMIT)
    started = time.monotonic()
    stage.put(call("second"))
    assert stage.settle(2) == [AT_RISK, AT_RISK]
    assert time.monotonic() - started < 1.0
    stage.faults.thaw()
    stage.until_stored("first", "second")


def test_a_loop_that_stood_still_puts_nothing_at_risk_that_is_stored(stage: Stage) -> None:
    """Its alarms may come before the results then: uvloop's do."""
    stage.put(registration())
    while stage.writer.delay < stage.writer.settings.deadline or not stage.writer._results:
        time.sleep(0.01)
    stage.writer._look()
    assert stage.settle() == [STORED]
    assert (stage.writer.behind, stage.writer.stats.at_risk) == (False, 0)


def test_a_thread_that_had_nothing_to_do_when_writes_were_diverted_gives_them_back(stage: Stage) -> None:
    """Else all that follows would be at risk, until somebody asks the store something."""
    stage.put(registration())
    stage.settle()
    stage.writer._shared.queue.divert()
    stage.loop.run(lambda: not stage.writer.behind)
    stage.put(registration(version=2))
    assert stage.settle(2) == [STORED, STORED]


def test_what_a_cut_off_store_does_not_take_is_replayed_in_order(stage: Stage) -> None:
    stage.put(call("before"))
    stage.settle()
    stage.faults.cut()
    for version in (1, 2, 3):
        stage.put(registration(version=version))
        assert set(stage.settle(version + 1)[1:]) == {AT_RISK}
    stage.writer.remove(registration(version=4))
    stage.put(registration("1001"))
    stage.settle(5)
    assert stage.writer.stats.open
    assert stage.writer.stats.journaled >= 5
    stage.faults.mend()
    stage.until_stored("1001", "before")
    stage.loop.run(lambda: not stage.writer.behind)
    stage.put(call("after"))
    assert stage.settle(6)[-1] is STORED
    assert list(stage.journal.parent.iterdir()) == []
    assert stage.writer.stats.at_risk == stage.writer.stats.journaled


def test_a_connection_that_went_stale_costs_nothing(stage: Stage) -> None:
    stage.put(registration())
    stage.settle()

    def gone(writes: object) -> list[Outcome]:
        raise Unavailable("the connection is gone")

    stage.faults.stores[-1].commit = gone  # type: ignore[method-assign]
    stage.put(registration("1001"))
    assert stage.settle(2) == [STORED, STORED]
    assert stage.writer.stats.at_risk == 0


def test_a_store_that_can_be_read_but_not_written_does_not_close_the_breaker(stage: Stage) -> None:
    def refuse(store: Store) -> Store:
        def commit(writes: object) -> list[Outcome]:
            raise Unavailable("the disk is full")

        store.commit = commit  # type: ignore[method-assign]
        return store

    broken = True
    stage.writer.close(LIMIT)
    stage.start(factory=lambda: refuse(stage.factory()) if broken else stage.factory())
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    assert stage.writer.stats.open
    assert "disk is full" in stage.writer.stats.error
    broken = False
    stage.until_stored("1000")


def test_a_call_that_hangs_is_given_up_and_another_thread_goes_on(stage: Stage) -> None:
    stage.frozen()
    release = stage.faults.melt_for_others()
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    stage.until_stored("1000", "ice")
    stage.loop.run(lambda: not stage.writer.behind)
    assert stage.writer.stats.hung == 1
    assert stage.faults.stores[0].given_up
    stage.put(registration("1001"))
    assert stage.settle(2)[-1] is STORED
    before = len(stage.faults.commits)
    release()
    stage.put(registration("1002"))
    assert stage.settle(3)[-1] is STORED
    assert len(stage.faults.commits) == before + 1


def test_no_more_threads_than_allowed_hang_in_the_store(stage: Stage) -> None:
    stage.restart(hung_threads=2)
    before = threading.active_count()
    stage.frozen()
    stage.loop.run(lambda: stage.writer.put(registration()) or stage.writer.stats.hung == 2)
    stage.loop.run(lambda: "too many threads" in stage.writer.stats.error)
    for n in range(5):
        stage.put(registration(str(n)))
    assert stage.settle(5) == [AT_RISK] * 5
    assert threading.active_count() <= before + 2
    stage.faults.thaw()
    stage.until_stored("0", "1", "1000", "2", "3", "4", "ice")


def test_more_than_the_queue_holds_goes_to_the_journal_and_to_the_store_later(stage: Stage) -> None:
    stage.restart(batch=4, batch_limit=8, queue=20, hang=LIMIT)
    stage.frozen()
    for n in range(30):
        stage.put(registration(str(n)))
    stage.faults.thaw()
    assert stage.settle(30) == [AT_RISK] * 30
    stage.until_stored("ice", *(str(n) for n in range(30)))
    assert stage.writer.stats.journaled == 30


def test_what_has_no_room_at_all_is_lost_and_counted(stage: Stage) -> None:
    stage.restart(batch=4, batch_limit=8, queue=20, hang=LIMIT, deadline=LIMIT)
    stage.frozen()
    for n in range(45):
        stage.put(registration(str(n)))
    assert stage.settle(5) == [AT_RISK] * 5
    assert stage.writer.stats.lost == 5
    assert stage.told[0][0] == registration("40").key


def test_a_file_that_is_no_database_puts_writes_at_risk_until_it_is_replaced(stage: Stage, tmp_path: Path) -> None:
    db = tmp_path / "core.db"
    db.write_bytes(b"this was a database once " * 100)
    stage.writer.close(LIMIT)
    stage.factory = open_store(str(db))
    stage.start(factory=stage.factory)
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    assert f"{db}: the file is no SQLite database" in stage.writer.stats.error
    db.unlink()
    stage.loop.run(lambda: stage.writer.stats.replayed == 1)
    assert stage.stored() == ["1000"]
    stage.loop.run(lambda: not stage.writer.stats.open)


# ---- closing, crashing, starting again -----------------------------------------------------------------------------


def test_closing_commits_what_waits(stage: Stage) -> None:
    stage.frozen()
    for n in range(10):
        stage.put(registration(str(n)))
    threading.Timer(0.05, stage.faults.thaw).start()
    stage.writer.close(LIMIT)
    assert [outcome for _, outcome in stage.told] == [STORED] * 10
    assert len(stage.stored()) == 11


def test_closing_before_a_frozen_store_journals_what_waits_and_a_successor_replays_it(stage: Stage) -> None:
    stage.frozen()
    release = stage.faults.melt_for_others()
    stage.put(registration())
    answers: list[object] = []
    stage.writer.ask(lambda store: store.calls(), answers.append)
    started = time.monotonic()
    stage.writer.close(0.05)
    assert time.monotonic() - started < 1.0
    assert stage.told == [(registration().key, AT_RISK)]
    assert isinstance(answers[0], Unavailable)
    release()
    stage.start()
    stage.until_stored("1000", "ice")


def test_a_closed_writer_takes_nothing_more_but_answers(stage: Stage) -> None:
    stage.writer.close(LIMIT)
    stage.writer.close(LIMIT)
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    assert isinstance(stage.ask(lambda store: store.calls()), Unavailable)


def test_what_a_predecessor_left_is_replayed_at_the_start_and_what_is_over_is_dropped(stage: Stage) -> None:
    with opened(stage.factory) as store:
        epoch = store.raise_fence("internal#0")
        store.commit([Put(registration("1001", epoch=epoch, version=9))])
    stage.writer.close(LIMIT)
    left = Journal(stage.journal)
    left.open()
    left.append(
        [Put(registration("1000", epoch=epoch)), Put(registration("1001", epoch=epoch)), Put(call(epoch=epoch - 1))]
    )
    left.close()
    stage.start()
    stage.until_stored("1000", "1001")
    stage.loop.run(lambda: stage.writer.stats.replayed == 3 and stage.writer.stats.refused == 1)
    assert stage.writer.stats.stale == 1
    # It is the predecessor who is fenced, not we.
    assert stage.fenced == []


def write_until_killed(db: str, journal: str, pipe: Connection) -> None:
    """A process whose store is locked by somebody else: says how many it was told are at risk, then waits."""
    loop = Loop()
    told: list[Outcome] = []
    writer = Writer(
        open_store(db, sqlite=SqliteSettings(wait=0.05)),
        call_soon=loop.call_soon,
        call_later=loop.call_later,
        journal=Journal(Path(journal)),
    )
    writer.start()
    for n in range(50):
        writer.put(registration(str(n)), told.append)
    loop.run(lambda: writer.stats.journaled == 50 and len(told) == 50)
    pipe.send([outcome.value for outcome in told])
    loop.run(lambda: False)


def test_what_was_journaled_survives_a_kill(tmp_path: Path) -> None:
    db, stem = tmp_path / "core.db", tmp_path / "journal" / "internal.0"
    with opened(open_store(str(db))):
        pass
    blocker = sqlite3.connect(db, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=write_until_killed, args=(str(db), str(stem), theirs))
    process.start()
    assert ours.recv() == ["at risk"] * 50
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    blocker.execute("ROLLBACK")
    blocker.close()
    loop = Loop()
    writer = Writer(open_store(str(db)), call_soon=loop.call_soon, call_later=loop.call_later, journal=Journal(stem))
    writer.start()
    loop.run(lambda: writer.stats.replayed == 50)
    writer.close(LIMIT)
    with opened(open_store(str(db))) as store:
        assert len(store.registrations()) == 50
    assert list(stem.parent.iterdir()) == []


# ---- questions -----------------------------------------------------------------------------------------------------


def test_a_question_sees_what_was_put_before_it(stage: Stage) -> None:
    stage.frozen()
    stage.writer.put(call())
    stage.faults.thaw()
    assert stage.ask(lambda store: store.calls()) == [call()]


def test_a_question_does_not_wait_for_the_window(stage: Stage) -> None:
    stage.restart(window=5.0, deadline=9.0, hang=10.0)
    stage.put(registration())
    stage.settle()
    stage.writer.put(registration("1001"))
    answers: list[object] = []
    stage.writer.ask(lambda store: len(store.registrations()), answers.append)
    assert stage.loop.run(lambda: answers) < 2.5
    assert answers == [2]


def test_a_question_to_a_store_that_is_gone_is_answered_with_the_error(stage: Stage) -> None:
    stage.faults.cut()
    stage.put(registration())
    stage.settle()
    assert isinstance(stage.ask(lambda store: store.calls()), Unavailable)


def test_a_question_is_answered_at_its_deadline_and_only_once(stage: Stage) -> None:
    stage.restart(hang=LIMIT)
    stage.frozen()
    answers: list[object] = []
    stage.writer.ask(lambda store: store.calls(), answers.append, deadline=0.05)
    stage.loop.run(lambda: answers)
    assert str(answers[0]) == "the store did not answer within 0.05 s"
    stage.faults.thaw()
    stage.put(registration())
    stage.settle()
    assert len(answers) == 1


def test_a_question_that_hangs_is_answered_and_its_thread_given_up(stage: Stage) -> None:
    block = threading.Event()
    stage.put(registration())
    stage.settle()
    answer = stage.ask(lambda store: block.wait(LIMIT), deadline=0.5)
    assert isinstance(answer, Unavailable)
    stage.loop.run(lambda: stage.writer.put(registration("1001")) or stage.writer.stats.hung == 1)
    stage.until_stored("1000", "1001")
    block.set()


def test_refusals_and_faults_of_a_question_are_its_answer(stage: Stage) -> None:
    def refuse(store: Store) -> None:
        raise Refused("no")

    assert isinstance(stage.ask(refuse), Refused)
    assert isinstance(stage.ask(lambda store: 1 // 0), StoreError)
    stage.put(registration())
    assert stage.settle() == [STORED]


def test_the_clock_of_the_store_is_known(stage: Stage) -> None:
    stage.writer.close(LIMIT)
    stage.start(factory=lambda: MemoryStore(Book(), lambda: time.time() + 1000))
    stage.put(registration())
    stage.settle()
    assert stage.writer.clock_offset == pytest.approx(1000, abs=0.5)
    assert stage.writer.store_time() == pytest.approx(time.time() + 1000, abs=0.5)
