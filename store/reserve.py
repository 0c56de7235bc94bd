"""What the journal's disk does not take stays in memory, as long as there is room: it is lost only if we die before the store is back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from store.errors import StoreError
from store.interface import Write
from store.journal import Lot, Spill

log = logging.getLogger(__name__)

AGAIN = 1.0
"Seconds until a disk that was full is tried again."
MEMORY = 0
"The number of what is in memory: segments on disk begin with 1."


class Reserve:
    """A journal with a memory behind it, of so many records; of each only the last write."""

    def __init__(self, journal: Spill, limit: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._journal = journal
        self._limit = limit
        self._now = now
        self._lock = threading.Lock()
        self._held: dict[str, Write] = {}
        "By key of the record, the one that was written last at the end."
        self._try_at = 0.0

    @property
    def pending(self) -> bool:
        return bool(self._held) or self._journal.pending

    def open(self) -> None:
        self._journal.open()

    def close(self) -> None:
        with self._lock:
            if self._held:
                self._save()
        self._journal.close()

    def append(self, writes: Sequence[Write]) -> list[Write]:
        with self._lock:
            if self._held and self._now() < self._try_at:
                return self._hold(writes)
            try:
                # What is held came before.
                dropped = self._journal.append([*self._held.values(), *writes])
            except (StoreError, OSError) as error:
                self._try_at = self._now() + AGAIN
                dropped = self._hold(writes)
                log.error("the journal takes nothing, %d writes are in memory only: %s", len(self._held), error)
            else:
                self._held.clear()
            return dropped

    def flush(self) -> None:
        self._journal.flush()

    def oldest(self) -> Lot | None:
        lot = self._journal.oldest()
        if lot is not None:
            return lot
        with self._lock:
            return Lot(MEMORY, list(self._held.values())) if self._held else None

    def more_than(self, lot: Lot | None) -> bool:
        with self._lock:
            there = {id(write) for write in lot.writes} if lot is not None and lot.number == MEMORY else set()
            return self._journal.more_than(lot) or any(id(write) not in there for write in self._held.values())

    def note_given(self, lot: Lot, count: int) -> None:
        if lot.number != MEMORY:
            self._journal.note_given(lot, count)

    def forget(self, lot: Lot) -> None:
        if lot.number != MEMORY:
            self._journal.forget(lot)
            return
        with self._lock:
            for write in lot.writes:
                if self._held.get(write.record.key) is write:
                    del self._held[write.record.key]

    def _save(self) -> None:
        """The disk may have room by now, and nobody will ask it again."""
        try:
            self._journal.append(list(self._held.values()))
            self._journal.flush()
        except (StoreError, OSError) as error:
            log.error("%d writes are lost, the store is gone and so is the journal: %s", len(self._held), error)
        else:
            self._held.clear()

    def _hold(self, writes: Sequence[Write]) -> list[Write]:
        dropped = []
        for write in writes:
            record = write.record
            before = self._held.get(record.key)
            if before is not None:
                if (record.epoch, record.version) <= (before.record.epoch, before.record.version):
                    continue
                write.replace(before)
                del self._held[record.key]
            elif len(self._held) >= self._limit:
                dropped.append(self._held.pop(next(iter(self._held))))
            self._held[record.key] = write
        return dropped
