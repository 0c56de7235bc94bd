"""The writer's thread: it owns the store, commits what the queue gives it, and replays what is in the journal.

Order is kept per record by one rule: nothing new is committed while the journal holds something older. While the store is
slow, gone, or given what it has missed, the queue is diverted: the scribe journals all that comes. A thread that hangs in a call to the store is abandoned by the writer, which starts another committer in its place; the old one finds
that out when it comes back, and ends without touching anything they share.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from store.breaker import Breaker, State
from store.errors import StoreError, Unavailable
from store.interface import Factory, Outcome, Store, Write
from store.journal import Lot as Replay
from store.journal import Spill, latest
from store.pending import Entry, Lot, Question, Queue
from store.scribe import Kept, Lost, Scribe
from store.settings import WriterSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

RIGHT_OF_WAY = 0.0001
"Seconds that the loop waits for the interpreter at most while there is a replay: Python's own 5 ms add up in a dialog."
RESTS = 5.0
"Seconds that a replay rests at most, all in all: then it hurries, lest more comes than it commits."
ORDINARY = sys.getswitchinterval()


@dataclass(slots=True)
class WriterStats:
    """What the writer has done since it was made."""

    queued: int = 0
    "Writes that wait now."
    commits: int = 0
    items: int = 0
    "Writes that got an outcome from the store."
    at_risk: int = 0
    "Writes that were not committed in time."
    late: int = 0
    "Of those, the ones that a commit reached after all, without the journal."
    refused: int = 0
    "Fenced: we are not the owner any more."
    stale: int = 0
    journaled: int = 0
    replayed: int = 0
    lost: int = 0
    "Neither committed nor journaled: no room, or the store finds this one unacceptable."
    hung: int = 0
    "Threads given up in a call to the store."
    last_commit_seconds: float = 0.0
    commit_seconds: float = 0.0
    "All of them together."
    slowest: float = 0.0
    "Seconds that the longest took, since somebody looked and set it to 0."
    open: bool = False
    "Whether the breaker keeps us from the store."
    error: str = ""
    "What the store said last, while it fails."


class Settled(NamedTuple):
    """Entries with what became of them."""

    entries: Sequence[Entry]
    outcomes: Sequence[Outcome]


class Answered(NamedTuple):
    question: Question[Any]
    answer: Any


class Replayed(NamedTuple):
    """Writes of the journal that reached the store; nobody waits for them."""

    writes: Sequence[Write]
    outcomes: Sequence[Outcome]


Result = Settled | Answered | Replayed | Kept | Lost


@dataclass(eq=False)
class Shared:
    """What a committer shares with the writer, and leaves to its successor."""

    factory: Factory
    settings: WriterSettings
    queue: Queue
    journal: Spill
    scribe: Scribe
    breaker: Breaker
    stats: WriterStats
    tell: Callable[[Result], None]
    "Brings a result into the loop."
    clock_base: float = field(default_factory=lambda: time.time() - time.monotonic())
    "What the store's clock shows when the monotonic one is 0; by this host's, until the store was asked."
    heir: str = ""
    "The node whose crashed workers we succeed: what they left in the journal is ours to commit."
    lock: threading.Lock = field(default_factory=threading.Lock)


class Abandoned(Exception):
    """The writer has given this thread up."""


class Committer:
    def __init__(self, shared: Shared, *, may_ask: Callable[[], bool]) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._may_ask = may_ask
        "Whether there are not too many threads hanging in the store already."
        self._store: Store | None = None
        self._clock_due = 0.0
        self._gone = False
        self._busy_since: float | None = None
        self._patience = 0.0
        self._rests = 0.0
        "Seconds that this replay may still rest."
        self._asked: Question[Any] | None = None
        "What the thread has in hand to ask."
        self.thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    # ---- what the writer does with it, from the loop -----------------------------------------------------------------

    @property
    def busy(self) -> bool:
        return self._busy_since is not None or self._shared.queue.in_hand

    def busy_for(self, now: float) -> float:
        """Seconds since the call to the store began that is under way; 0 if none is."""
        since = self._busy_since
        return 0.0 if since is None else now - since

    def hangs(self, now: float) -> bool:
        return self.busy_for(now) > self._patience

    def abandon(self, why: str, *, forced: bool = False) -> bool:
        """Give the thread up, if it hangs indeed. What it had in hand is journaled: nobody knows what becomes of it."""
        with self._shared.lock:
            if self._busy_since is None and self.thread.is_alive() and not forced:
                return False
            self._gone = True
            asked, self._asked = self._asked, None
        self._shared.queue.divert()
        if asked is not None:
            self._shared.tell(Answered(asked, Unavailable(why)))
        # The thread may come back at this moment, and drop it.
        store = self._store
        if store is not None:
            store.abandon()
        return True

    # ---- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._live()
        except Abandoned:
            log.info("a store thread that was given up has come back")
        finally:
            self._drop_store()

    def _live(self) -> None:
        lot: Lot | None = []
        while lot is not None:
            try:
                self._attend(lot)
            except Abandoned:
                raise
            except Exception as error:
                # A driver's own mistake perhaps. It counts as a failure of the store, or it would be tried again at once.
                log.exception("the store's writer broke, and goes on")
                self._failed(Unavailable(f"{type(error).__name__}: {error}"))
                self._shared.queue.divert()
            lot = self._shared.queue.take(self._pause())

    def _pause(self) -> float | None:
        """How long to sleep if nothing comes."""
        breaker = self._shared.breaker
        if breaker.state is State.OPEN:
            return max(0.001, breaker.probe_at - time.monotonic())
        return 0.001 if self._shared.journal.pending or self._shared.queue.diverted else None

    def _attend(self, lot: Lot) -> None:
        queue = self._shared.queue
        if isinstance(lot, Question):
            self._answer(lot)
        elif lot:
            if not self._commit(lot):
                queue.divert()
        elif not self._ready():
            for question in queue.take_questions():
                self._shared.tell(Answered(question, self._not_there()))

    def _ready(self) -> bool:
        """Whether the store can be asked and the journal is empty."""
        breaker = self._shared.breaker
        while breaker.allows(time.monotonic()):
            try:
                store = self._opened()
                self._replay(store)
            except StoreError as error:
                self._failed(error)
                continue
            if breaker.state is State.PROBING:
                self._succeeded()
            return True
        return False

    def _opened(self) -> Store:
        if self._store is None:
            if not self._may_ask():
                raise Unavailable("too many threads hang in the store")
            store = self._shared.factory()
            self._store = store
            try:
                self._call(store.open)
            except StoreError:
                self._drop_store()
                raise
            self._clock_due = 0.0
        store = self._store
        now = time.monotonic()
        if now >= self._clock_due or self._shared.breaker.state is State.PROBING:
            before = time.monotonic()
            there = self._call(store.clock)
            self._shared.clock_base = there - (before + time.monotonic()) / 2
            self._clock_due = now + self._settings.clock_interval
        return store

    def _replay(self, store: Store) -> None:
        """Until the journal is empty and writes come here again."""
        shared = self._shared
        if not (shared.journal.pending or shared.queue.diverted):
            return
        # It is much work in Python, and the loop must get the interpreter whenever it wants it.
        sys.setswitchinterval(RIGHT_OF_WAY)
        self._rests = RESTS
        try:
            while (lot := shared.journal.oldest()) is not None or not shared.scribe.rejoin(None):
                if lot is not None:
                    self._replay_lot(store, lot)
        finally:
            if not self._gone:
                sys.setswitchinterval(ORDINARY)

    def _replay_lot(self, store: Store, lot: Replay) -> None:
        shared, limit = self._shared, self._settings.batch_limit
        newest = latest(lot.writes)
        if len(newest) > limit:
            # Nobody is to wait for so much.
            shared.queue.divert()
        elif shared.breaker.state is State.CLOSED and shared.queue.diverted:
            # Else what comes meanwhile would be journaled for ever, where much comes.
            shared.scribe.rejoin(lot)
        start = 0
        while start < len(newest):
            began = time.thread_time()
            # Little by little, unless somebody waits for the end of it.
            writes = newest[start : start + (limit if self._awaited else self._settings.batch)]
            start += len(writes)
            outcomes = self._inherit(store, writes, self._put(store, writes))
            shared.stats.replayed += len(writes)
            shared.tell(Replayed(writes, outcomes))
            self._succeeded()
            if start < len(newest):
                shared.journal.note_given(lot, start)
            self._rest(time.thread_time() - began)
        shared.journal.forget(lot)

    @property
    def _awaited(self) -> bool:
        """Does anybody wait for the end of the replay: what comes now, or who asks (a claim, the search for a call)?"""
        queue = self._shared.queue
        return not queue.diverted or queue.asked or self._asked is not None

    def _rest(self, worked: float) -> None:
        """As long as we had the interpreter: meanwhile it is the loop's alone, which gives it back at each call to the kernel.

        It ends when somebody asks, for he waits until all is replayed.
        """
        pause = min(worked, self._rests)
        if pause > 0 and not self._awaited:
            began = time.monotonic()
            self._shared.queue.rest(pause)
            self._rests -= time.monotonic() - began

    def _inherit(self, store: Store, writes: Sequence[Write], outcomes: list[Outcome]) -> list[Outcome]:
        """What was written under an epoch that is over by now is tried once more, in the name of its own node."""
        heir = self._shared.heir
        left = [
            n for n, outcome in enumerate(outcomes) if outcome is Outcome.FENCED and writes[n].record.node == heir != ""
        ]
        if left:
            for n in left:
                writes[n].heir = heir
            for n, outcome in zip(left, self._put(store, [writes[n] for n in left]), strict=True):
                outcomes[n] = outcome
        return outcomes

    def _commit(self, entries: list[Entry]) -> bool:
        """Commit them; False if they have to go to the journal."""
        queue = self._shared.queue
        # One failure may be a connection that went stale, so it is tried again on a new one.
        while self._ready():
            if not queue.begin():
                return True
            assert self._store is not None, "a store that is ready is open"
            try:
                outcomes = self._put(self._store, [entry.write for entry in entries])
            except StoreError as error:
                queue.failed()
                self._failed(error)
                continue
            queue.settled()
            self._succeeded()
            self._shared.tell(Settled(entries, outcomes))
            return True
        return False

    def _put(self, store: Store, writes: Sequence[Write]) -> list[Outcome]:
        started = time.monotonic()
        try:
            outcomes = self._call(lambda: store.commit(writes))
        except (Unavailable, Abandoned):
            raise
        except Exception as error:
            if len(writes) > 1:
                return [self._put(store, [write])[0] for write in writes]
            log.exception("the store does not accept a write of %s: %s", writes[0].record.key, error)
            self._shared.tell(Lost(writes))
            return [Outcome.AT_RISK]
        stats, took = self._shared.stats, time.monotonic() - started
        stats.commits += 1
        stats.items += len(writes)
        stats.last_commit_seconds = took
        stats.commit_seconds += took
        stats.slowest = max(stats.slowest, took)
        return outcomes

    def _answer(self, question: Question[Any]) -> None:
        if question.then is None:
            return
        self._asked = question
        try:
            answer = self._answer_to(question)
        finally:
            self._asked = None
        self._shared.tell(Answered(question, answer))

    def _answer_to(self, question: Question[Any]) -> Any:
        if not self._ready():
            return self._not_there()
        assert self._store is not None, "a store that is ready is open"
        store = self._store
        try:
            return self._call(lambda: question.question(store), question.patience)
        except Abandoned:
            raise
        except Unavailable as error:
            self._failed(error)
            return error
        except StoreError as error:
            return error
        except Exception as error:
            log.exception("a question to the store broke")
            return StoreError(f"the question broke: {error}")

    def _not_there(self) -> Unavailable:
        return Unavailable(self._shared.stats.error or "the store is not there")

    def _succeeded(self) -> None:
        """It has taken writes, or there are none to try it with. That it can be read is not enough: a disk may be full."""
        breaker, stats = self._shared.breaker, self._shared.stats
        if breaker.state is State.PROBING:
            log.warning("the store is back")
        breaker.succeeded()
        stats.open = False
        stats.error = ""

    def _failed(self, error: StoreError) -> None:
        breaker, stats = self._shared.breaker, self._shared.stats
        before = breaker.state
        breaker.failed(time.monotonic())
        stats.error = str(error)
        stats.open = breaker.state is State.OPEN
        if stats.open:
            self._shared.queue.divert()
        if before is State.CLOSED:
            log.warning("the store fails%s: %s", ", going on without it" if stats.open else ", trying again", error)
        self._drop_store()

    def _call(self, work: Callable[[], T], patience: float | None = None) -> T:
        """Run what may hang, under the eyes of the writer."""
        with self._shared.lock:
            if self._gone:
                raise Abandoned
            self._patience = max(self._settings.hang, patience or 0.0)
            self._busy_since = time.monotonic()
        try:
            return work()
        finally:
            with self._shared.lock:
                self._busy_since = None
                if self._gone:
                    raise Abandoned

    def _drop_store(self) -> None:
        store, self._store = self._store, None
        if store is None:
            return
        try:
            store.close()
        except StoreError as error:
            log.debug("while closing the store: %s", error)
