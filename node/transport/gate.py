"""The gate: which requests come in at all, and in which order when there are more than can be served.

Two things are kept apart. *Limits* hold always: requests a second of one source and of all, and wrong passwords. *Overload*
is measured, not configured: while the socket is never read empty, the loop is late, or the store is behind, requests that
continue something are served at once, new ones wait in a short queue, and who would wait too long there is refused with a
503 that costs no parse and no transaction. Nobody is refused while there is time to serve him, so the node does what it
can and no more; and when the load ends, the queue is empty a moment later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from node.config.profile import ProfileSettings
from node.sip import glance
from node.sip.admission import Backlog, Pace, PenaltyBox, Sources, Table, Told, source_of
from node.sip.flow import Address, Flow
from node.sip.glance import Standing
from node.sip.message import Request
from node.transport.sluice import LONGEST
from node.transport.suspects import PERIOD, Suspects

log = logging.getLogger(__name__)

RETRY_AFTER = 3
"Seconds, up to twice as many, after which who was refused may come again."
ANSWERS = 20_000
"Refusals a second that are answered: a quarter of a core. Silence is cheaper now and dearer later: all is repeated."
ANSWERS_EACH = 10
"Refusals a second that one source hears for exceeding its limit; a flood is not answered."
STALE = 4.0
"Seconds in the kernel's buffer after which a new request is dropped: its sender has repeated it by now, or is gone."
HOLD = 0.25
"Seconds that the state of stress outlives its last sign."
LATE = 0.1
"Seconds that a timer may be late before that is a sign of it."
OVER = 2.0
"Seconds without a refusal after which an overload is told to be over."
PROVEN = 3600.0
"Seconds that an address and port with the right password are let in although their source is in the penalty box."

WINDOW = 2.0
"Seconds for which may be saved up what is not used, by one source and by all."

SOURCE_RATE = "more than max-source-requests-per-second"
TOTAL_RATE = "more than max-recv-requests-per-second"
PASSWORDS = "more than max-source-auth-failures"


@dataclass(slots=True)
class Counts:
    """What the gate has done since it was made."""

    over_source_rate: int = 0
    over_total_rate: int = 0
    shunned: int = 0
    "Responses that were not read, for their source sends rubbish."
    boxed: int = 0
    "Dropped because their source guesses at passwords."
    overload_refused: int = 0
    "Answered 503 for overload."
    overload_dropped: int = 0
    "Refused without an answer."
    overload_stale: int = 0
    "Dropped because they had waited too long in the kernel's buffer."
    overload_copies: int = 0
    "Dropped because the answer to them was on its way."
    overloads: int = 0
    "How often an overload has begun."
    full: int = 0
    "Refused for max-transactions, max-proceeding, max-sessions, max-profile-sessions or sessions-per-second."


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Gate:
    """Judges requests by their bytes. `admits` may answer, drop, or keep one until its `turn` comes."""

    def __init__(
        self,
        settings: ProfileSettings,
        *,
        send: Callable[[bytes, Flow], None],
        knows: Callable[[str, str, str], bool],
        repeat: Callable[[glance.Key, Flow], bool],
        suspects: Suspects,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        """`knows`: is there a server transaction of this branch, sent-by and method? `repeat`: has it answered once more?"""
        self.counts = Counts()
        self.stressed = False
        "Is there more than can be served at once? Then requests are looked at before they are read."
        self.age = 0.0
        "Seconds that the datagrams read just now have waited in the kernel's buffer."
        self.exempt: Callable[[str], bool] = _nobody
        "Is this address one to which no limits apply?"
        self.stolen = 0.0
        "Seconds in which others had the processor and we would have run: they are no part of anybody's wait."
        self.others: Callable[[], float] = float
        "What `stolen` is now."
        self.urgent = 0
        "Requests that went first under stress."
        self.put_off = 0
        "Registrations that did not, under stress: they wait, or were read in vain."
        self.vain = 0
        "Those of them that were refused, repeated or too old."
        self.vain_long = 0
        "Those that were as long as the ones with credentials."
        self.longer = LONGEST
        "Bytes that every registration with credentials has, as far as was seen under stress."
        self._shortest = float(LONGEST)
        self.issued: Callable[[str, str], bool] = _never
        "Profile and nonce: is it a good one of ours?"
        self.behind: Callable[[], bool] = _not_behind
        "Is the store so far behind that nothing new should be begun?"
        self.tell: Callable[[str, list[tuple[str, str]]], None] | None = None
        "Fires a CUSTOM event: subclass and headers."
        self._send = send
        self._knows = knows
        self._repeat = repeat
        self._suspects = suspects
        self._later = later
        self._backlog: Backlog[tuple[bytes, Flow]] = Backlog()
        self._told = Told()
        self._stressed_until = 0.0
        self._answers = Pace(ANSWERS)
        self._answers_each = Sources(ANSWERS_EACH, 1.0)
        self._proven: Table[Address, float] = Table()
        self._prefixes: Table[str, str] = Table(4096)
        self._boxed_until = 0.0
        self.wary = False
        "Are there sources whose responses are not worth reading?"
        self._wary_until = 0.0
        self._sweeping = False
        self._overloaded_since = 0.0
        self._refused_at = 0.0
        self._refused_before = 0
        self.configure(settings)
        suspects.tell = self._tell_exceeded

    def configure(self, settings: ProfileSettings) -> None:
        """Go by other limits; counts start anew."""
        self._profile = settings.name
        self._total = Pace(settings.max_recv_requests_per_second, WINDOW)
        self._sources = Sources(source_rate(settings), WINDOW)
        self._box = PenaltyBox(settings.max_source_auth_failures, penalty=settings.auth_failure_penalty)

    @property
    def flooded(self) -> int:
        """Requests that were not served because of a rate."""
        return self.counts.over_source_rate + self.counts.over_total_rate

    def stats(self) -> dict[str, int]:
        return asdict(self.counts)

    # ---- requests, one by one --------------------------------------------------------------------------------------

    def admits(self, data: bytes, flow: Flow, now: float) -> bool:
        """May this request be read now? `now` is the monotonic clock's."""
        source = flow.remote[0]
        if ":" in source:
            source = self._prefix(source)
        if now < self._boxed_until and self._is_boxed(data, flow, source, now):
            return False
        if not self._sources.take(source, now) and not self._may_exceed(data, flow, source, now):
            return False
        if not self._total.take(now) and not self._may_exceed_total(data, flow, now):
            return False
        if self.stressed:
            return self._has_its_turn(data, flow, now)
        return True

    def shuns(self, flow: Flow, now: float) -> bool:
        """Is this a response of somebody who sends rubbish without end?"""
        if now >= self._wary_until:
            self.wary = False
        if not self.wary or not self._sources.spent(self._source(flow.remote[0]), now):
            return False
        self.counts.shunned += 1
        return True

    def charge(self, flow: Flow, now: float) -> None:
        """A response from there could not be read: it counts as a request."""
        self.wary, self._wary_until = True, now + 2 * WINDOW
        self._sources.charge(self._source(flow.remote[0]), now)

    def _may_exceed(self, data: bytes, flow: Flow, source: str, now: float) -> bool:
        """Over the limit of its source: what is in a dialog may go on to twice the limit."""
        if self.exempt(flow.remote[0]) or (_urgent(data) and self._sources.take(source, now, 2.0)):
            return True
        self.counts.over_source_rate += 1
        self._exceeded(SOURCE_RATE, source, now)
        if self._answers_each.take(source, now):
            self._refuse(data, flow, now, None)
        return False

    def _may_exceed_total(self, data: bytes, flow: Flow, now: float) -> bool:
        """Over the limit of all. Silence, as mod_sofia's: who asks again finds room."""
        if self.exempt(flow.remote[0]) or (_urgent(data) and self._total.take(now, 2.0)):
            return True
        self.counts.over_total_rate += 1
        self._exceeded(TOTAL_RATE, f"profile {self._profile}", now)
        return False

    def is_full(self, limit: str) -> bool:
        """A limit on what is kept was reached: count it, and say so."""
        self.counts.full += 1
        self._exceeded(f"more than {limit}", f"profile {self._profile}", time.monotonic())
        return True

    def closed_for(self, limit: str, source: str) -> None:
        """A connection was closed for a limit on them: say so."""
        self._exceeded(limit, source, time.monotonic())

    # ---- passwords -------------------------------------------------------------------------------------------------

    def failed(self, flow: Flow) -> None:
        """Wrong credentials came from there."""
        host, now = flow.remote[0], time.monotonic()
        source = self._source(host)
        if self.exempt(host) or not self._box.fail(source, now):
            return
        self._boxed_until = now + self._box.penalty
        self._exceeded(PASSWORDS, source, now, f"not heard for {self._box.penalty:.0f} s")

    def proved(self, flow: Flow) -> None:
        """The right credentials came from there."""
        self._proven.put(flow.remote, time.monotonic() + PROVEN)

    def _is_boxed(self, data: bytes, flow: Flow, source: str, now: float) -> bool:
        """A phone that has had the right password goes on, whoever shares its address."""
        if not self._box.holds(source, now) or self._proven.get(flow.remote, 0.0) > now or _urgent(data):
            return False
        self.counts.boxed += 1
        self._exceeded(PASSWORDS, source, now)
        return True

    # ---- overload --------------------------------------------------------------------------------------------------

    def stress(self, now: float) -> None:
        """There was more than could be served at once."""
        if not self.stressed:
            self.stolen = self.others()  # it was not looked at since the last time: our own time would jump
        self.stressed = True
        self._stressed_until = now + HOLD

    def ease(self, now: float) -> None:
        """Nothing is left over; if it stays so, all is well again."""
        if self.stressed and now >= self._stressed_until and not self._backlog:
            self.stressed = False
            self.age = 0.0
            self._backlog.clear()

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""
        return len(self._backlog)

    def turn(self, now: float) -> tuple[bytes, Flow] | None:
        """Whose turn it is; None while nothing new should be begun. Who has waited too long is refused on the way."""
        self.turn_away_overdue(now)
        return None if self.behind() else self._backlog.next(now - self.stolen)

    def turn_away_overdue(self, now: float) -> None:
        """Refuse who has waited too long."""
        for data, flow in self._backlog.overdue(now - self.stolen):
            self._turn_away(data, flow, now, glance.usual(data))

    def challenged(self, request: Request) -> None:
        """Its sender was told to come again with credentials."""
        if self.stressed:
            now = time.monotonic()
            self._backlog.challenged(request.call_id.encode("utf-8", "surrogateescape"), now - self.stolen)
            self._told.note(glance.mark_of(request.branch, request.header("CSeq") or ""), now, refused=False)

    def _has_its_turn(self, data: bytes, flow: Flow, now: float) -> bool:
        seen = glance.usual(data)
        rank = glance.standing(data, self._knows, lambda nonce: self.issued(flow.profile, nonce), seen)
        if rank is Standing.RUNNING:
            self.urgent += 1
            return True
        if rank is Standing.SPENT:
            return False
        registers = data.startswith(b"REGI")
        self.put_off += registers
        if rank is Standing.REPEATED:
            self._in_vain(data, registers)
            key = glance.key(seen) if seen is not None else None
            return key is None or not self._repeat(key, flow)
        if seen is not None and not flow.reliable and self._was_told(data, flow, now, seen):
            self._in_vain(data, registers)
            return False
        if registers and rank is Standing.CHALLENGED:
            self._learn_length(len(data))
        if self.age > STALE and not flow.reliable:
            self._in_vain(data, registers)
            self.counts.overload_stale += 1
        elif not self._backlog.put((data, flow), rank, now - self.stolen, glance.call_id(data, seen)):
            self._in_vain(data, registers)
            self._turn_away(data, flow, now, seen)
        return False

    def _was_told(self, data: bytes, flow: Flow, now: float, seen: glance.Usual) -> bool:
        """Is it a copy of what was answered? Then it is dropped, or refused once more if the refusal was lost."""
        known = self._told.known(glance.mark(seen), now - self.age)
        if known == "refused":
            self._turn_away(data, flow, now, seen)
        elif known == "crossed":
            self.counts.overload_copies += 1
        return known != "new"

    def _learn_length(self, size: int) -> None:
        """The shortest ones lately, and a little less: phones differ."""
        self._shortest = min(size, self._shortest + (size - self._shortest) / 256)
        self.longer = int(self._shortest) * 15 // 16

    def _in_vain(self, data: bytes, registers: bool) -> None:
        self.vain += registers
        self.vain_long += registers and len(data) >= self.longer

    def _turn_away(self, data: bytes, flow: Flow, now: float, seen: glance.Usual | None) -> None:
        if self._refuse(data, flow, now, seen):
            self.counts.overload_refused += 1
        else:
            self.counts.overload_dropped += 1
        self._refused_at = now
        if seen is not None:
            self._told.note(glance.mark(seen), now, refused=True)
        if not self._overloaded_since:
            self._begin_overload(now)

    def _refuse(self, data: bytes, flow: Flow, now: float, seen: glance.Usual | None) -> bool:
        if not flow.reliable and not self._answers.take(now):
            return False
        remote = flow.remote
        made = glance.refusal(data, remote, reliable=flow.reliable, retry_after=RETRY_AFTER, seen=seen)
        if made is None:
            return False
        answer, there = made
        self._send(answer, flow if there is remote or there == remote else flow._replace(remote=there))
        return True

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _begin_overload(self, now: float) -> None:
        self._overloaded_since = now
        self.counts.overloads += 1
        self._refused_before = self.counts.overload_refused + self.counts.overload_dropped - 1
        log.warning("profile %s: more new requests than can be served, refusing some", self._profile)
        self._fire("sofia::overload", [("profile-name", self._profile), ("state", "begin")])
        self._later(OVER, self._look_for_the_end)

    def _look_for_the_end(self) -> None:
        now = time.monotonic()
        if now - self._refused_at < OVER:
            self._later(OVER - (now - self._refused_at), self._look_for_the_end)
            return
        refused = self.counts.overload_refused + self.counts.overload_dropped - self._refused_before
        seconds = self._refused_at - self._overloaded_since
        self._overloaded_since = 0.0
        log.warning("profile %s: overload is over, %d requests refused in %.1f s", self._profile, refused, seconds)
        headers = [("profile-name", self._profile), ("state", "end"), ("refused", str(refused))]
        self._fire("sofia::overload", [*headers, ("seconds", f"{seconds:.1f}")])

    def _exceeded(self, reason: str, source: str, now: float, what: str = "") -> None:
        self._suspects.exceeded(reason, source, now, what)
        if not self._sweeping:
            self._sweeping = True
            self._later(PERIOD, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = self._suspects.sweep(time.monotonic())
        if self._sweeping:
            self._later(PERIOD, self._sweep)

    def _tell_exceeded(self, reason: str, source: str, count: int, what: str) -> None:
        headers = [("profile-name", self._profile), ("limit", reason), ("source", source), ("count", str(count))]
        self._fire("sofia::limit_exceeded", [*headers, ("text", what)] if what else headers)

    def _fire(self, subclass: str, headers: list[tuple[str, str]]) -> None:
        if self.tell is not None:
            self.tell(subclass, headers)

    def _source(self, host: str) -> str:
        return self._prefix(host) if ":" in host else host

    def _prefix(self, host: str) -> str:
        found = self._prefixes.get(host, "")
        if not found:
            found = source_of(host)
            self._prefixes.put(host, found)
        return found


def source_rate(settings: ProfileSettings) -> float:
    """Requests a second that one source may send: half of all, unless the operator says otherwise."""
    if settings.max_source_requests_per_second is not None:
        return settings.max_source_requests_per_second
    return settings.max_recv_requests_per_second / 2


def _urgent(data: bytes) -> bool:
    return data[:4] in (b"ACK ", b"CANC") or glance.running(data)


def _nobody(_host: str) -> bool:
    return False


def _never(_profile: str, _nonce: str) -> bool:
    return False


def _not_behind() -> bool:
    return False
