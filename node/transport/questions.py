"""What the DNS is asked: each question once at a time, its answer remembered for as long as it says itself.

A name that is not there is remembered too, for as long as its zone says (SOA, RFC 2308), within bounds. A server that is
silent or fails does not lose what was known: an answer past due serves on for a while (RFC 8767). None of this is state
that has to survive a failover: a successor asks again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.resolver

from node.debug import sresolv
from node.sip.flow import Address
from node.sip.targets import Question, Server, Service

log = logging.getLogger(__name__)

RESOLV_CONF = Path("/etc/resolv.conf")
PATIENCE = 1.0
"Seconds one name server gets for one try; then the next one is asked, or the same again."
LIFETIME = 3.0
"Seconds a whole question may take, all servers and repeats included."
LONGEST = 86_400.0
"Seconds an answer is remembered at most, whatever it says."
NEGATIVE = 300.0
"Seconds at most for «there is no such name»."
AGAIN = 5.0
"Seconds until a question that nobody answered may be asked again."
STALE = 3600.0
"Seconds an answer past due may still serve when nobody answers."
STALE_AGAIN = 30.0
"Seconds until somebody is asked again meanwhile."
SILENT = "no name server answers"
REMEMBERED = 20_000
WAITING = 1000
"Questions that may be under way at once."


class Answer(NamedTuple):
    """What came, and until when it serves (loop time)."""

    records: Sequence[Any]
    until: float
    own: float = 0.0
    "Until when it was good by its own word."
    failure: str = ""
    "Why there is no answer at all: silence, or servers that fail."


Then = Callable[[Answer], None]


class Questions:
    """Asks the DNS without stopping the loop. `servers`: whom; empty for those of resolv.conf."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, servers: Sequence[Address] = (), resolv_conf: Path = RESOLV_CONF
    ) -> None:
        self.asked = 0
        "Questions put to the DNS."
        self._loop = loop
        self._servers = tuple(servers)
        self._resolv_conf = resolv_conf
        self._read_at = -1.0
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._remembered: dict[Question, Answer] = {}
        self._waiting: dict[Question, list[Then]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def configure(self, servers: Sequence[Address]) -> None:
        """Ask these from now on, and forget what others said."""
        if tuple(servers) != self._servers:
            self._servers = tuple(servers)
            self._resolver = None
            self._remembered.clear()

    def known(self, question: Question) -> Answer | None:
        """The answer, if it is remembered and still good."""
        found = self._remembered.get(question)
        return found if found is not None and found.until > self._loop.time() else None

    def ask(self, question: Question, then: Then) -> None:
        """Call `then` with the answer, later; or at once when too much is being asked already."""
        waiting = self._waiting.get(question)
        if waiting is not None:
            waiting.append(then)
            return
        if len(self._waiting) >= WAITING:
            then(Answer((), 0.0, failure="too many names are being looked up"))
            return
        self._waiting[question] = [then]
        task = self._loop.create_task(self._resolve(question))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _resolve(self, question: Question) -> None:
        if sresolv.level >= 7:
            sresolv.say("asks for %s %s", question.name, question.kind)
        answer = await self._answer(question)
        if sresolv.level >= 9:
            sresolv.say("%s %s: %s %s", question.name, question.kind, answer.records, answer.failure)
        if answer.failure:
            answer = self._in_need(question, answer)
        self._remember(question, answer)
        for then in self._waiting.pop(question, []):
            try:
                then(answer)
            except Exception:
                log.exception("going on after looking up %s broke", question.name)

    async def _answer(self, question: Question) -> Answer:
        self.asked += 1
        try:
            async with asyncio.timeout(LIFETIME + 1.0):
                records, seconds = await self._query(question)
            until = self._loop.time() + min(seconds, LONGEST if records else NEGATIVE)
            return Answer(records, until, until)
        except (dns.exception.Timeout, TimeoutError):
            why = SILENT
        except (dns.exception.DNSException, OSError, UnicodeError) as error:
            why = str(error)
        except Exception as error:
            log.exception("looking up %s broke", question.name)
            why = str(error)
        return Answer((), self._loop.time() + AGAIN, failure=why)

    async def _query(self, question: Question) -> tuple[list[Any], float]:
        """The records and the seconds they are good for. Raises DNSException, OSError."""
        try:
            answer = await self._asking().resolve(question.name, question.kind, search=False, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN as error:
            responses: list[Any] = list(error.responses().values())  # type: ignore[no-untyped-call]
            return [], float(responses[0].resolve_chaining().minimum_ttl) if responses else AGAIN
        return [_record(row, question.kind) for row in answer.rrset or ()], float(answer.chaining_result.minimum_ttl)

    def _asking(self) -> dns.asyncresolver.Resolver:
        changed = self._read_at
        if not self._servers:
            try:
                changed = self._resolv_conf.stat().st_mtime
            except OSError:
                changed = 0.0
        if self._resolver is None or changed != self._read_at:
            self._read_at = changed
            self._resolver = dns.asyncresolver.Resolver(str(self._resolv_conf), configure=not self._servers)
            if self._servers:
                self._resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
            self._resolver.timeout = PATIENCE
        self._resolver.lifetime = LIFETIME
        return self._resolver

    def _in_need(self, question: Question, failed: Answer) -> Answer:
        """What was known before, if it is not too old."""
        before = self._remembered.get(question)
        now = self._loop.time()
        if before is None or not before.records or before.own + STALE < now:
            return failed
        log.info("%s %s: %s, going by the last answer", question.name, question.kind, failed.failure)
        return before._replace(until=now + STALE_AGAIN)

    def _remember(self, question: Question, answer: Answer) -> None:
        self._remembered.pop(question, None)
        while len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[question] = answer


def _record(row: Any, kind: str) -> Any:
    if kind == "SRV":
        return Server(row.priority, row.weight, row.port, _name(row.target))
    if kind == "NAPTR":
        flags, service = row.flags.decode("latin-1"), row.service.decode("latin-1")
        return Service(row.order, row.preference, flags, service, _name(row.replacement))
    return row.address


def _name(name: Any) -> str:
    """Without its last dot and in lower case; the root, which means «none», is ``."""
    text: str = name.to_text(omit_final_dot=True).lower()
    return "" if text in (".", "@") else text
