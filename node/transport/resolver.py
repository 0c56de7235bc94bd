"""Where a URI is reached (RFC 3263): numbers at once, names by the hosts file and the DNS, without stopping the loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from node.debug import sresolv
from node.sip.errors import SipError, Unresolvable
from node.sip.flow import Address
from node.sip.targets import Question, Target, Wish, at_address, host_of, numeric, plan, wished_transport
from node.sip.uri import Uri
from node.transport.hosts import Hosts
from node.transport.questions import SILENT, Answer, Questions
from store.records import Transport

__all__ = ["Hosts", "Reach", "Resolver", "Target"]

log = logging.getLogger(__name__)

WITHIN = 6.0
"Seconds all the questions about one URI may take together."

Then = Callable[[list[Target] | SipError], None]


@dataclass(frozen=True, slots=True)
class Reach:
    """What a profile can do: its transports, the best first, and the kinds of address it has sockets for."""

    transports: tuple[Transport, ...] = ("UDP", "TCP")
    ipv4: bool = True
    ipv6: bool = False
    naptr: bool = True
    srv: bool = True


@dataclass(slots=True)
class _Search:
    """One URI being looked up; what was answered is kept for it, however short it is good."""

    wish: Wish
    then: Then
    until: float
    answers: dict[Question, Sequence[Any]] = field(default_factory=dict)
    left: int = 0
    failure: str = ""
    hopeless: bool = False
    "Nobody answers: further questions would only take longer."


class Resolver:
    """Answers at once what is numeric or remembered; asks otherwise. Its memory is not kept over a failover."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        servers: Sequence[Address] = (),
        hosts: Path = Path("/etc/hosts"),
        chance: random.Random | None = None,
    ) -> None:
        self.questions = Questions(loop, servers=servers)
        self._loop = loop
        self._hosts = Hosts(hosts)
        self._chance = chance or random.Random()

    def locate(self, uri: Uri, then: Then, reach: Reach) -> None:
        """Call `then` with the places to try, best first, or with the refusal to answer with."""
        try:
            target = _numbered(uri)
            if target is not None:
                then([target])
                return
            host = host_of(uri)
            if host[-8:].lower() == ".invalid":
                # Browsers name themselves so (RFC 7118); nobody has such a name (RFC 6761).
                raise Unresolvable(f"{host} is no name")
            wish = _wish(uri, host.lower().rstrip("."), reach)
        except SipError as error:
            then(error)
            return
        self._go_on(_Search(wish, then, self._loop.time() + WITHIN))

    def configure(self, servers: Sequence[Address]) -> None:
        """Ask these name servers from now on; none: those of resolv.conf."""
        self.questions.configure(servers)

    def close(self) -> None:
        self.questions.close()

    def _go_on(self, search: _Search) -> None:
        """Plan with what is known; ask what is missing, all at once; come again."""

        def known(question: Question) -> Sequence[Any] | None:
            found = search.answers.get(question)
            return found if found is not None else self._known(question, search)

        targets, missing = plan(search.wish, known, self._chance)
        if not missing or search.hopeless:
            self._tell(search, targets)
        elif self._loop.time() > search.until:
            search.failure = search.failure or "it takes too long"
            self._tell(search, [])
        else:
            search.left = len(missing)
            for question in missing:
                self._ask(search, question)

    def _ask(self, search: _Search, question: Question) -> None:
        def answered(answer: Answer) -> None:
            self._note(search, question, answer)
            search.left -= 1
            if not search.left:
                self._go_on(search)

        self.questions.ask(question, answered)

    def _known(self, question: Question, search: _Search) -> Sequence[Any] | None:
        if question.kind in ("A", "AAAA"):
            local = self._hosts.find(question.name)
            if local:
                return [each for each in local if (":" in each) == (question.kind == "AAAA")]
        elif self._hosts.find(search.wish.host):
            return ()
        answer = self.questions.known(question)
        if answer is None:
            return None
        self._note(search, question, answer)
        return answer.records

    def _note(self, search: _Search, question: Question, answer: Answer) -> None:
        search.answers[question] = answer.records
        search.failure = search.failure or answer.failure
        # Who is silent about services is dead; but one family may fail where the other is well.
        if answer.failure == SILENT and question.kind in ("NAPTR", "SRV"):
            search.hopeless = True

    def _tell(self, search: _Search, targets: list[Target]) -> None:
        if not targets:
            log.info("nothing to send to at %s: %s", search.wish.host, search.failure or "it has no address")
        elif sresolv.level >= 5:
            sresolv.say("%s is reached at %s", search.wish.host, ", ".join(map(str, targets)))
        search.then(targets or Unresolvable(f"{search.wish.host}: {search.failure or 'it has no address'}"))


@lru_cache(maxsize=4096)
def _numbered(uri: Uri) -> Target | None:
    """Where a URI with an address in it leads; None for a name. Raises Unresolvable. Kept: each call asks it twice."""
    address = numeric(host_of(uri))
    return at_address(uri, address) if address is not None else None


def _wish(uri: Uri, host: str, reach: Reach) -> Wish:
    families: list[Any] = [kind for kind, has in (("AAAA", reach.ipv6), ("A", reach.ipv4)) if has]
    return Wish(
        host,
        uri.port,
        wished_transport(uri),
        uri.scheme == "sips",
        reach.transports,
        tuple(families),
        naptr=reach.naptr,
        srv=reach.srv,
    )
