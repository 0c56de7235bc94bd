"""The journal under fire: killed at every point, torn at every byte, on a disk that is full; and who inherits it."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from store.errors import StoreError, Unavailable
from store.interface import Factory, Outcome, Put, Remove, Write, opened
from store.journal import FRAME, Journal, JournalFailed, latest
from store.memory import memory_store
from store.reserve import Reserve
from store.settings import BreakerSettings, JournalSettings, WriterSettings
from store.writer import Writer
from tests.store.faults import LIMIT, Faults, Loop
from tests.store.samples import call, registration
from tests.support.node import ROOT

SETTINGS = WriterSettings(deadline=0.1, hang=0.3, breaker=BreakerSettings(first_pause=0.02, longest_pause=0.05))


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "internal.0"


def journal(stem: Path, **settings: int) -> Journal:
    made = Journal(stem, JournalSettings(**settings))
    made.open()
    return made


def versions(of: Journal) -> list[int]:
    found = []
    while (lot := of.oldest()) is not None:
        found += [write.record.version for write in lot.writes]
        of.forget(lot)
    return found


# ---- torn, killed --------------------------------------------------------------------------------------------------


def test_torn_at_any_byte_it_gives_back_all_that_was_whole_before(stem: Path) -> None:
    mine = journal(stem)
    ends = [0]
    for version in range(1, 6):
        mine.append([Put(registration(version=version))])
        ends.append(mine.size)
    (path,) = stem.parent.iterdir()
    data = path.read_bytes()
    for length in range(len(data) + 1):
        path.write_bytes(data[:length])
        whole = sum(end <= length for end in ends[1:])
        lot = journal(stem).oldest()
        assert lot is not None
        assert [write.record.version for write in lot.writes] == list(range(1, whole + 1)), length


def test_no_flipped_bit_is_taken_for_a_record(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(call())])
    first = mine.size
    mine.append([Put(call(version=2))])
    (path,) = stem.parent.iterdir()
    data = path.read_bytes()
    for at in range(first, len(data), 7):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        lot = journal(stem).oldest()
        assert lot is not None
        assert [write.record for write in lot.writes] == [call()], at
    assert len(data) - first > FRAME.size


KILLED = """
import sys
from pathlib import Path
from store.interface import Put
from store.journal import Journal
from store.settings import JournalSettings
from tests.store.samples import call
journal = Journal(Path(sys.argv[1]), JournalSettings(segment=20_000))
journal.open()
version = 0
while True:
    version += 1
    journal.append([Put(call(version=version))])
    print(version, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 60])
