"""A host died while the store was gone, and came back when another node had taken over: what its journal still gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from store.backends import open_store
from store.errors import Unavailable
from store.interface import Outcome, Put, Remove, Store, Write, opened
from store.journal import Journal, JournalFailed, MemoryJournal
from store.orphans import Given, WrongStore, give
from store.pending import Entry, Queue
from store.records import CallRecord
from store.reserve import Reserve
from store.settings import JournalSettings, WriterSettings
from store.writer import Writer
from tests.store.backends import BACKENDS, Backend
from tests.store.faults import LIMIT, Faults, Loop
from tests.store.samples import call, registration

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED


@pytest.fixture(params=[backend for backend in BACKENDS if backend.shared], ids=lambda backend: backend.name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    backend: Backend = request.param
    with backend.empty(tmp_path) as dsn, opened(open_store(dsn)) as store:
        yield store


class Host:
    """Node `a`, which ruled, and whose journal is what is left of it."""

    def __init__(self, store: Store, directory: Path, node: str = "a") -> None:
        self.store = store
        self.directory = directory / "journal"
        self.node = node
        lease = store.acquire_lease(node, 0)
        assert lease is not None
        self.epoch = lease.epoch

    def call(self, uuid: str, version: int, **changes: Any) -> CallRecord:
        return call(uuid, node=self.node, version=version, epoch=self.epoch, **changes)

    def journal(self, *writes: Write, token: str = "internal.0", segment: int = 4 << 20) -> None:
        journal = Journal(self.directory / token, JournalSettings(segment=segment))
        journal.open()
        for write in writes:
            journal.append([write])
        journal.close()

    def give(self, **kwargs: Any) -> Given:
        return give(self.store, self.directory, **kwargs)


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    return Host(store, tmp_path)


def taken_over(store: Store) -> int:
    """By node `b`, which claims what there is; its epoch."""
    lease = store.acquire_lease("b", 60)
    assert lease is not None
    store.claim(["internal#0"], node="b", slot="internal#0", epoch=lease.epoch)
    return lease.epoch


def test_a_call_that_the_store_never_heard_of_comes_back_and_can_be_claimed(store: Store, host: Host) -> None:
    host.journal(Put(host.call("new", 1, state="routing")), Put(host.call("new", 2)), Put(host.call("new", 3)))
    epoch = taken_over(store)
    assert host.give() == Given(stored=1, calls=1)
    found = store.call_by_call_id("new-b@sip")
    assert found is not None
    assert (found.uuid, found.version, found.epoch) == ("new", 3, host.epoch)
    claimed = store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch)
    assert [(c.uuid, c.node, c.epoch) for c in claimed] == [("new", "b", epoch)]
    # The journal is empty, and were it not, nothing would come of it.
    assert host.give() == Given()
    host.journal(Put(host.call("new", 1, state="routing")), Put(host.call("new", 4)))
    assert host.give() == Given(refused=1)
    assert [(c.uuid, c.node, c.version) for c in store.calls()] == [("new", "b", 4)]


def test_a_call_that_was_claimed_meanwhile_stays_as_its_new_owner_made_it(store: Store, host: Host) -> None:
    """Its first version is in the journal too: nobody knew whether the store had taken it."""
    store.commit([Put(host.call("there", 1, state="routing"))])
    host.journal(Put(host.call("there", 1, state="routing")), Put(host.call("there", 2)))
    epoch = taken_over(store)
    assert host.give() == Given(refused=1)
    assert [(c.uuid, c.node, c.epoch, c.version) for c in store.calls()] == [("there", "b", epoch, 2)]


def test_a_call_that_ended_elsewhere_does_not_revive(store: Store, host: Host) -> None:
    """Not while its tombstone stands, and not when that is swept: the journal does not have its beginning."""
    store.commit([Put(host.call("tomb", 1)), Put(host.call("swept", 1))])
    host.journal(Put(host.call("tomb", 2)), Put(host.call("swept", 2)))
    epoch = taken_over(store)
    far = store.clock() + 64
    store.commit([Put(call("tomb", node="b", epoch=epoch, version=3, state="ended", expires=far))])
    store.commit([Put(call("swept", node="b", epoch=epoch, version=3, state="ended", expires=1.0))])
    assert store.sweep_calls() == 1
    assert host.give() == Given(refused=2)
    assert store.calls() == []


def test_a_call_that_ended_in_the_journal_is_not_given(store: Store, host: Host) -> None:
    """Its end may lie in a later segment than its life."""
    ended = {"state": "ended", "expires": 1.0}
    host.journal(Put(host.call("short", 1)), Put(host.call("short", 2, **ended)))
    host.journal(Put(host.call("long", 1)), Put(host.call("long", 2, **ended)), token="internal.1", segment=1)
    host.journal(Put(host.call("gone", 1)), Remove(host.call("gone", 2)), token="internal.2", segment=1)
    taken_over(store)
    host.give()
    assert store.calls() == []


def test_an_end_in_another_segment_than_the_life_is_heard_of_even_by_who_begins_again(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after the first segment, or between the segments of two slots."""
    ended = {"state": "ended", "expires": 1.0}
    host.journal(Put(host.call("long", 1)), Put(host.call("long", 2, **ended)), Put(host.call("on", 1)), segment=1)
    host.journal(Put(host.call("moved", 1)))
    host.journal(Put(host.call("moved", 2, **ended)), Put(host.call("on", 2)), token="internal.1")
    taken_over(store)
    commit, committed = store.commit, []

    def fails(writes: Sequence[Write]) -> list[Outcome]:
        if len(committed) == 3:
            raise Unavailable("it went away")
        committed.append(writes)
        return commit(writes)

    monkeypatch.setattr(store, "commit", fails)
    with pytest.raises(Unavailable):
        host.give()
    assert store.calls() == []
    monkeypatch.undo()
    assert host.give().calls == 1
    assert [(c.uuid, c.version) for c in store.calls()] == [("on", 2)]


