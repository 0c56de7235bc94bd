"""Calling: the legs that a dial string names, until one answers or none is left (`switch_ivr_originate`).

`,` legs are called at once and the first answer wins; `|` groups follow when the former failed; `:_:` parts run side by
side. Where a leg's INVITE goes is in `destination.py`, what it says in `outbound.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import (
    anchor,
    anew,
    causes,
    dial_string,
    expansion,
    flows,
    invite,
    late,
    loops,
    outbound,
    outcome,
    passing,
    prack,
    retry,
    timer,
)
from node.calls.attempts import Attempt, Part
from node.calls.destination import Destination, resolve
from node.calls.dial_string import BadDialString, DialString, Target
from node.calls.leg import Leg, seconds, truth
from node.calls.secrecy import without_secrets
from node.media.errors import MediaError
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, Response
from store.records import Registration

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

Done = Callable[[Leg | None, str, Response | None, int], None]
"The leg that answered and its 2xx; or None with the cause, and the SIP status behind it."

_RANK = {"NONE": 0, "USER_NOT_REGISTERED": 1, "LOSE_RACE": 0, "RECOVERY_ON_TIMER_EXPIRE": 2, "NO_ANSWER": 3}
"How interesting a cause is when several legs failed; everything else is more so."


class Dialing:
    """Calls legs on behalf of a caller, or of nobody (`originate`)."""

    __slots__ = ("attempts", "call", "caller", "cause", "over", "parts", "status", "then", "timeout")

    def __init__(self, call: Call, caller: Leg | None, then: Done, *, timeout: float = 60.0) -> None:
        self.call = call
        self.caller = caller
        self.then: Done | None = then
        self.timeout = timeout
        self.parts: list[Part] = []
        self.attempts: list[Attempt] = []
        self.cause = "NONE"
        self.status = 0
        "SIP status behind the cause, if there was one."
        self.over = False

    # ---- from the dial string to legs ------------------------------------------------------------------------------

    def start(self, text: str, group: int = 1) -> None:
        """Call whom the dial string names, its groups before this one passed over."""
        try:
            self.parts = [Part(string) for string in dial_string.parse(text)]
        except BadDialString as error:
            log.info(
                "call %s: bad dial string %r: %s", self.call.uuid, without_secrets(text), without_secrets(str(error))
            )
            self._finish(None, "INVALID_URL", None)
            return
        if self.caller is not None and int(self.caller.variables.get("max_forwards", "70") or 0) <= 1:
            self._finish(None, "EXCHANGE_ROUTING_ERROR", None)
            return
        loops.part_breadth(self.caller, [part.variables for part in self.parts])
        for part in list(self.parts):
            part.tried = min(group, len(part.groups)) - 1
        for part in list(self.parts):
            if not self.over:
                self._next_group(part)

    def _next_group(self, part: Part) -> None:
        group = part.groups[part.tried]
        part.tried += 1
        part.left = len(group)
        part.stop()
        limit = part.variables.get("originate_timeout", "")
        part.alarm = self.call.later(float(limit) if limit.isdecimal() else self.timeout, self._group_timed_out, part)
        self.call.progress["group"] = str(part.tried)
        for target in loops.divided(group, part.variables):
            self._begin(part, target)

    def _begin(self, part: Part, target: Target) -> None:
        """One leg of a group: a phone, a user's phones, or what only has a name here."""
        if loops.exhausted(target, part.variables):
            self._failed(part, "EXCHANGE_ROUTING_ERROR", loops.EXCEEDED)
            return
        match target.endpoint:
            case "sofia":
                self._call_out(part, target)
            case "user":
                self._call_user(part, target)
            case "group":
                self._splice(part, part.tried, target, expansion.group_members(self.call, target.arguments))
            case "error":
                self._failed(part, causes.named(target.arguments) or "NORMAL_UNSPECIFIED", 0)
            case _:
                log.info("call %s: no endpoint %r here", self.call.uuid, target.endpoint)
                self._failed(part, "CHAN_NOT_IMPLEMENTED", 0)

    def _call_user(self, part: Part, target: Target) -> None:
        """A user of the directory: by its dial-string, or simply wherever it is registered."""
        exchange = self.call.exchange
        name, domain = dial_string.user(target.arguments)
        given = self.caller.variables if self.caller is not None else {}
        domain = domain or given.get("domain_name", "") or exchange.configuration.globals.get("domain", "")
        user = exchange.directory.find(name, domain)
        if user is None:
            self._failed(part, "SUBSCRIBER_ABSENT", 0)
            return
        dialed = {"dialed_user": user.id, "dialed_domain": domain}
        if self.caller is not None:
            self.caller.variables.update(dialed)
        text = user.dial_string or "{sip_invite_domain=${dialed_domain},presence_id=${dialed_user}@${dialed_domain}}"
        if not user.dial_string:
            text += "${sofia_contact(*/${dialed_user}@${dialed_domain})}"
        leg = self.caller or Leg("", "outbound", self.call.profile, created=0.0)
        look = expansion.lookup(self.call, leg, {**target.variables, **dialed})
        more = Target(target.endpoint, target.arguments, {**dialed, **target.variables})
        expansion.Expansion(self.call, text, look, partial(self._splice, part, part.tried, more)).run()

    def _splice(self, part: Part, group: int, target: Target, text: str) -> None:
        """Put what a name stands for in its place: its legs now, further groups of it after this one."""
        if self._lapsed(part, group):
            return
        try:
            inner = dial_string.parse(text)[0]
        except BadDialString:
            self._failed(part, "INVALID_URL", 0)
            return
        outer = {**part.variables, **inner.variables, **target.variables}
        first, *rest = (
            tuple(Target(one.endpoint, one.arguments, {**outer, **one.variables}) for one in group)
            for group in inner.groups
        )
        if rest and len(part.groups[part.tried - 1]) == 1:
            part.groups[part.tried : part.tried] = rest
        part.left += len(first) - 1
        for one in loops.divided(first, part.variables):
            if not self.over:
                self._begin(part, one)

    # ---- one leg ---------------------------------------------------------------------------------------------------

    def _call_out(self, part: Part, target: Target) -> None:
        call, caller = self.call, self.caller
        variables = invite.inherited(caller) if caller is not None else {}
        variables.update(part.variables)
        variables.update(target.variables)
        variables["sip_dialed"] = target.arguments
        destination = resolve(call.exchange, target.arguments, variables)
        if isinstance(destination, str):
            self._failed(part, destination, 0)
            return
        if destination.user:
            found = partial(call.post, self._on_located_user, part, part.tried, target)
            call.exchange.location.find(destination.user, destination.domain, destination.profile, found)
            return
        if limit := seconds(variables.get("leg_delay_start", "")):
            call.later(limit, self._begin_late, part, part.tried, destination, variables)
            return
        self._begin_leg(part, destination, variables)

    def _on_located_user(self, part: Part, group: int, target: Target, registrations: list[Registration]) -> None:
        """`sofia/profile/user%domain` dials one contact."""
        self._splice(part, group, target, expansion.contacts(self.call, registrations[:1]))

    def _begin_late(self, part: Part, group: int, destination: Destination, variables: dict[str, str]) -> None:
        if not self._lapsed(part, group):
            self._begin_leg(part, destination, variables)

    def _begin_leg(self, part: Part, destination: Destination, variables: dict[str, str]) -> None:
        if self.over:
            return
        call, caller = self.call, self.caller
        leg = outbound.new_leg(call, caller, destination, variables)
        attempt = Attempt(call, leg, part)
        attempt.destination = destination
        self.attempts.append(attempt)
        call.legs.append(leg)
        call.exchange.count(leg.profile, "calls_out")
        call.tell("CHANNEL_CREATE", leg)
        call.tell("CHANNEL_ORIGINATE", leg)
        if limit := seconds(variables.get("leg_timeout", "")):
            attempt.alarm = call.later(limit, self._leg_timed_out, attempt, "NO_ANSWER")
        if limit := seconds(variables.get("leg_progress_timeout") or variables.get("progress_timeout") or ""):
            attempt.progress_alarm = call.later(limit, self._leg_timed_out, attempt, "PROGRESS_TIMEOUT")
        self.locate(attempt)

    def locate(self, attempt: Attempt) -> None:
        """Find where the leg's INVITE goes, and send it there."""
        call, destination = self.call, attempt.destination
        assert destination is not None
        registration = call.registrations.get(destination.contact)
        if registration is not None and registration.flow is not None and registration.flow.connection:
            # The connection the phone registered by; whether it still stands is seen when we send.
            attempt.targets.flows.append(Flow.from_record(registration.flow))
        found = partial(call.post, self._on_located, attempt)
        call.exchange.endpoint.locate(destination.hop, destination.profile, found)

    def _on_located(self, attempt: Attempt, flows: list[Flow] | SipError) -> None:
        if not self.active(attempt):
            return
        targets = attempt.targets
        targets.add(() if isinstance(flows, SipError) else flows)
        if not targets.flows:
            status = flows.status if isinstance(flows, SipError) else 503
            self.give_up(attempt, causes.from_status(status), status)
            return
        leg = attempt.leg
        leg.flow = targets.flows.pop(0)
        assert leg.media is not None
        if leg.media.port:
            self.send(attempt)
        else:
            anchor.open_port(self.call, leg, partial(self._on_port, attempt))

    def _on_port(self, attempt: Attempt, error: MediaError | None) -> None:
        if not self.active(attempt):
            return
        if error is not None:
            log.warning("call %s: no media port: %s", self.call.uuid, error)
            self.give_up(attempt, "NORMAL_TEMPORARY_FAILURE", 0)
            return
        self.send(attempt)

    def send(self, attempt: Attempt, *, credentials: tuple[tuple[str, str], ...] = ()) -> None:
        """Send the leg's INVITE, the first time or again with another CSeq."""
        call, leg, destination = self.call, attempt.leg, attempt.destination
        assert destination is not None
        try:
            sdp = outbound.offer(call.exchange, leg, self.caller)
        except SipError as error:
            log.info("call %s: no offer for %s: %s", call.uuid, leg.name, error)
            self.give_up(attempt, "INCOMPATIBLE_DESTINATION", 488)
            return
        leg.credentials = credentials
        request = outbound.write(call, leg, destination, sdp)
        call.commit(self._dispatch, attempt, request)

    def _dispatch(self, attempt: Attempt, request: Request) -> None:
        """The INVITE leaves once its record is stored: whatever rings is known to a successor."""
        if self.active(attempt):
            self.call.send(attempt.leg, request, self.on_response)
            attempt.targets.watch(partial(retry.try_next, self, attempt))

    # ---- what comes back -------------------------------------------------------------------------------------------

    def on_response(self, leg: Leg, status: int, response: Response | None) -> None:
        """A response to a leg's INVITE; None with 408 or 503 when there was none."""
        attempt = next((one for one in self.attempts if one.leg is leg), None)
        if attempt is not None:
            attempt.targets.heard()
        if attempt is None or self.over:
            outcome.late_response(self.call, leg, status, response)
        elif status < 200:
            assert response is not None
            self._on_provisional(attempt, status, response)
        elif status < 300:
            assert response is not None
            self._on_answer(attempt, response)
        elif (status < 400 and response is not None and retry.redirect(self, attempt, response)) or (
            status in (401, 407) and response is not None and retry.authorize(self, attempt, response)
        ):
            return
        elif status == 422 and response is not None and timer.enlarge(leg, response):
            self.send(attempt, credentials=leg.credentials)
        elif (response is None or status == flows.FLOW_FAILED) and retry.other_flow(self, attempt):
            return
        elif attempt.targets.worth(response):
            retry.try_next(self, attempt, status, response)
        else:
            self.refused(attempt, status, response)

    def refused(self, attempt: Attempt, status: int, response: Response | None) -> None:
        """A final response that nothing can be done about."""
        if response is not None:
            passing.from_response(response, attempt.leg, self.caller)
        cause = response is not None and causes.from_reason(response.headers("Reason"))
        self.give_up(attempt, cause or causes.from_status(status), status)

    def _on_provisional(self, attempt: Attempt, status: int, response: Response) -> None:
        leg, caller, call = attempt.leg, self.caller, self.call
        if leg.pending is not None:
            leg.pending.response = response.encode()
        if status == 100 or not prack.take(call, leg, response):
            return
        passing.from_response(response, leg, caller)
        attempt.progressed()
        sdp = invite.sdp_of(response)
        first = leg.state == "trying"
        if sdp and not leg.is_true("ignore_early_media"):
            self._on_early_media(leg, sdp)
        else:
            leg.state = "early" if leg.state == "early" else "ringing"
            leg.progressed = leg.progressed or call.exchange.wall()
            if first:
                call.tell("CHANNEL_PROGRESS", leg)
            if caller is not None and not leg.is_true("ignore_ring_ready"):
                call.ring(caller)
        if caller is None:
            call.state = "ringing"
        call.save()

    def _on_early_media(self, leg: Leg, sdp: str) -> None:
        """Early media: the caller hears it, if nobody else's came before."""
        call, caller, exchange = self.call, self.caller, self.call.exchange
        try:
            anchor.hear(exchange, leg, sdp)
            leg.state = "early"
            leg.progress_media = leg.progress_media or exchange.wall()
            call.tell("CHANNEL_PROGRESS_MEDIA", leg)
            if caller is None or caller.media is None or not caller.media.port:
                return
            if any(one.leg is not leg and one.leg.state == "early" for one in self.attempts):
                return
            if not caller.confirmed and caller.media.remote_sdp:
                # What it was told once stays (RFC 3261 13.2.1), though the one whose it was may have failed since.
                answer = caller.media.local_sdp if late.told(caller) else anchor.answer_to(caller, sdp)
                call.early(caller, answer)
            elif not caller.confirmed and caller.reliable is not None and leg.media is not None and leg.media.codec:
                # Nothing was offered: what the callee offered and we agreed to is our offer, its answer comes in a PRACK.
                call.early(caller, anchor.offer_to(exchange, caller, anchor.towards(leg)))
            anchor.aim(exchange, caller)
            exchange.media.join(caller.uuid, leg.uuid)
        except SipError as error:
            log.info("call %s: early media of %s not understood: %s", call.uuid, leg.name, error)

    def _on_answer(self, attempt: Attempt, response: Response) -> None:
        """The first one to answer has won; the others are told so."""
        leg = attempt.leg
        passing.from_response(response, leg, self.caller)
        outcome.confirm(self.call, leg, response)
        self._close(attempt)
        for other in list(self.attempts):
            self._close(other)
            self.call.release(other.leg, "LOSE_RACE")
        self._finish(leg, "SUCCESS", response)

    # ---- time is up ------------------------------------------------------------------------------------------------

    def _leg_timed_out(self, attempt: Attempt, cause: str) -> None:
        if self.active(attempt):
            self.give_up(attempt, cause, 0)

    def _group_timed_out(self, part: Part) -> None:
        part.alarm = None
        if self.over:
            return
        if not truth(part.variables.get("originate_continue_on_timeout", "")):
            part.groups = part.groups[: part.tried]
        attempts = [one for one in self.attempts if one.part is part]
        for _ in range(part.left - len(attempts)):
            self._failed(part, "NO_ANSWER", 0)  # its time had not come yet
        for attempt in attempts:
            self.give_up(attempt, "NO_ANSWER", 0)

    def _lapsed(self, part: Part, group: int) -> bool:
        """Is the time of this group of a part up?"""
        return self.over or part not in self.parts or part.tried != group

    # ---- who is left -----------------------------------------------------------------------------------------------

    def give_up(self, attempt: Attempt, cause: str, status: int) -> None:
        """This leg will not answer any more."""
        call, leg = self.call, attempt.leg
        self._close(attempt)
        if status:
            leg.variables["proto_specific_hangup_cause"] = f"sip:{status}"
            leg.variables["sip_term_status"] = str(status)
            leg.variables.setdefault("sip_hangup_disposition", "recv_refuse")
            call.settle(leg)
            call.over(leg, cause)
        else:
            call.release(leg, cause)
        if attempt.part is not None:
            self._failed(attempt.part, cause, status)

    def drop(self, leg: Leg, cause: str) -> bool:
        """Give up calling this leg. False if it is not being called."""
        attempt = next((one for one in self.attempts if one.leg is leg), None)
        if attempt is not None:
            self.give_up(attempt, cause, 0)
        return attempt is not None

    def _close(self, attempt: Attempt) -> None:
        if attempt in self.attempts:
            self.attempts.remove(attempt)
        attempt.stop()
        attempt.targets.heard()

    def active(self, attempt: Attempt) -> bool:
        """Is this leg still being called?"""
        return not self.over and attempt in self.attempts and attempt.leg.live

    def _failed(self, part: Part, cause: str, status: int) -> None:
        """One leg of a part's group failed."""
        if _RANK.get(cause, 9) >= _RANK.get(self.cause, 9):
            self.cause, self.status = cause, status
        part.left -= 1
        if part.left > 0 or self.over:
            return
        if part.tried < len(part.groups):
            self._next_group(part)
            return
        self.parts.remove(part)
        part.stop()
        if not self.parts:
            self._finish(None, self.cause, None)

    def revive(self, attempts: list[Attempt], text: str, group: int) -> None:
        """Take over a predecessor's attempts, as one part; the groups after theirs follow if they fail."""
        try:
            part = Part(dial_string.parse(text)[0])
        except BadDialString:
            part = Part(DialString(()))
        part.tried = min(group, len(part.groups))
        part.left = len(attempts)
        part.alarm = self.call.later(self.timeout, self._group_timed_out, part)
        self.parts = [part]
        for attempt in attempts:
            attempt.part = part
            if attempt.leg.transaction is not None:
                attempt.leg.transaction.owner.then = self.on_response
            variables = attempt.leg.variables
            found = resolve(self.call.exchange, variables.get("sip_dialed", ""), dict(variables))
            attempt.destination = found if isinstance(found, Destination) else None
            if attempt.leg.pending is not None and not attempt.leg.pending.response:
                attempt.targets.watch(partial(retry.try_next, self, attempt))
        self.attempts = attempts

    def again(self, legs: list[Leg]) -> None:
        """More legs of the predecessor's, whose INVITEs were not sent, or by a node of another address."""
        part = self.parts[0]
        part.left += len(legs)
        for leg in legs:
            anew.once_silent(self.call, leg, partial(self._call_again, part, part.tried, leg))

    def _call_again(self, part: Part, group: int, leg: Leg) -> None:
        if self._lapsed(part, group):
            return
        anew.find(self.call, leg)
        variables = {name: value for name, value in leg.variables.items() if name != "leg_delay_start"}
        self._call_out(part, Target("sofia", variables.get("sip_dialed", ""), variables))

    def forget(self) -> None:
        """Stop all timers: a successor goes on."""
        self.over = True
        self.then = None
        for part in self.parts:
            part.stop()
        for attempt in list(self.attempts):
            self._close(attempt)

    def abandon(self, cause: str) -> None:
        """Nobody waits for an answer any more."""
        if self.over:
            return
        if self.caller is not None:
            self.then = None  # it is the caller's application that gives up
        attempts = list(self.attempts)
        self._finish(None, cause, None)
        for attempt in attempts:
            self._close(attempt)
            self.call.release(attempt.leg, cause)

    def _finish(self, leg: Leg | None, cause: str, response: Response | None) -> None:
        self.over = True
        for part in self.parts:
            part.stop()
        self.parts = []
        if self.call.dialing is self:
            self.call.dialing = None
        then, self.then = self.then, None
        if then is not None:
            then(leg, cause, response, self.status)
