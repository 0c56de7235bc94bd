"""The writer before a store that is slow, gone, or hangs: who waits is told in time, and nothing is lost."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from store.backends import open_store
from store.errors import Unavailable
from store.interface import Outcome, Put, Remove, Store, Write, opened
from store.journal import Journal
from tests.store.faults import LIMIT
from tests.store.samples import call, registration
from tests.store.stage import AT_RISK, STORED, Stage
from tests.support.node import STRETCH


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


def test_much_is_replayed_little_by_little_with_rests_in_between(stage: Stage) -> None:
    """The loop has the interpreter to itself for half of the time that a replay takes."""
    spans = much_to_replay(stage, 40, worked=0.01)
    stage.faults.mend()
    stage.loop.run(lambda: not stage.writer.behind)
    assert [many for many, *_ in spans] == [4] * 10
    assert all(later[1] - earlier[2] >= 0.01 * 0.9 for earlier, later in itertools.pairwise(spans))


def test_a_replay_does_not_rest_while_somebody_waits_for_an_answer(stage: Stage) -> None:
    """Who is promoted claims the calls, which must not wait for more than what is work."""
    spans = much_to_replay(stage, 400, worked=0.3)
    stage.faults.mend()
    stage.loop.run(lambda: spans)
    # It rests now, for as long as the first few took.
    asked = time.monotonic()
    assert len(stage.ask(lambda store: store.calls(), deadline=LIMIT)) == 400
    assert spans[1][1] - asked < 0.15 * STRETCH, "the rest ended"
    assert [many for many, *_ in spans] == [4, 256, 140], "in large lots from then on"
    assert all(later[1] - earlier[2] < 0.15 * STRETCH for earlier, later in itertools.pairwise(spans[1:]))


def much_to_replay(stage: Stage, count: int, *, worked: float) -> list[tuple[int, float, float]]:
    """So many calls are in the journal, and the store is gone.

    Each commit will be so many seconds of work; it is noted how many there were in it, and when it began and ended.
    """
    spans: list[tuple[int, float, float]] = []

    def laborious() -> Store:
        store = stage.faults.factory()
        commit = store.commit

        def work(writes: Sequence[Write]) -> list[Outcome]:
            began, until = time.monotonic(), time.thread_time() + worked
            outcomes = commit(writes)
            while time.thread_time() < until:
                pass
            spans.append((len(writes), began, time.monotonic()))
            return outcomes

        store.commit = work  # type: ignore[method-assign]
        return store

    stage.writer.close(LIMIT)
    stage.start(factory=laborious, batch=4, batch_limit=256, hang=LIMIT)
    stage.faults.cut()
    for n in range(count):
        stage.put(call(f"old-{n:03d}"))
    stage.settle(count)
    spans.clear()
    return spans


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


@pytest.mark.parametrize("where", ["open", "clock"])
def test_a_driver_that_breaks_opens_the_breaker_like_a_store_that_is_gone(stage: Stage, where: str) -> None:
    """It was tried again each millisecond, for nobody had counted that as a failure."""
    broken, tries = True, 0

    def breaks(store: Store) -> Store:
        def never() -> None:
            nonlocal tries
            tries += 1
            raise ValueError("not what a driver says")

        setattr(store, where, never)
        return store

    stage.writer.close(LIMIT)
    stage.start(factory=lambda: breaks(stage.factory()) if broken else stage.factory())
    stage.put(registration())
    assert stage.settle() == [AT_RISK]
    stage.loop.run(lambda: stage.writer.stats.open)
    assert "ValueError: not what a driver says" in stage.writer.stats.error
    broken = False
    stage.until_stored("1000")
    stage.loop.run(lambda: not stage.writer.stats.open)
    assert tries >= 2


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
