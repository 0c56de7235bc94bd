"""The store in this process's memory: for tests, and for a node that need not outlive its process.

Stores of one name share one book, whatever thread they live in. Other processes do not see it.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from store.errors import Fenced, LeaseLost, Unavailable
from store.interface import (
    ANY_SLOT,
    RULER,
    Changes,
    Description,
    Heritage,
    Outcome,
    Prompt,
    Put,
    Write,
    judge,
)
from store.records import CallRecord, Lease, Registration, decode_call, decode_registration, encode, original, storable

KEPT = 10_000
"Changes that those who follow are told of."


class Row(NamedTuple):
    epoch: int
    version: int
    data: bytes


@dataclass
class Book:
    """What all stores of one name share."""

    lock: threading.RLock = field(default_factory=threading.RLock)
    registrations: dict[str, Row] = field(default_factory=dict)
    calls: dict[str, Row] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    lease: Lease | None = None
    secrets: dict[str, bytes] = field(default_factory=dict)
    changed: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    "Keys of the registrations that were changed last."
    changes: int = 0
    "How many were changed since it was made."


_books: dict[str, Book] = {}


def memory_store(name: str, clock: Callable[[], float] = time.time) -> MemoryFactory:
    return MemoryFactory(_books.setdefault(name, Book()), clock)


@dataclass(frozen=True)
class MemoryFactory(Prompt):
    """Makes the stores of one book."""

    book: Book
    clock: Callable[[], float]

    def __call__(self) -> MemoryStore:
        return MemoryStore(self.book, self.clock)


class MemoryStore:
    def __init__(self, book: Book, clock: Callable[[], float] = time.time) -> None:
        self.book = book
        self.clock = clock
        self._abandoned = False

    def open(self) -> None:
        self._abandoned = False

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        self._abandoned = True

    # ---- records ---------------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        with self.book.lock:
            if self._abandoned:
                raise Unavailable("this store has been given up")
            return [self._write(write) for write in writes]

    def registrations(
        self, *, profile: str | None = None, user: str | None = None, host: str | None = None
    ) -> list[Registration]:
        wanted = [
            (name, storable(value))
            for name, value in (("profile_name", profile), ("sip_user", user), ("sip_host", host))
            if value is not None
        ]
        now = self.clock()
        return [
            r
            for r in self._registrations()
            if not 0 < r.expires <= now and all(storable(getattr(r, name)) == value for name, value in wanted)
        ]

    def expire_registrations(self, profile: str) -> list[Registration]:
        with self.book.lock:
            now = self.clock()
            due = [r for r in self._registrations() if r.profile_name == profile and 0 < r.expires <= now]
            for registration in due:
                del self.book.registrations[_key(registration)]
                self._note(_key(registration))
            return due

    def calls(self, *, slots: Sequence[str] | None = None) -> list[CallRecord]:
        return [c for c in self._calls() if c.state != "ended" and (slots is None or c.slot in slots)]

    def call_by_call_id(self, call_id: str) -> CallRecord | None:
        now = self.clock()
        for call in self._calls():
            if storable(call_id) in map(storable, call.call_ids) and (call.state != "ended" or call.expires > now):
                return call
        return None

    def sweep_calls(self) -> int:
        with self.book.lock:
            now = self.clock()
            return self._drop_calls(lambda call: call.state == "ended" and call.expires <= now)

    def call_slots(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for call in self.calls():
            counts[call.slot] = counts.get(call.slot, 0) + 1
        return counts

    def claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int = 500) -> list[CallRecord]:
        with self.book.lock:
            fences = self.book.fences
            if epoch < max(fences.get(slot, 0), fences.get(ANY_SLOT, 0)):
                raise Fenced(slot, epoch)
            fences.update({name: max(fences.get(name, 0), epoch) for name in slots})
            self.book.epoch = max(self.book.epoch, epoch)
            taken = [call for call in self.calls(slots=slots) if call.epoch < epoch][:limit]
            for call in taken:
                call.node, call.slot, call.epoch, call.version = node, slot, epoch, call.version + 1
                self.book.calls[call.key] = Row(epoch, call.version, encode(call))
            return taken

    def flush_calls(self, profile: str | None) -> int:
        with self.book.lock:
            return self._drop_calls(lambda call: profile is None or call.profile_name == profile)

    # ---- fences, lease, secrets --------------------------------------------------------------------------------------

    def raise_fence(self, slot: str, lease: Lease | None = None) -> int:
        with self.book.lock:
            if lease is not None and not self._holds(lease):
                raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
            # As in every store: one that was lost gives no epoch out twice.
            self.book.epoch = max(self.book.epoch + 1, int(self.clock() * 1000))
            self.book.fences[slot] = self.book.epoch
            return self.book.epoch

    def acquire_lease(self, holder: str, ttl: float) -> Lease | None:
        with self.book.lock:
            now = self.clock()
            held = self.book.lease
            if held is not None and held.holder != holder and held.until > now:
                return None
            self.book.lease = Lease(holder=holder, epoch=self.raise_fence(ANY_SLOT), until=now + ttl, now=now)
            self.book.fences[RULER + holder] = self.book.epoch
            return self.book.lease

    def renew_lease(self, lease: Lease, ttl: float) -> Lease:
        with self.book.lock:
            if not self._holds(lease):
                raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
            now = self.clock()
            self.book.lease = Lease(holder=lease.holder, epoch=lease.epoch, until=now + ttl, now=now)
            return self.book.lease

    def release_lease(self, lease: Lease) -> None:
        with self.book.lock:
            if self._holds(lease):
                self.book.lease = None

    def read_lease(self) -> Lease | None:
        with self.book.lock:
            held = self.book.lease
            return held and Lease(holder=held.holder, epoch=held.epoch, until=held.until, now=self.clock())

    def secret(self, name: str) -> bytes:
        with self.book.lock:
            return self.book.secrets.setdefault(name, os.urandom(32))

    def changes(self, since: str) -> Changes | None:
        with self.book.lock:
            book = self.book
            new = book.changes - int(since) if since else 0
            if new > len(book.changed):
                return None
            there, gone = [], []
            for key in dict.fromkeys(list(book.changed)[len(book.changed) - new :]):
                row = book.registrations.get(key)
                if row is not None:
                    there.append(decode_registration(row.data))
                else:
                    gone.append(original(key))
            return Changes(str(book.changes), there, gone)

    # ---- for operators -----------------------------------------------------------------------------------------------

    def describe(self) -> Description:
        return Description("the memory of this process", 1, 1, remarks=("it ends with this process",))

    def heritage(self) -> Heritage:
        with self.book.lock:
            return Heritage(self.book.epoch, dict(self.book.secrets))

    def inherit(self, heritage: Heritage) -> None:
        with self.book.lock:
            self.book.epoch = max(self.book.epoch, heritage.epoch)
            self.book.secrets.update(heritage.secrets)

    # ---- below -------------------------------------------------------------------------------------------------------

    def _write(self, write: Write) -> Outcome:
        rows = self.book.calls if isinstance(write.record, CallRecord) else self.book.registrations
        key = write.record.key
        row = rows.get(key)
        outcome = judge(write, self.book.fences, row and (row.epoch, row.version))
        if outcome is Outcome.STORED:
            if isinstance(write, Put):
                rows[key] = Row(write.record.epoch, write.record.version, write.data)
            else:
                rows.pop(key, None)
            if isinstance(write.record, Registration):
                self._note(key)
        return outcome

    def _note(self, key: str) -> None:
        self.book.changed.append(key)
        self.book.changes += 1

    def _registrations(self) -> list[Registration]:
        with self.book.lock:
            return [decode_registration(row.data) for row in self.book.registrations.values()]

    def _calls(self) -> list[CallRecord]:
        with self.book.lock:
            return [decode_call(row.data) for row in self.book.calls.values()]

    def _drop_calls(self, unwanted: Callable[[CallRecord], bool]) -> int:
        gone = [call.key for call in self._calls() if unwanted(call)]
        for key in gone:
            del self.book.calls[key]
        return len(gone)

    def _holds(self, lease: Lease) -> bool:
        held = self.book.lease
        return held is not None and (held.holder, held.epoch) == (lease.holder, lease.epoch)


def _key(registration: Registration) -> str:
    return storable(registration.key)
