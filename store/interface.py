"""What every backend can do: the one contract of `memory`, SQL and whatever comes later.

A `Store` blocks. It lives in one thread or process, is opened there, and never in the loop that does the SIP: that one
writes through `store.writer`. Whoever may block (the lease keeper, the console's reader, a command) uses it as it is:

    with opened(open_store(dsn)) as store:
        store.read_lease()

Every method but `abandon` raises `StoreError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, Self

from store.records import CallRecord, Lease, Record, Registration, as_stored, encode

ANY_SLOT = "*"
"The fence that stands before all slots."

RULER = "@"
"Before a node's name: not a fence, but the last epoch under which this node took the lease; it stands among them."


FIRST = 1
"The version of a call's record that is written for the first time."

ANYBODY = "*"
"As heir of a write: whoever is active may go on with it, for nobody can know more of it than this; see `store.orphans`."


class Outcome(Enum):
    """What became of one write."""

    STORED = "stored"
    "Committed: it outlives us."
    STALE = "stale"
    "The store has the same version, or a newer one; nothing was changed."
    FENCED = "fenced"
    "Its epoch is over: we are not the owner any more."
    AT_RISK = "at risk"
    "Not committed in time; the writer goes on trying, but a crash of this host may lose it."


class Write:
    """One change of one record, as the record is now: it is encoded at once and may change afterwards."""

    __slots__ = ("data", "heir", "instead_of_first", "record")

    def __init__(self, record: Registration | CallRecord) -> None:
        self.heir = ""
        "The node that takes up what a crashed worker of its own left in the journal: see `is_fenced`."
        self.instead_of_first = False
        "Whether it took the place of the record's very first version before that had come anywhere."
        self.data = encode(record)
        # The copy is shallow: what a backend reads of it (key, owner, version, the columns) are plain values, save the
        # Call-IDs, which are fixed when their legs are made.
        self.record = copy(as_stored(record, self.data))

    @classmethod
    def restored(cls, record: Registration | CallRecord, data: bytes) -> Self:
        """The write that once was made of this record, from what `encode` made of it."""
        write = cls.__new__(cls)
        write.record = as_stored(record, data)
        write.data = data
        write.heir = ""
        write.instead_of_first = False
        return write

    @property
    def begins_call(self) -> bool:
        """Is no earlier version of this call known to the store, as far as its writer goes?"""
        return self.instead_of_first or (isinstance(self.record, CallRecord) and self.record.version == FIRST)

    def replace(self, older: Write) -> None:
        """It takes the place of one that waited, and bears its mark."""
        self.instead_of_first = older.begins_call


class Put(Write):
    """Insert the record, or replace the one with the same natural key.

    It is ignored when the stored version is the same or newer, refused when its epoch is older than the fence of its
    slot. Of a call, a newer epoch wins over any version, and an older one than the stored is refused like a fenced one.
    Of a registration, whose next refresh may reach any worker, the version alone decides: take the store's clock in
    microseconds, and no worker needs to know what another one wrote.
    """

    __slots__ = ()


class Remove(Write):
    """Delete the record with this natural key, by the rules of `Put`. What is not there counts as stored."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Description:
    """What an operator wants to know of a store."""

    server: str
    "What it calls itself, with its version."
    version: int
    "Of the tables, or what stands for them; 0: nothing is there yet."
    wanted: int
    "The version that this release works with."
    steps: tuple[str, ...] = ()
    "What `open` would do to get there, statement by statement."
    remarks: tuple[str, ...] = ()
    "What had better be mended."
    usable: bool = True
    "False: a newer release has made something of it that this one cannot work with."