def test_a_call_whose_first_version_was_overtaken_in_the_queue_comes_back(store: Store, host: Host) -> None:
    """The second took its place before either was written anywhere; in memory behind a full disk it may happen again."""
    queue = Queue(WriterSettings())
    queue.add(Entry(Put(host.call("new", 1, state="routing")), None, 0.0))
    queue.add(Entry(Put(host.call("new", 2, state="ringing")), None, 0.0))
    queue.add(Entry(Put(host.call("old", 7)), None, 0.0))
    queue.add(Entry(Put(host.call("old", 8)), None, 0.0))
    queue.divert()
    kept = Reserve(MemoryJournal(0), 10)
    kept._hold([entry.write for entry in queue.take_diverted()])
    kept._hold([Put(host.call("new", 3))])
    host.journal(*kept._held.values())
    taken_over(store)
    assert host.give() == Given(stored=1, calls=1, refused=1)
    assert [(c.uuid, c.version, c.state) for c in store.calls()] == [("new", 3, "answered")]


def test_a_call_that_ended_elsewhere_after_a_replay_that_was_cut_short_does_not_revive(
    store: Store, host: Host
) -> None:
    """The store was back, and the host died when the half was replayed. The other node has found that half."""
    host.journal(*(Put(host.call(f"{n:03d}", 1)) for n in range(100)), segment=1 << 20)
    half = replayed_in_part(host)
    assert 0 < len(half) < 100
    epoch = taken_over(store)
    for version in (3, 4):
        store.commit(
            [Put(call(uuid, node="b", epoch=epoch, version=version, state="ended", expires=1.0)) for uuid in half]
        )
    assert store.sweep_calls() == len(half)
    assert host.give() == Given(stored=100 - len(half), calls=100 - len(half), refused=len(half))
    assert {c.uuid for c in store.calls()} == {f"{n:03d}" for n in range(100)} - half
    assert list(host.directory.iterdir()) == []


