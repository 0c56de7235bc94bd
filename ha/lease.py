"""The lease keeper: a small process that makes the store's calls, so that the supervisor never waits for the store.

The supervisor asks over a link and goes on; the answer comes back with the moment at which the call began. A keeper
whose call does not return is killed and forked again: nothing in a driver can hold up the supervisor.
"""

from __future__ import annotations

import contextlib
import logging
import select
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import msgspec

from ha.loop import Loop
from ha.process import Backoff, Process, be_urgent
from node.link import Link, LinkClosed
from store.errors import LeaseLost, StoreError
from store.interface import Store
from store.records import Lease

log = logging.getLogger(__name__)

LOADING = 15.0
"Seconds that a keeper may take from its fork until it listens: on a starved machine another one would not be faster."


class Acquire(msgspec.Struct, tag=True):
    holder: str
    ttl: float


class Renew(msgspec.Struct, tag=True):
    lease: Lease
    ttl: float


class Release(msgspec.Struct, tag=True):
    lease: Lease


class Read(msgspec.Struct, tag=True):
    pass


class RaiseFence(msgspec.Struct, tag=True):
    slot: str


class CallSlots(msgspec.Struct, tag=True):
    """How many live calls each slot has: whose calls are there to be claimed."""


class Secret(msgspec.Struct, tag=True):
    name: str


Question = Acquire | Renew | Release | Read | RaiseFence | CallSlots | Secret


class Asked(msgspec.Struct):
    number: int
    question: Question


