"""Commits without a thread, for a store that keeps nobody waiting: the memory of this very process.

A thread would cost more than the commit: it takes the interpreter from the loop and gives it back for each lot. So what one
turn of the loop has put is committed at the end of it, in the loop, and who waits hears at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from store.committer import WriterStats
from store.interface import Outcome, Store
from store.pending import Entry

CallLater = Callable[[float, Callable[[], None]], object]
Settle = Callable[[Sequence[Entry], Sequence[Outcome]], None]


class Direct:
    """What was put in this turn of the loop, and the store it goes to."""

    def __init__(self, store: Store, stats: WriterStats, *, settle: Settle, call_later: CallLater) -> None:
        """The store is open, and never fails."""
        self._store = store
        self._stats = stats
        self._settle = settle
        self._call_later = call_later
        self.lot: list[Entry] = []
        "What was put since the last commit."
        self._done: list[tuple[list[Entry], list[Outcome]]] = []
        "Committed, and not told yet."

    def add(self, entry: Entry) -> None:
        """It is told at the end of this turn: who put it must have come to an end before he hears of it."""
        if not self.lot and not self._done:
            self._call_later(0.0, self.tell)
        self.lot.append(entry)

    def commit(self) -> None:
        """Commit what there is, for who asks the store next."""
        lot, self.lot = self.lot, []
        if lot:
            self._done.append((lot, self._store.commit([entry.write for entry in lot])))
            self._stats.commits += 1
            self._stats.items += len(lot)

    def tell(self) -> None:
        """Commit, and tell who waits."""
        self.commit()
        done, self._done = self._done, []
        for lot, outcomes in done:
            self._settle(lot, outcomes)
