"""The way of a SIP process to the store: writes are collected, committed together, and never waited for in the loop.

One writer a process. What is put is encoded at once; who wants to know hears in the loop what became of it, at the
latest after the deadline. While the store is slow or gone the writes go to the journal, and from there to the store.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, TypeVar

from store.breaker import Breaker
from store.committer import Answered, Committer, Replayed, Result, Settled, Shared, WriterStats
from store.direct import Direct
from store.errors import StoreError, Unavailable
from store.interface import Factory, Outcome, Prompt, Put, Remove, Store, Write
from store.journal import MemoryJournal, Spill
from store.pending import Entry, Question, Queue
from store.records import CallRecord, Registration
from store.reserve import Reserve
from store.scribe import Kept, Lost, Scribe
from store.settings import WriterSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

Then = Callable[[Outcome], None]

BROKE = "what waited for the store broke"
LAST = 1.0
"Seconds that the journal's disk may take at the end."


class Alarm(Protocol):
    def cancel(self) -> None: ...


class CallLater(Protocol):
    def __call__(self, delay: float, callback: Callable[[], None], /) -> Alarm: ...


class Writer:
    """All its methods are called in the loop, and all it calls back is called there."""

    def __init__(
        self,
        factory: Factory,
        settings: WriterSettings | None = None,
        *,
        call_soon: Callable[[Callable[[], None]], object],
        call_later: CallLater,
        journal: Spill | None = None,
    ) -> None:
        """`call_soon` is the loop's `call_soon_threadsafe`, `call_later` its `call_later`."""
        self.settings = settings or WriterSettings()
        self.on_fenced: Callable[[str, int], None] | None = None
        "Told slot and epoch of a write that was refused: somebody else is the owner now."
        self.on_unstored: Callable[[Outcome | None, Registration | CallRecord], None] | None = None
        "Told of each write that is at risk (once), refused, or (None) has found no room at all."
        self.together: Callable[[], AbstractContextManager[object]] = nullcontext
        "Entered while a lot is told of: who hears may answer, and what he answers had better go out at once with the others'."
        self._call_soon = call_soon
        self._call_later = call_later
        self._results: deque[Result] = deque()
        self._waiters: deque[Entry] = deque()
        self._alarm: Alarm | None = None
        self._given_up: list[Committer] = []
        self._closed = False
        self._patience = self.settings.deadline * self.settings.detour
        queue = Queue(self.settings)
        journal = Reserve(journal or MemoryJournal(self.settings.queue), self.settings.queue)
        self._shared = Shared(
            factory,
            self.settings,
            queue,
            journal,
            Scribe(queue, journal, self._bring, self.settings.window),
            Breaker(self.settings.breaker),
            WriterStats(),
            self._bring,
        )
        self._committer = self._new_committer()
        self._direct: Direct | None = None
        if isinstance(factory, Prompt):
            self._direct = Direct(factory(), self._shared.stats, settle=self._settle_all, call_later=call_later)

    @property
    def stats(self) -> WriterStats:
        self._shared.stats.queued = len(self._shared.queue)
        return self._shared.stats

    @property
    def behind(self) -> bool:
        """Does the journal hold what the store has not got yet, or is it about to?"""
        return self._shared.journal.pending or self._shared.queue.diverted

    @property
    def heir(self) -> str:
        """The node whose crashed workers left the journal that is replayed here."""
        return self._shared.heir

    @heir.setter
    def heir(self, node: str) -> None:
        self._shared.heir = node

    @property
    def clock_offset(self) -> float:
        """Seconds by which the store's clock is ahead of this host's, as of the last look."""
        return self._shared.clock_base - (time.time() - time.monotonic())

    def store_time(self) -> float:
        """Seconds since 1970 by the store's clock, as far as we know it.

        Counted on by the monotonic clock: this host's may be set between two looks, and what is written with an older time
        than is stored would be refused.
        """
        return time.monotonic() + self._shared.clock_base

    @property
    def delay(self) -> float:
        """Seconds that the first of those who wait has waited: how far the store is behind."""
        waiters = self._waiters
        while waiters and waiters[0].then is None:
            waiters.popleft()
        return self.settings.deadline - (waiters[0].due - time.monotonic()) if waiters else 0.0

    @property
    def busy(self) -> bool:
        """Is there more than a full transaction before the store, and has the first of it waited for half its deadline?"""
        return len(self._shared.queue) > self.settings.batch_limit and self.delay > self.settings.deadline / 2

    @property
    def idle(self) -> bool:
        """Is everything that was put stored, and told to who waited for it?"""
        return not (self._waiters or self.behind or self._committer.busy or len(self._shared.queue))

    def start(self) -> None:
        """Open the journal and the store; what the journal holds is committed first. Raises `JournalFailed`."""
        self._shared.journal.open()
        self._shared.scribe.start()
        self._committer.thread.start()
        self._set_alarm()

    def close(self, within: float) -> None:
        """Commit what waits, or journal it when that takes longer than `within` seconds. Blocks so long."""
        if self._closed:
            return
        self._closed = True
        if self._direct is not None:
            self._direct.tell()
        self._shared.queue.close()
        if self._committer.thread.is_alive():
            self._committer.thread.join(within)
        if self._committer.thread.is_alive():
            self._committer.abandon("the writer is closed", forced=True)
        self._save_the_rest(max(within, LAST))
        self._deliver()
        while self._waiters:
            entry = self._waiters.popleft()
            if entry.then is not None:
                self._settle(entry, Outcome.AT_RISK)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # ---- what others ask of it ---------------------------------------------------------------------------------------

    def put(self, record: Registration | CallRecord, then: Then | None = None) -> None:
        """Store the record as it is now. `then` is called once, with STORED, STALE, FENCED, or AT_RISK."""
        self._enter(Put(record), then)

    def remove(self, record: Registration | CallRecord, then: Then | None = None) -> None:
        self._enter(Remove(record), then)

    def ask(
        self, question: Callable[[Store], T], then: Callable[[T | StoreError], None], deadline: float = 2.0
    ) -> None:
        """Ask the store in the writer's thread, behind the writes that were put before; `then` is called once."""
        asked = Question(question, then, deadline)
        if self._closed:
            self._call_soon(partial(self._tell_answer, asked, Unavailable("the writer is closed")))
            return
        late = Unavailable(f"the store did not answer within {deadline:g} s")
        asked.alarm = self._call_later(deadline, partial(self._tell_answer, asked, late))
        if self._direct is not None:
            self._direct.commit()
        self._shared.queue.ask(asked)
        self._set_alarm()

    # ---- in the loop -------------------------------------------------------------------------------------------------

    def _enter(self, write: Write, then: Then | None) -> None:
        shared = self._shared
        direct = self._direct
        if direct is not None and (direct.lot or self._nothing_before()):
            direct.add(Entry(write, then, 0.0))
            return
        now, deadline = time.monotonic(), self.settings.deadline
        entry = Entry(write, then, now + deadline)
        carrier = None if self._closed else shared.queue.add(entry)
        if carrier is None:
            shared.stats.lost += 1
            self._tell_unstored(None, write)
            self._call_soon(partial(self._settle, entry, Outcome.AT_RISK))
            return
        if then is not None:
            self._waiters.append(carrier)
            if self._committer.busy_for(now) > self._patience:
                # What is before it has waited too long already.
                shared.queue.divert()
        if self._alarm is None:
            self._set_alarm()

    def _nothing_before(self) -> bool:
        """Is there nothing that has to reach the store by the thread first: what a predecessor has left in the journal?"""
        shared = self._shared
        return not (self._closed or self.behind or shared.queue or self._committer.busy)

    def _bring(self, result: Result) -> None:
        """From the thread: into the loop with it."""
        self._results.append(result)
        try:
            self._call_soon(self._deliver)
        except RuntimeError:
            # The loop is closed already; `close` delivers what is left.
            log.debug("a result of the store came after the loop had ended")

    def _deliver(self) -> None:
        while self._results:
            match self._results.popleft():
                case Settled(entries, outcomes):
                    self._settle_all(entries, outcomes)
                case Kept(entries):
                    self._on_kept(entries)
                case Lost(writes, entries):
                    self._on_lost(writes, entries)
                case Replayed(writes, outcomes):
                    # Written under an epoch of the past perhaps: its refusal says nothing about who is the owner now.
                    self._count(writes, outcomes, ours=False)
                case Answered(question, answer):
                    self._tell_answer(question, answer)

    def _settle_all(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        with self.together():
            plain = self._tell_all(entries, outcomes)
        if not plain:
            self._count([entry.write for entry in entries], outcomes, ours=True)

    def _tell_all(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> bool:
        """Are all of them stored?"""
        plain = True
        for entry, outcome in zip(entries, outcomes, strict=True):
            if outcome is not Outcome.STORED:
                plain = False
                self._settle(entry, outcome)
                continue
            if entry.told and not entry.counted:
                self._shared.stats.late += 1
            entry.counted = True
            then = entry.then
            if then is not None:
                entry.then = None
                try:
                    then(outcome)
                except Exception:
                    log.exception(BROKE)
        return plain

    def _on_kept(self, entries: Sequence[Entry]) -> None:
        """They are in the journal: who waits is told so. What was committed all the same is not counted twice."""
        for entry in entries:
            if not entry.counted:
                entry.counted = True
                self._shared.stats.journaled += 1
                self._settle(entry, Outcome.AT_RISK)

    def _on_lost(self, writes: Sequence[Write], entries: Sequence[Entry]) -> None:
        self._shared.stats.lost += len(writes)
        for write in writes:
            self._tell_unstored(None, write)
        for entry in entries:
            entry.counted = True
            self._settle(entry, Outcome.AT_RISK)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        if outcome is Outcome.AT_RISK:
            if not entry.told:
                self._shared.stats.at_risk += 1
                self._tell_unstored(outcome, entry.write)
            entry.told = True
        else:
            if entry.told and not entry.counted:
                self._shared.stats.late += 1
            entry.counted = True
        then, entry.then = entry.then, None
        if then is not None:
            _call_back(then, outcome)

    def _count(self, writes: Sequence[Write], outcomes: Sequence[Outcome], *, ours: bool) -> None:
        """Count what was not simply stored, and tell once a lot who is not the owner any more."""
        fenced: dict[str, int] = {}
        for write, outcome in zip(writes, outcomes, strict=True):
            if outcome is Outcome.STALE:
                self._shared.stats.stale += 1
            elif outcome is Outcome.FENCED:
                self._shared.stats.refused += 1
                self._tell_unstored(outcome, write)
                fenced[write.record.slot] = write.record.epoch
        for slot, epoch in fenced.items():
            log.warning("the store refuses writes of slot %s under epoch %d", slot, epoch)
            if ours and self.on_fenced is not None:
                _call_back(partial(self.on_fenced, slot), epoch)

    def _tell_unstored(self, outcome: Outcome | None, write: Write) -> None:
        if self.on_unstored is not None:
            self.on_unstored(outcome, write.record)

    def _tell_answer(self, question: Question[Any], answer: Any) -> None:
        then, question.then = question.then, None
        if question.alarm is not None:
            question.alarm.cancel()
            question.alarm = None
        if then is not None:
            _call_back(then, answer)

    # ---- deadlines and hung threads ----------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        """One alarm for all: it runs while anything is under way, and never later than the next deadline."""
        if self._alarm is None and not self._closed:
            self._alarm = self._call_later(self._next_look(), self._look)

    def _next_look(self) -> float:
        if not self._waiters:
            return self._patience
        now, due = time.monotonic(), self._waiters[0].due
        early = due - self.settings.deadline + self._patience
        return min(self._patience, max(0.0, (early if early > now else due) - now))

    def _look(self) -> None:
        self._alarm = None
        # After a loop that stood still: what the store has done meanwhile is neither late nor at risk.
        self._deliver()
        now = time.monotonic()
        while self._waiters and (self._waiters[0].then is None or self._waiters[0].due <= now):
            entry = self._waiters.popleft()
            if entry.then is not None:
                self._settle(entry, Outcome.AT_RISK)
        if self._closed:
            return
        if self.delay >= self._patience or self._committer.busy_for(now) >= self._patience:
            self._shared.queue.divert()
        if self._committer.hangs(now) or not self._committer.thread.is_alive():
            self._replace_committer(now)
        if self._waiters or self._committer.busy or len(self._shared.queue):
            self._set_alarm()

    def _replace_committer(self, now: float) -> None:
        why = f"a call to the store took longer than {self.settings.hang:g} s"
        if not self._committer.abandon(why):
            return
        stats = self._shared.stats
        stats.hung += 1
        stats.open = True
        stats.error = why
        log.error("%s: giving its thread up, going on without the store", why)
        self._shared.breaker.trip(now)
        self._given_up.append(self._committer)
        self._committer = self._new_committer()
        self._committer.thread.start()

    def _new_committer(self) -> Committer:
        return Committer(self._shared, may_ask=self._may_ask)

    def _may_ask(self) -> bool:
        hanging = [committer for committer in self._given_up if committer.thread.is_alive()]
        self._given_up[:] = hanging
        return len(hanging) < self.settings.hung_threads

    def _save_the_rest(self, within: float) -> None:
        """Into the journal with what the store did not get."""
        shared = self._shared
        for asked in shared.queue.take_questions():
            self._tell_answer(asked, Unavailable("the writer is closed"))
        if len(shared.queue):
            shared.queue.divert()
        if shared.scribe.finish(within):
            shared.journal.close()
        else:
            log.error("the disk does not take the journal: %d writes are lost", len(shared.queue))


def _call_back(then: Callable[[Any], None], value: Any) -> None:
    """Who waited must not keep others from hearing."""
    try:
        then(value)
    except Exception:
        log.exception(BROKE)