class Reply(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the store said; exactly one of its answers is set, by the kind of the question."""

    number: int = 0
    "0: no answer, it only says that it listens from now on."
    began: float = 0.0
    "CLOCK_MONOTONIC just before the store was called."
    error: str = ""
    "Why the store did not answer; empty: it did."
    lost: bool = False
    "Renewing: the lease is not ours any more."
    lease: Lease | None = None
    epoch: int = 0
    slots: dict[str, int] = {}
    secret: bytes = b""


_encode = msgspec.msgpack.Encoder().encode
_asked = msgspec.msgpack.Decoder(Asked)
_reply = msgspec.msgpack.Decoder(Reply)


# ---- in the supervisor ---------------------------------------------------------------------------------------------


class LeaseKeeper:
    """The supervisor's side: questions go out, answers come back through the loop, in order."""

    def __init__(self, loop: Loop, fork: Callable[[], Process], stuck: float) -> None:
        self.process: Process | None = None
        self._loop, self._fork, self._stuck = loop, fork, stuck
        self._waiting: dict[int, tuple[float, Callable[[Reply], object]]] = {}
        self._numbers = count(1)
        self._backoff = Backoff()
        self._listens = False
        "The present one has said so."
        self._looked_at = loop.now()
        self._closed = False

    def start(self) -> None:
        self._loop.every(self._stuck / 10, self._look)
        self._start()

    def ask(self, question: Question, then: Callable[[Reply], object]) -> None:
        """Put a question; `then` gets the reply, or one that says why there is none, never before `ask` returns."""
        number = next(self._numbers)
        self._waiting[number] = (self._loop.now(), then)
        if self.process is None:
            self._loop.after(0, lambda: self._settle(number, Reply(error="the lease keeper is being started again")))
            return
        try:
            self.process.link.send_bytes(_encode(Asked(number, question)))
        except (LinkClosed, BlockingIOError) as error:
            text = f"the lease keeper does not listen: {error}"
            self._loop.after(0, lambda: self._settle(number, Reply(error=text)))

    @property
    def idle(self) -> bool:
        return not self._waiting

    def close(self) -> None:
        self._closed = True
        if self.process is not None:
            self._loop.forget(self.process.link)
            self.process.link.close()

    def _start(self) -> None:
        if self._closed:
            return
        try:
            self.process, self._listens = self._fork(), False
        except OSError as error:
            now = self._loop.now()
            wait = self._backoff.ended(0.0, now)
            log.error("no lease keeper can be started, tried again in %.1f s: %s", wait, error)
            self._loop.after(wait, self._start)
            return
        self._loop.watch(self.process.link, self._on_readable)

    def _on_readable(self) -> None:
        assert self.process is not None, "only a living keeper is watched"
        try:
            while received := self.process.link.receive_bytes():
                reply = _reply.decode(received[0])
                if reply.number:
                    self._settle(reply.number, reply)
                else:
                    self._listens = True
                    self._forgive()
        except LinkClosed:
            self._end("it has ended")

    def _settle(self, number: int, reply: Reply) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting[1](reply)

    def _forgive(self) -> None:
        """Count anew from now: it was not the store that took so long."""
        now = self._loop.now()
        self._waiting = {number: (now, then) for number, (_at, then) in self._waiting.items()}

    def _look(self) -> None:
        now = self._loop.now()
        if now - self._looked_at > self._stuck / 2:
            self._forgive()  # it was this process that stood still, and perhaps the whole machine
        self._looked_at = now
        if self.process is not None and not self._listens:
            if now - self.process.born > LOADING:
                self._end(f"it does not listen {LOADING:.0f} s after its start")
            return
        oldest = min((at for at, _then in self._waiting.values()), default=now)
        if self.process is not None and now - oldest > self._stuck:
            self._end(f"the store has not answered for {now - oldest:.1f} s")

    def _end(self, why: str) -> None:
        """Kill what is left of the keeper, tell all that waited, fork a new one."""
        process, self.process = self.process, None
        assert process is not None, "only a living keeper can end"
        self._loop.forget(process.link)
        process.kill()
        process.link.close()
        now = self._loop.now()
        wait = self._backoff.ended(now - process.born, now)
        log.warning("lease keeper given up (%s), another one follows in %.1f s", why, wait)
        for number in list(self._waiting):
            self._settle(number, Reply(error=why))
        self._loop.after(wait, self._start)
        self._loop.after(wait + 1, process.reap)


# ---- in the child --------------------------------------------------------------------------------------------------


def keep(link: Link, dsn: str, db_dir: Path, last: Callable[[], None]) -> None:
    """The keeper's main: answer question after question; when the supervisor is gone do one last thing, and leave."""
    be_urgent()
    calls = StoreCalls(dsn, db_dir)
    readable = select.poll()
    readable.register(link, select.POLLIN)
    with contextlib.suppress(LinkClosed):
        link.send_bytes(_encode(Reply()))
    while True:
        readable.poll()
        try:
            received = link.receive_bytes()
            if received is not None:
                asked = _asked.decode(received[0])
                reply = calls.answer(asked.question)
                reply.number = asked.number
                link.send_bytes(_encode(reply))
        except LinkClosed:
            last()
            return


class StoreCalls:
    """The blocking calls, with a store that is opened when first needed and again after it was gone."""

    def __init__(self, dsn: str, db_dir: Path) -> None:
        # The drivers are this process's burden, not the supervisor's.
        from store.backends import open_store

        self._factory = open_store(dsn, db_dir=db_dir)
        self._store: Store | None = None
        self._lease: Lease | None = None
        "What was granted last, as far as we know."
        self._complaint = ""

    def answer(self, question: Question) -> Reply:
        began = time.monotonic()
        try:
            reply = self._ask(question)
            self._say("")
        except LeaseLost as error:
            reply = Reply(error=str(error), lost=True)
        except StoreError as error:
            self._say(str(error))
            self._drop()
            reply = Reply(error=str(error))
        reply.began = began
        return reply

    def _drop(self) -> None:
        """The next question opens it anew: a connection that was lost does not come back by itself."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(StoreError):
                store.close()

    def _ask(self, question: Question) -> Reply:
        if self._store is None:
            store = self._factory()
            store.open()
            self._store = store
        store = self._store
        match question:
            case Acquire(holder, ttl):
                self._lease = store.acquire_lease(holder, ttl)
                return Reply(lease=self._lease)
            case Renew(lease, ttl):
                self._lease = lease
                return Reply(lease=store.renew_lease(lease, ttl))
            case Release(lease):
                store.release_lease(lease)
                return Reply()
            case Read():
                return Reply(lease=store.read_lease())
            case RaiseFence(slot):
                # A supervisor that has slept finds its workers gone, and does not know yet that it is not the active any more.
                return Reply(epoch=store.raise_fence(slot, self._lease))
            case CallSlots():
                return Reply(slots=store.call_slots())
            case Secret(name):
                return Reply(secret=store.secret(name))

    def _say(self, complaint: str) -> None:
        """Log what the store complains of once, and once that it is well again."""
        if complaint != self._complaint:
            self._complaint = complaint
            if complaint:
                log.error("the store does not answer: %s", complaint)
            else:
                log.info("the store answers again")