def replayed_in_part(host: Host) -> set[str]:
    """By the writer of a worker, whose store is gone for good after the first commit; what it has given."""
    given: list[Write] = []
    again = threading.Event()

    def brief() -> Store:
        store = Faults(lambda: host.store).factory()
        commit = store.commit

        def once(writes: Sequence[Write]) -> list[Outcome]:
            if given:
                again.set()
                raise Unavailable("gone for good")
            given.extend(writes)
            return commit(writes)

        store.commit = once  # type: ignore[method-assign]
        return store

    loop, journal = Loop(), Journal(host.directory / "internal.0")
    settings = WriterSettings(batch=16, batch_limit=64)
    writer = Writer(brief, settings, call_soon=loop.call_soon, call_later=loop.call_later, journal=journal)
    writer.start()
    assert again.wait(LIMIT)
    writer.close(LIMIT)
    host.store.open()
    return {write.record.uuid for write in given if isinstance(write.record, CallRecord)}


def test_what_was_written_for_another_store_is_not_given_to_this_one(store: Store, host: Host) -> None:
    """And is not forgotten either."""
    host.journal(Put(call("elsewhere", epoch=host.epoch + 1_000_000)))
    for _ in range(2):
        with pytest.raises(WrongStore, match=r"start a node on it first"):
            host.give()
    assert store.calls() == []


def test_a_segment_that_is_torn_is_named_and_kept(store: Store, host: Host) -> None:
    host.journal(Put(host.call("whole", 1)), Put(host.call("torn", 1)), Put(host.call("behind", 1)))
    (segment,) = host.directory.iterdir()
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    taken_over(store)
    given = host.give()
    assert [c.uuid for c in store.calls()] == ["whole"]
    assert [(path, torn > 0) for path, torn in given.torn] == [(segment.with_name(segment.name + ".torn"), True)]
    assert given.torn[0][0].read_bytes() == data
    assert host.give() == Given()


def test_a_segment_that_cannot_be_read_is_named_and_stays(
    store: Store, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.journal(Put(host.call("new", 1)))
    (segment,) = host.directory.iterdir()
    taken_over(store)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", lambda _path: (_ for _ in ()).throw(PermissionError(13, "not permitted")))
        with pytest.raises(JournalFailed, match=f"{segment}: cannot be read"):
            host.give()
    assert host.give() == Given(stored=1, calls=1)


def test_both_hosts_may_have_died_one_after_the_other(store: Store, host: Host, tmp_path: Path) -> None:
    """Each has its own journals, and they may be given in any order, and again."""
    other = Host(store, tmp_path / "b", node="b")
    host.journal(Put(host.call("only-a", 1)))
    other.journal(Put(other.call("only-b", 1)), Put(other.call("only-b", 2)))
    assert store.acquire_lease("a", 60) is not None
    assert [each.give().calls for each in (other, host, other, host)] == [1, 1, 0, 0]
    assert sorted((c.uuid, c.node, c.version) for c in store.calls()) == [("only-a", "a", 1), ("only-b", "b", 2)]


def test_all_else_goes_by_the_rules_of_a_replay(store: Store, host: Host) -> None:
    now = registration("1000", node="a", epoch=host.epoch, version=5)
    store.commit([Put(now), Put(host.call("there", 1))])
    host.journal(
        Put(registration("1000", node="a", epoch=host.epoch, version=4)),
        Put(registration("1001", node="a", epoch=host.epoch, version=4)),
        Put(host.call("there", 2)),
    )
    # Nobody else has ruled: what it wrote is in its own name.
    assert host.give() == Given(stored=2, stale=1)
    assert [(c.uuid, c.version) for c in store.calls()] == [("there", 2)]
    assert sorted((r.sip_user, r.version) for r in store.registrations()) == [("1000", 5), ("1001", 4)]


def test_the_journal_of_a_slot_that_is_served_is_its_workers(store: Store, host: Host) -> None:
    host.journal(Put(host.call("mine", 1)))
    host.journal(Put(host.call("theirs", 1)), token="external.0")
    taken_over(store)
    assert host.give(served=["external.0"]) == Given(stored=1, calls=1)
    assert [c.uuid for c in store.calls()] == ["mine"]
    assert host.give() == Given(stored=1, calls=1)