def test_all_that_was_kept_before_a_kill_is_there_after_it(stem: Path, after: int) -> None:
    words = [sys.executable, "-c", KILLED, str(stem)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout is not None
    told = [int(process.stdout.readline()) for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    told += [int(line) for line in process.stdout if line.endswith(b"\n")]
    process.wait()
    process.stdout.close()
    found = versions(journal(stem))
    assert found[: len(told)] == told
    assert found == list(range(1, len(found) + 1))


class Killed(Exception):
    """Stands for the end of the process."""


def test_a_replay_that_is_killed_at_any_point_comes_to_the_same_end(stem: Path) -> None:
    writes: list[Write] = [Put(call(str(n), version=version)) for version in (1, 2, 3) for n in range(4)]
    writes += [Remove(call("0", version=4)), Put(registration(version=5))]
    wanted = [("1", 3), ("2", 3), ("3", 3)]
    for survived in range(40):
        factory = memory_store(f"replay-{survived}")
        mine = journal(stem, segment=2_000)
        for write in writes:
            mine.append([write])
        steps = iter(range(survived))

        def step(left: Iterator[int] = steps) -> None:
            if next(left, None) is None:
                raise Killed

        try:
            _replay(mine, factory, step)
        except Killed:
            # Its successor finds what is left, and has nothing in memory.
            mine.close()
            _replay(journal(stem), factory, lambda: None)
        with opened(factory) as store:
            assert sorted((c.uuid, c.version) for c in store.calls()) == wanted, survived
            assert [r.version for r in store.registrations()] == [5]
        assert list(stem.parent.iterdir()) == []


def _replay(mine: Journal, factory: Factory, step: Callable[[], None]) -> None:
    """As the committer does it, with a step between each two things that happen."""
    with opened(factory) as store:
        while (lot := mine.oldest()) is not None:
            for write in latest(lot.writes):
                step()
                store.commit([write])
            step()
            mine.forget(lot)


def test_of_many_versions_only_the_last_is_replayed() -> None:
    writes: list[Write] = [
        Put(call(version=1)),
        Put(registration(version=1)),
        Put(call(version=2)),
        Put(call("2")),
        Remove(call(version=3)),
        Put(registration(version=2)),
    ]
    kept = latest(writes)
    assert [(type(write), write.record.key, write.record.version) for write in kept] == [
        (Put, "2", 1),
        (Remove, "call-1", 3),
        (Put, registration().key, 2),
    ]


def test_what_is_not_newer_does_not_replace_what_came_before_it() -> None:
    writes = [Put(call(version=5)), Put(call(version=4)), Put(call(version=9, epoch=1)), Put(call(version=1, epoch=2))]
    assert [(write.record.epoch, write.record.version) for write in latest(writes)] == [(0, 5), (2, 1)]


# ---- a full disk ---------------------------------------------------------------------------------------------------


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """No file may grow beyond this, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_said_and_what_is_there_stays_whole(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(call(version=1))])
    with no_more_than(mine.size + 100):
        for _ in range(3):
            with pytest.raises(JournalFailed, match="cannot be written"):
                mine.append([Put(call(version=2))])
    mine.append([Put(call(version=3))])
    assert versions(journal(stem)) == [1, 3]


def test_what_finds_no_room_anywhere_is_counted_and_told(stem: Path) -> None:
    stage = Stage(stem, settings=replace(SETTINGS, batch=4, batch_limit=4, queue=8))
    try:
        stage.faults.cut()
        with no_more_than(2000):
            for n in range(20):
                stage.writer.put(call(f"{n:02d}"), stage.told.append)
                stage.loop.run(lambda n=n: len(stage.told) > n)
            stage.loop.run(lambda: stage.writer.stats.at_risk == 20)
        stats = stage.writer.stats
        assert stats.journaled == 20
        # Some are on the disk, eight in memory; of the others nothing is left but the word.
        assert 0 < stats.lost < 12
        assert stage.unstored.count(None) == stats.lost
        stage.faults.mend()
        stage.loop.run(lambda: not stage.writer.behind)
        with opened(stage.factory) as store:
            assert len(store.calls()) == 20 - stats.lost
            assert {f"{n:02d}" for n in range(12, 20)} < {record.uuid for record in store.calls()}
    finally:
        stage.close()


def test_what_finds_no_room_on_the_disk_is_not_lost_as_long_as_the_process_lives(stem: Path) -> None:
    stage = Stage(stem)
    try:
        stage.faults.cut()
        with no_more_than(2000):
            for n in range(20):
                stage.writer.put(call(str(n)), stage.told.append)
                stage.writer.remove(registration(str(n), version=2))
                stage.loop.run(lambda n=n: len(stage.told) > n)
            stage.faults.mend()
            stage.loop.run(lambda: not stage.writer.behind)
        assert stage.writer.stats.lost == 0
        with opened(stage.factory) as store:
            assert len(store.calls()) == 20
    finally:
        stage.close()


def test_what_is_in_memory_goes_to_the_disk_as_soon_as_there_is_room(stem: Path) -> None:
    clock = [0.0]
    mine = Reserve(journal(stem), 10, now=lambda: clock[0])
    with no_more_than(100):
        mine.append([Put(call(version=1))])
        mine.append([Put(call(version=2)), Put(call("2"))])
        mine.append([Put(call(version=1))])
        assert mine.pending
    # Not tried again at once: a full disk is asked once a second.
    mine.append([Put(call("3"))])
    assert [path.stat().st_size for path in stem.parent.iterdir()] == [0]
    clock[0] += 1
    mine.append([Put(call("4"))])
    mine.close()
    lot = journal(stem).oldest()
    assert lot is not None
    assert [(write.record.key, write.record.version) for write in lot.writes] == [
        ("call-1", 2),
        ("2", 1),
        ("3", 1),
        ("4", 1),
    ]


def test_what_is_in_memory_at_the_end_goes_to_a_disk_that_has_room_by_then(stem: Path) -> None:
    mine = Reserve(journal(stem), 10)
    with no_more_than(100):
        mine.append([Put(call("1")), Put(call("2"))])
    mine.close()
    lot = journal(stem).oldest()
    assert lot is not None
    assert [write.record.key for write in lot.writes] == ["1", "2"]


def test_what_finds_no_room_in_the_end_either_is_said_to_be_lost(stem: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = Reserve(journal(stem), 10)
    with no_more_than(100):
        mine.append([Put(call("1")), Put(call("2"))])
        mine.close()
    assert "2 writes are lost" in caplog.text


def test_of_what_is_in_memory_the_oldest_goes_when_there_is_too_much(stem: Path) -> None:
    mine = Reserve(journal(stem), 2)
    with no_more_than(100):
        assert mine.append([Put(call("1")), Put(call("2"))]) == []
        empty = mine.oldest()
        assert empty is not None
        mine.forget(empty)
        lot = mine.oldest()
        assert lot is not None
        assert not mine.more_than(lot)
        assert [write.record.key for write in mine.append([Put(call("1", version=2)), Put(call("3"))])] == ["2"]
    # What came while it was replayed stays.
    assert mine.more_than(lot)
    mine.forget(lot)
    lot = mine.oldest()
    assert lot is not None
    assert [(write.record.key, write.record.version) for write in lot.writes] == [("1", 2), ("3", 1)]
    mine.forget(lot)
    assert not mine.pending


# ---- its heir ------------------------------------------------------------------------------------------------------


class Stage:
    """A writer of node `a`, on a store that can be taken away."""

    def __init__(self, stem: Path, factory: Factory | None = None, settings: WriterSettings = SETTINGS) -> None:
        self.factory = factory or memory_store(f"heir-{stem}")
        self.faults = Faults(self.factory)
        self.loop = Loop()
        self.told: list[Outcome] = []
        self.unstored: list[Outcome | None] = []
        self.writer = Writer(
            self.faults.factory,
            settings,
            call_soon=self.loop.call_soon,
            call_later=self.loop.call_later,
            journal=Journal(stem),
        )
        self.writer.heir = "a"
        self.writer.on_unstored = lambda outcome, _record: self.unstored.append(outcome)
        self.writer.start()

    def crash(self) -> None:
        """The end of its process: nothing more is written, and the journal stays as it is."""
        self.faults.cut()
        self.writer._shared.journal.close()

    def close(self) -> None:
        self.faults.mend()
        self.writer.close(LIMIT)


def test_calls_of_a_worker_that_died_while_the_store_was_gone_are_its_successors(stem: Path) -> None:
    first = Stage(stem)
    with opened(first.factory) as store:
        lease = store.acquire_lease("a", 60)
    assert lease is not None
    first.writer.put(call("before", epoch=lease.epoch), first.told.append)
    first.loop.run(lambda: first.told == [Outcome.STORED])
    first.faults.cut()
    for record in (call("before", epoch=lease.epoch, version=2), call("during", epoch=lease.epoch)):
        first.writer.put(record)
    first.loop.run(lambda: first.writer.stats.journaled == 2)
    first.crash()
    # The store is back, and the supervisor fences the dead worker off before the next one has begun.
    with opened(first.factory) as store:
        epoch = store.raise_fence("internal#0")
    second = Stage(stem, first.factory)
    try:
        claimed: list[object] = []
        second.writer.ask(
            lambda store: store.claim(["internal#0"], node="a", slot="internal#0", epoch=epoch), claimed.append
        )
        second.loop.run(lambda: claimed)
        assert isinstance(claimed[0], list), claimed[0]
        assert {(c.uuid, c.version, c.epoch) for c in claimed[0]} == {("before", 3, epoch), ("during", 2, epoch)}
        assert second.unstored == []
    finally:
        second.close()


def test_what_another_node_took_over_meanwhile_stays_as_it_made_it(stem: Path) -> None:
    first = Stage(stem)
    with opened(first.factory) as store:
        lease = store.acquire_lease("a", 0)
        assert lease is not None
        store.commit([Put(call("taken", epoch=lease.epoch))])
    first.faults.cut()
    first.writer.put(call("taken", epoch=lease.epoch, version=2))
    first.loop.run(lambda: first.writer.stats.journaled == 1)
    first.crash()
    with opened(first.factory) as store:
        other = store.acquire_lease("b", 0)
        assert other is not None
        store.claim(["internal#0"], node="b", slot="internal#0", epoch=other.epoch)
        assert store.acquire_lease("a", 60) is not None
    second = Stage(stem, first.factory)
    try:
        second.loop.run(lambda: second.writer.stats.refused == 1)
        with opened(first.factory) as store:
            assert [(c.node, c.version) for c in store.calls()] == [("b", 2)]
    finally:
        second.close()


def test_a_store_that_fails_in_the_middle_of_a_replay_gets_the_rest_later(stem: Path) -> None:
    mine = journal(stem, segment=3_000)
    for n in range(30):
        mine.append([Put(call(str(n)))])
    mine.close()
    segments = len(list(stem.parent.iterdir()))
    assert segments > 3
    stage = Stage(stem)
    try:
        commits: list[int] = []
        real = stage.factory

        def fails(store_error: type[StoreError] = Unavailable) -> None:
            commits.append(1)
            if len(commits) % 5 == 0:
                raise store_error("it came and went")

        stage.faults.strike = fails  # type: ignore[method-assign]
        stage.loop.run(lambda: not list(stem.parent.iterdir()))
        del stage.faults.strike  # what we look with must not fail
        with opened(real) as store:
            assert len(store.calls()) == 30
    finally:
        stage.close()


def test_a_journal_outlives_the_descriptors_of_its_process(stem: Path) -> None:
    """Two that are open on one stem, as a predecessor that is not quite dead is: neither writes into the other's file."""
    old, new = journal(stem), journal(stem)
    old.append([Put(call(version=1))])
    new.append([Put(call(version=2))])
    old.append([Put(call(version=3))])
    old.close()
    new.close()
    assert sorted(versions(journal(stem))) == [1, 2, 3]
    assert os.listdir(stem.parent) == []
