"""What was committed lately: a server that dies, or a replica that takes its place, may not have the last of it.

Replication is asynchronous, and so is an append-only file that is not flushed at each commit. So the last version of
each record is kept for a few seconds, or until all replicas have it, and offered again to the server that comes next.
What that one has already is stale there, and changes nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from store.interface import Write

TURN = 1.0
"Seconds of commits that make a generation."
KEEP = 3.0
"Seconds that a generation is kept at least: a server flushes its file each second, and may be late."
MOST = 20_000
"Writes kept in all: the oldest generations go beyond that."


@dataclass(slots=True)
class Generation:
    began: float
    writes: dict[str, Write] = field(default_factory=dict)
    offset: int | None = None
    "What the server had sent to its replicas when this was complete."


class Recent:
    """Shared by the stores of one process: a new connection is a new store, and this outlives it."""

    def __init__(self) -> None:
        self.run = ""
        "The server that all of it was committed to."
        self._generations: list[Generation] = []
        self._owed: deque[Write] = deque()
        "What the server that is there now has not been offered yet."
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return sum(len(generation.writes) for generation in self._generations)

    def note(self, writes: Sequence[Write], now: float) -> bool:
        """These are committed; True: a generation is full, ask the server how far its replicas are, and tell `turn`."""
        with self._lock:
            if not self._generations:
                self._generations.append(Generation(now))
            newest = self._generations[-1]
            for write in writes:
                newest.writes[write.record.key] = write
            return now - newest.began >= TURN

    def turn(self, offset: int, safe: int | None, now: float) -> None:
        """The newest generation is complete at this offset; forget those that are `safe` on all replicas, or too old."""
        with self._lock:
            if self._generations:
                self._generations[-1].offset = offset
            self._generations.append(Generation(now))
            kept = []
            for generation in self._generations:
                old = now - generation.began > KEEP
                replicated = safe is None or (generation.offset is not None and generation.offset <= safe)
                if not (old and replicated):
                    kept.append(generation)
            while len(kept) > 1 and sum(len(generation.writes) for generation in kept) > MOST:
                kept.pop(0)
            self._generations = kept

    def owe(self) -> int:
        """Another server: all that is kept has to be offered to it, of each record the last version. Returns how much."""
        with self._lock:
            latest: dict[str, Write] = {}
            for write in self._owed:
                latest[write.record.key] = write
            for generation in self._generations:
                for key, write in generation.writes.items():
                    latest.pop(key, None)
                    latest[key] = write
            self._owed = deque(latest.values())
            return len(latest)

    def owed(self, most: int) -> list[Write]:
        """The next of it, in the order in which it was committed; `paid` when the server has it."""
        with self._lock:
            return [self._owed[n] for n in range(min(most, len(self._owed)))]

    def paid(self, writes: Sequence[Write]) -> None:
        with self._lock:
            for write in writes:
                if self._owed and self._owed[0] is write:
                    self._owed.popleft()