@dataclass(frozen=True, slots=True)
class Heritage:
    """What one store must have from another whose records it is given: epochs go on, and nonces stay good."""

    epoch: int
    secrets: dict[str, bytes] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What has become of registrations since a watermark."""

    watermark: str
    "What to ask with the next time."
    registrations: Sequence[Registration] = ()
    gone: Sequence[str] = ()
    "Keys of those that are no more."
    lag: float = 0.0
    "Seconds between the last change that is in here and the last there is."
    more: bool = False
    "There is more: ask again at once."


class Store(Protocol):
    def open(self) -> None:
        """Connect, and bring the tables up to date."""

    def close(self) -> None:
        """Let go; closing twice is no error, and opening again is allowed."""

    def abandon(self) -> None:
        """From another thread: commit nothing any more, come back from what you are doing if you can."""

    def clock(self) -> float:
        """Seconds since 1970 by the store."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """All of it in one transaction, in this order; one outcome for each write."""

    def registrations(
        self, *, profile: str | None = None, user: str | None = None, host: str | None = None
    ) -> list[Registration]:
        """Those that are not past due."""

    def expire_registrations(self, profile: str) -> list[Registration]:
        """Remove those past due and return them; of two that ask at once only one gets each."""

    def calls(self, *, slots: Sequence[str] | None = None) -> list[CallRecord]:
        """The live ones."""

    def call_by_call_id(self, call_id: str) -> CallRecord | None:
        """The call that has this Call-ID on one of its legs: a live one, or one whose tombstone is not past due."""

    def sweep_calls(self) -> int:
        """Delete the tombstones past due; returns how many."""

    def call_slots(self) -> dict[str, int]:
        """How many live calls each slot has."""

    def claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int = 500) -> list[CallRecord]:
        """Become the owner of live calls of these slots, at most `limit` of them: call until it returns none.

        It takes the records whose epoch is older than `epoch`, and writes node, slot, epoch and the next version into
        them; of two claimers only one gets each. The fences of the slots are raised to `epoch`, so that who owned them
        before writes no more. Raises `Fenced` if `epoch` itself is over.
        """

    def flush_calls(self, profile: str | None) -> int:
        """Delete all calls of a profile, or of all; returns how many."""

    def raise_fence(self, slot: str, lease: Lease | None = None) -> int:
        """A new epoch, greater than any before. Writes for `slot` (`*`: all) under an older one are refused from now on.

        With a lease: only as long as it is its holder's; raises `LeaseLost`. Who has slept through its end must not
        fence off whoever rules now.
        """

    def acquire_lease(self, holder: str, ttl: float) -> Lease | None:
        """Take the lease, under a new epoch that fences all slots in the same transaction.

        None: somebody else holds a live one. Taking what one holds already begins a new epoch too: who asks has lost
        his lease, by a restart perhaps, and what he started before must not write any more.
        """

    def renew_lease(self, lease: Lease, ttl: float) -> Lease:
        """Prolong it to `ttl` from now; raises `LeaseLost`. One that has run out but that nobody took is prolonged."""

    def release_lease(self, lease: Lease) -> None:
        """Give it back, so that the next one need not wait. No error if it is lost already."""

    def read_lease(self) -> Lease | None:
        """The lease as it stands, run out or not; None if nobody holds it."""

    def secret(self, name: str) -> bytes:
        """32 random bytes, made when first asked for, the same for all who share the store."""

    def changes(self, since: str) -> Changes | None:
        """What anybody changed since a watermark; `` (nothing) gives the watermark of now.

        None: the store's account of changes does not reach back so far: read all of it again.
        """

    # ---- for operators -----------------------------------------------------------------------------------------------

    def describe(self) -> Description:
        """Connects where it is not open yet, and changes nothing."""

    def heritage(self) -> Heritage: ...

    def inherit(self, heritage: Heritage) -> None:
        """Give out greater epochs than that from now on, and take the secrets in place of one's own."""


Factory = Callable[[], Store]


class Prompt:
    """A factory whose stores keep nobody waiting and never fail: a loop may commit by them itself."""

    def __call__(self) -> Store:
        raise NotImplementedError


@contextmanager
def opened(factory: Factory) -> Iterator[Store]:
    """A store for the length of a `with`, for those who may block."""
    store = factory()
    store.open()
    try:
        yield store
    finally:
        store.close()


def fence_of(fences: dict[str, int], record: Record) -> int:
    """The oldest epoch that may still write this record."""
    return max(fences.get(record.slot, 0), fences.get(ANY_SLOT, 0))


def is_fenced(write: Write, fences: dict[str, int]) -> bool:
    """Is the epoch of this write over, and nobody its heir?

    What is in a journal was written before its writer was fenced off. The node's own next worker may still commit it, as
    long as no other node has ruled since: what that one found, and what it made of it, is not known here. A record that
    somebody has claimed meanwhile has a newer epoch, and stays as it is.
    """
    record = write.record
    if record.epoch >= fence_of(fences, record):
        return False
    if write.heir == ANYBODY:
        return False
    if not write.heir or write.heir != record.node:
        return True
    mine = RULER + write.heir
    return any(epoch > record.epoch for name, epoch in fences.items() if name.startswith(RULER) and name != mine)


def judge(write: Write, fences: dict[str, int], stored: tuple[int, int] | None) -> Outcome:
    """What becomes of a write, given the epoch and version that are stored under its key, if any are."""
    record = write.record
    if is_fenced(write, fences):
        return Outcome.FENCED
    if stored is None:
        return Outcome.STORED
    epoch, version = stored
    if isinstance(record, CallRecord) and record.epoch != epoch:
        return Outcome.STORED if record.epoch > epoch else Outcome.FENCED
    return Outcome.STORED if record.version > version else Outcome.STALE
