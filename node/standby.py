"""From standby to owner of a slot: the claim of what the fallen owner left, and how long the role may be held.

What may belong to a record that is not here yet is held while the claim runs, and taken up after it: an INVITE that
comes again must not become a second call, and a request in a dialog must not be answered 481.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, Response
from store.errors import Fenced, StoreError
from store.interface import Store
from store.records import CallRecord

log = logging.getLogger(__name__)

HELD = 20_000
"Messages that may wait for the end of a claim; retransmissions take no room of their own."
CLAIM_WITHIN = 10.0
"Seconds one batch of a claim may take."
SLICE = 16
"Calls revived in one turn of the loop: some ten milliseconds."
AGAIN = 0.1
"Seconds until a claim that the store did not answer is tried again."
PATIENCE = 3.0
"Seconds of a store that does not answer after which what is held goes on without the records."

T = TypeVar("T")
Message = Request | Response


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Asker(Protocol):
    """The writer, as far as it answers questions."""

    def ask(
        self, question: Callable[[Store], T], then: Callable[[T | StoreError], None], deadline: float = 2.0
    ) -> None: ...


class Held:
    """Messages kept back. A retransmission takes the place of what it repeats."""

    def __init__(self) -> None:
        self.lost = 0
        self._messages: dict[tuple[str, str], tuple[Message, Flow]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    def keep(self, message: Message, flow: Flow) -> None:
        key = _key_of(message)
        if key not in self._messages and len(self._messages) >= HELD:
            self.lost += 1
            return
        self._messages[key] = message, flow

    def release(self) -> list[tuple[Message, Flow]]:
        """All of them, in the order they came; each is given back once."""
        messages = list(self._messages.values())
        self._messages.clear()
        return messages


@dataclass(frozen=True, slots=True)
class Claim:
    """What is to be taken over, and in whose name."""

    slots: Sequence[str]
    node: str
    slot: str
    epoch: int


class Succession:
    """Runs a claim: batch after batch, until the store has none left."""

    def __init__(
        self,
        claim: Claim,
        asker: Asker,
        *,
        revive: Callable[[list[CallRecord]], None],
        done: Callable[[], None],
        give_up: Callable[[str], None],
        call_later: Callable[[float, Callable[[], None]], Alarm],
        now: Callable[[], float],
        rank: Callable[[CallRecord], Any] = lambda record: 0,
        complete: Callable[[], None] = lambda: None,
    ) -> None:
        """`rank`: of what is claimed and not revived, the smallest comes first.

        `done`: what was held goes on, with the records or, after a while, without; `complete`: all of them are here.
        """
        self.claimed = 0
        self._claim = claim
        self._asker = asker
        self._revive = revive
        self._done = done
        self._give_up = give_up
        self._call_later = call_later
        self._now = now
        self._began = now()
        self._rank = rank
        self._complete = complete
        self._waiting: list[tuple[Any, int, CallRecord]] = []
        "Claimed, and not revived yet."
        self._turning = False
        "The next slice has its turn already."
        self._exhausted = False
        "The store has none left."
        self._told = False
        self._over = False
        self._unheard = False
        "A claim was made and its answer was not heard: what it took has our name, and is not here."

    @property
    def complete(self) -> bool:
        """Has the store none left, and are all revived that it had?"""
        return self._exhausted and not self._waiting

    @property
    def over(self) -> bool:
        """Will nothing more come of it: complete, given up, or stopped?"""
        return self._over

    def start(self) -> None:
        claim = self._claim

        def question(store: Store) -> list[CallRecord]:
            return store.claim(claim.slots, node=claim.node, slot=claim.slot, epoch=claim.epoch)

        self._asker.ask(question, self._on_answer, CLAIM_WITHIN)

    def _fetch(self) -> None:
        """What has our name already. That it is here, or was, is for who revives it to see."""
        claim = self._claim
        ours = claim.node, claim.epoch

        def question(store: Store) -> list[CallRecord]:
            calls = store.calls(slots=[claim.slot])
            return [call for call in calls if call.state != "ended" and (call.node, call.epoch) == ours]

        self._unheard = False
        self._asker.ask(question, self._on_fetched, CLAIM_WITHIN)

    def _on_fetched(self, answer: list[CallRecord] | StoreError) -> None:
        if self._over:
            return
        if isinstance(answer, StoreError):
            self._try_again(answer)
            return
        self._take(answer)
        self._exhausted = True
        self._end_if_done()

    def stop(self) -> None:
        self._over = True

    def _on_answer(self, answer: list[CallRecord] | StoreError) -> None:
        if self._over:
            return
        if isinstance(answer, Fenced):
            self._over = True
            self._give_up(str(answer))
        elif isinstance(answer, StoreError):
            self._try_again(answer)
        elif answer:
            self._take(answer)
            self.start()  # the store works on the next ones while these are revived
        elif self._unheard:
            self._fetch()
        else:
            self._exhausted = True
            self._end_if_done()

    def _take(self, records: list[CallRecord]) -> None:
        for record in records:
            self.claimed += 1
            heapq.heappush(self._waiting, (self._rank(record), self.claimed, record))
        if records and not self._turning:
            self._revive_some()

    def _revive_some(self) -> None:
        """A few calls a turn of the loop: between them beats are answered, and requests of calls that are back."""
        self._turning = False
        if self._over:
            return
        self._revive([heapq.heappop(self._waiting)[2] for _ in range(min(SLICE, len(self._waiting)))])
        if self._waiting:
            self._turning = True
            self._call_later(0, self._revive_some)
        else:
            self._end_if_done()

    def _end_if_done(self) -> None:
        if self.complete:
            self._over = True
            self._complete()
            self._finish()

    def _try_again(self, error: StoreError) -> None:
        """The store is gone: go on trying, but do not keep new calls waiting for it. It may have done what was asked."""
        self._unheard = True
        if not self._told and self._now() - self._began > PATIENCE:
            log.error("the calls of %s cannot be claimed yet, going on without them: %s", self._claim.slots, error)
            self._finish()
        self._call_later(AGAIN, self.start)

    def _finish(self) -> None:
        if not self._told:
            self._told = True
            self._done()


class Tenure:
    """How long the node may act: each lease heard prolongs it, and it ends by itself."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], Alarm],
        ended: Callable[[], None],
    ) -> None:
        self._now = now
        self._call_later = call_later
        self._ended = ended
        self._until: float | None = None
        self._alarm: Alarm | None = None

    def hear(self, until: float) -> None:
        """The node may act until this moment of the monotonic clock; 0 or infinite: for as long as it likes."""
        if not until or math.isinf(until):
            self.close()
            return
        self._until = until
        if self._alarm is None:
            self._look()

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        assert self._until is not None, "a lease was heard"
        left = self._until - self._now()
        if left <= 0:
            self._alarm = None
            self._ended()
            return
        self._alarm = self._call_later(left, self._look)


def _key_of(message: Message) -> tuple[str, str]:
    """What a retransmission has in common with what it repeats: the top branch, and what kind of message it is."""
    try:
        branch = message.branch or message.call_id
    except SipError:
        branch = str(id(message))
    kind = message.method if isinstance(message, Request) else str(message.status)
    return branch, kind
