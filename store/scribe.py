"""Keeps in the journal what the store does not take in time: a thread of its own, for a disk may keep it waiting too.

While the queue is diverted, all writes come here, in their order. They are in the journal before anybody is told that they
are at risk, so that the end of this process does not lose them; to the disk itself they go a moment later, beside the
answers, for a flush takes as long as the disk likes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from store.interface import Write
from store.journal import Lot, Spill
from store.pending import Entry, Queue

log = logging.getLogger(__name__)

FLUSH_EVERY = 0.1
"Seconds between two flushes: what a power cut may cost at most."


class Kept(NamedTuple):
    """Entries that are in the journal now."""

    entries: Sequence[Entry]


class Lost(NamedTuple):
    """Writes that have no place: the journal is full, or its disk is; or the store finds them unacceptable."""

    writes: Sequence[Write]
    entries: Sequence[Entry] = ()
    "Who waits for some of them."


class Scribe:
    """Takes from the queue, writes to the journal, tells. The journal is read by the store's thread meanwhile."""

    def __init__(self, queue: Queue, journal: Spill, tell: Callable[[Kept | Lost], None], window: float) -> None:
        """`window`: seconds between two lots. The first write after a rest never waits."""
        self._queue = queue
        self._journal = journal
        self._tell = tell
        self._window = window
        self._lock = threading.Lock()
        "Held from the moment when writes are taken until they are in the journal."
        self._ending = threading.Event()
        self._unflushed = threading.Event()
        self._written = threading.Event()
        "The last has been written."
        self._writing = threading.Thread(target=self._run, name="store-scribe", daemon=True)
        self._flushing = threading.Thread(target=self._flush, name="store-flush", daemon=True)

    def start(self) -> None:
        self._writing.start()
        self._flushing.start()

    def finish(self, within: float) -> bool:
        """Keep what still waits, and end; False if the disk does not take it in time."""
        ends = time.monotonic() + within
        self._ending.set()
        self._queue.wake_scribe()
        if self._writing.is_alive():
            self._writing.join(within)
        self._written.set()
        self._unflushed.set()
        if self._flushing.is_alive():
            self._flushing.join(max(0.0, ends - time.monotonic()))
        return not (self._writing.is_alive() or self._flushing.is_alive())

    def rejoin(self, replaying: Lot | None) -> bool:
        """Give the writes back to the store's thread, if no others are in the journal than those that it replays."""
        with self._lock:
            if self._journal.more_than(replaying):
                return False
            self._queue.rejoin()
            return True

    # ---- the threads -------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            ending = self._ending.is_set()
            with self._lock:
                entries = self._queue.take_diverted()
                told = self._keep(entries) if entries else ()
            for each in told:
                self._tell(each)
            if entries:
                self._ending.wait(max(0.0, began + self._window - time.monotonic()))
            elif ending:
                return
            else:
                self._queue.await_diverted()

    def _keep(self, entries: Sequence[Entry]) -> list[Kept | Lost]:
        writes = [entry.write for entry in entries]
        try:
            dropped = self._journal.append(writes)
        except Exception:
            log.exception("%d writes are lost, the store is gone and the journal broke", len(entries))
            return [Lost(writes, entries)]
        self._unflushed.set()
        kept: list[Kept | Lost] = [Kept(entries)]
        return [*kept, Lost(dropped)] if dropped else kept

    def _flush(self) -> None:
        while self._unflushed.wait():
            self._unflushed.clear()
            last = self._written.is_set()
            try:
                self._journal.flush()
            except OSError as error:
                log.error("the journal cannot be flushed to the disk: %s", error)
            if last:
                return
            self._written.wait(FLUSH_EVERY)
