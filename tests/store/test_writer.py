from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from store.backends import open_store
from store.errors import Refused, StoreError, Unavailable
from store.interface import Outcome, Put, Store, opened
from store.journal import Journal
from store.memory import Book, MemoryStore
from store.settings import SqliteSettings
from store.writer import Writer
from tests.store.faults import LIMIT, Loop
from tests.store.samples import call, registration
from tests.store.stage import AT_RISK, FENCED, STALE, STORED, Stage

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


@pytest.mark.parametrize("step", [-600, 600])
def test_a_step_of_this_hosts_clock_moves_no_time_that_is_written(
    stage: Stage, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks at the store's: a refresh would be older than what is stored, and be refused."""
    stage.put(registration())
    stage.settle()
    before = stage.writer.store_time()
    real = time.time
    stepped = SimpleNamespace(time=lambda: real() + step, monotonic=time.monotonic, sleep=time.sleep)
    for module in ("store.writer", "store.committer"):
        monkeypatch.setattr(f"{module}.time", stepped)
    assert stage.writer.store_time() == pytest.approx(before, abs=5.0)
    assert stage.writer.clock_offset == pytest.approx(-step, abs=5.0)


def test_the_clock_of_the_store_is_known(stage: Stage) -> None:
    stage.writer.close(LIMIT)
    stage.start(factory=lambda: MemoryStore(Book(), lambda: time.time() + 1000))
    stage.put(registration())
    stage.settle()
    assert stage.writer.clock_offset == pytest.approx(1000, abs=0.5)
    assert stage.writer.store_time() == pytest.approx(time.time() + 1000, abs=0.5)
