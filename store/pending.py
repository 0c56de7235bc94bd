"""What waits before the store: one bounded queue, filled by the loop and emptied by the writer's thread."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from store.errors import StoreError
from store.interface import Outcome, Store, Write
from store.records import CallRecord
from store.settings import WriterSettings

T = TypeVar("T")

NEVER = 1 << 60


class Entry:
    """One write on its way, and who waits for it."""

    __slots__ = ("counted", "due", "key", "then", "told", "write")

    def __init__(self, write: Write, then: Callable[[Outcome], None] | None, due: float) -> None:
        self.write = write
        self.key = write.record.key
        self.then = then
        self.due = due
        "When who waits is told that it is at risk."
        self.told = False
        "Whether it was said to be at risk."
        self.counted = False
        "Whether it is settled for good: in the store, or in the journal."

    def newer_than(self, other: Entry) -> bool:
        mine, theirs = self.write.record, other.write.record
        return (mine.epoch, mine.version) > (theirs.epoch, theirs.version)


class Question(Generic[T]):
    """Something to be asked of the store, and who waits for the answer."""

    __slots__ = ("alarm", "patience", "question", "then")

    def __init__(self, question: Callable[[Store], T], then: Callable[[T | StoreError], None], patience: float) -> None:
        self.question = question
        self.then: Callable[[T | StoreError], None] | None = then
        self.patience = patience
        self.alarm: Any = None


Lot = list[Entry] | Question[Any]


class Bell:
    """Wakes the one thread that sleeps by it: a lock that is given back. A `threading.Condition` takes ten times as long."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Called by one thread only. It is heard by who waits, or waits next."""
        if self._lock.locked():
            self._lock.release()

    def still(self) -> None:
        """What was rung before is not meant."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout: float | None) -> None:
        self._lock.acquire(timeout=-1 if timeout is None else timeout)


class Queue:
    """In order, save that a write takes the place of an older one of the same record that still waits here.

    While it is diverted, the writes are the scribe's; questions stay with the thread of the store.
    """

    def __init__(self, settings: WriterSettings) -> None:
        self._settings = settings
        self._items: deque[Entry | Question[Any]] = deque()
        self._latest: dict[str, Entry] = {}
        self._lock = threading.Lock()
        self._bell = Bell()
        self._questions = 0
        self._wake_at = NEVER
        "How many items the thread sleeps for."
        self._last = 0.0
        "When the thread took the last lot."
        self._collecting = False
        "Whether it sleeps only for there to be more registrations."
        self._closed = False
        self.diverted = False
        self._scribe = Bell()
        "Rung under the lock: loop and thread both do it."
        self._taken: list[Entry] = []
        "What the thread has in hand."
        self._begun = False
        "Whether it is being committed."

    def __len__(self) -> int:
        return len(self._items)

    @property
    def overflows(self) -> bool:
        return len(self._items) > self._settings.queue

    def add(self, entry: Entry) -> Entry | None:
        """The entry that carries the write now, perhaps an older one; None if there is no room at all."""
        items, latest, key = self._items, self._latest, entry.key
        with self._lock:
            older = latest.get(key)
            if older is not None and (older.then is None or entry.then is None) and entry.newer_than(older):
                entry.write.replace(older.write)
                older.write = entry.write
                if entry.then is not None:
                    older.then, older.due = entry.then, entry.due
                if not (self._collecting and _hurries(older)):
                    return older
                self._wake_at = NEVER
                self._bell.ring()
                return older
            waiting = len(items)
            if waiting >= 2 * self._settings.queue:
                return None
            items.append(entry)
            latest[key] = entry
            if self.diverted:
                self._scribe.ring()
                return entry
            if waiting + 1 < self._wake_at and not (self._collecting and _hurries(entry)):
                return entry
            self._wake_at = NEVER  # it is on its way: the next one need not call it again
        self._bell.ring()
        return entry

    def ask(self, question: Question[Any]) -> None:
        with self._lock:
            self._items.append(question)
            self._questions += 1
        self._bell.ring()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        self._bell.ring()

    def take(self, timeout: float | None) -> Lot | None:
        """The next writes, or the next question; an empty list after the timeout; None when closed and empty.

        After a rest the first write is taken at once. Under load lots are taken one window apart, or when full; the window
        is wide while registrations come in a crowd. Diverted, it gives an empty list also when there is a question: nothing
        is asked before the writes that came before it.
        """
        pause = self._last + self._settings.window - time.monotonic()
        if pause > 0:
            # Woken for the first write already, it would sleep again for the rest of the window.
            self._sleep(self._settings.batch, pause)
        self._collect()
        if not self._items or self.diverted:
            self._sleep(1, timeout)
        with self._lock:
            if self.overflows:
                self._divert()
            if self.diverted or not self._items:
                return None if self._closed else []
            self._last = time.monotonic()
            return self._next_lot(self._settings.batch_limit)

    @property
    def asked(self) -> bool:
        """Does anybody wait here for an answer?"""
        return self._questions > 0

    def rest(self, pause: float) -> None:
        """Sleep, whatever is written meanwhile, but no longer than until somebody asks or it is closed."""
        self._sleep(NEVER, pause)

    @property
    def in_hand(self) -> bool:
        return bool(self._taken)

    def settled(self) -> None:
        """What was taken has its outcome."""
        self._taken = []

    # ---- past the store ----------------------------------------------------------------------------------------------

    def begin(self) -> bool:
        """What was taken is about to be committed; False if it was diverted meanwhile, and is not ours any more."""
        with self._lock:
            self._begun = bool(self._taken)
            return self._begun

    def failed(self) -> None:
        """It was not committed. Diverted now, it would be taken away."""
        with self._lock:
            self._begun = False

    def divert(self) -> None:
        """Writes go to the scribe from now on, those too that the thread of the store has in hand.

        What that is committing at this moment may reach the store all the same; it is written twice then, which changes
        nothing. What it has not begun to commit it finds taken away.
        """
        with self._lock:
            self._divert()

    def rejoin(self) -> None:
        """Writes go to the store again. The scribe has none in hand."""
        with self._lock:
            self.diverted = False

    def take_diverted(self) -> list[Entry]:
        """For the scribe: the writes that wait, if they are his."""
        with self._lock:
            if not self.diverted:
                return []
            items = self._items
            entries = [item for item in items if isinstance(item, Entry)]
            questions = [item for item in items if isinstance(item, Question)]
            items.clear()
            items.extend(questions)
            self._latest.clear()
            return entries

    def await_diverted(self) -> None:
        self._scribe.wait(None)

    def wake_scribe(self) -> None:
        with self._lock:
            self._scribe.ring()

    def take_questions(self) -> list[Question[Any]]:
        """Those that wait, whatever waits before them."""
        with self._lock:
            questions = [item for item in self._items if isinstance(item, Question)]
            for question in questions:
                self._items.remove(question)
            self._questions = 0
            return questions

    def _divert(self) -> None:
        if not self.diverted and self._wake_at != NEVER:
            # It sleeps until something comes, and all that comes now is the scribe's.
            self._wake_at = NEVER
            self._bell.ring()
        self.diverted = True
        taken, self._taken = self._taken, []
        self._items.extendleft(reversed(taken))
        if not self._begun:
            taken.clear()
        self._scribe.ring()

    # ---- below -------------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Wait for the end of the wide window, if so many registrations come that it is worth it, and nothing else."""
        settings, now = self._settings, time.monotonic()
        since, pause = now - self._last, self._last + settings.wide_window - now
        if pause > 0 and len(self._items) * settings.window >= settings.crowd * max(since, settings.window):
            with self._lock:
                # Questions and what is diverted are looked for there.
                self._collecting = not any(map(_hurries, self._items))
            if self._collecting:
                self._sleep(settings.batch, pause)
                self._collecting = False

    def _sleep(self, wake_at: int, timeout: float | None) -> None:
        """Until there are so many items that are ours, or a question, or it is closed."""
        with self._lock:
            if (len(self._items) >= wake_at and not self.diverted) or self._questions or self._closed:
                return
            if self.diverted and timeout is None:
                # It was diverted since the timeout was chosen.
                return
            self._bell.still()
            self._wake_at = wake_at
        self._bell.wait(timeout)
        with self._lock:
            self._wake_at = NEVER

    def _next_lot(self, limit: int) -> Lot:
        first = self._items[0]
        if isinstance(first, Question):
            self._items.popleft()
            self._questions -= 1
            return first
        lot: list[Entry] = []
        while self._items and len(lot) < limit:
            item = self._items[0]
            if isinstance(item, Question):
                break
            self._items.popleft()
            if self._latest.get(item.key) is item:
                del self._latest[item.key]
            lot.append(item)
        self._taken, self._begun = lot, False
        return lot


def _hurries(item: Entry | Question[Any]) -> bool:
    """Somebody waits for it who would notice: of registrations a phone repeats its request only after half a second."""
    return isinstance(item, Question) or (item.then is not None and isinstance(item.write.record, CallRecord))
