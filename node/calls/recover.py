"""Reviving calls from their records: by the successor of a worker at home, or by the other node.

What a record says is made true again, in this order: dialogs can be asked for, INVITE transactions answer, media flows on
the ports it had, what waited to be acknowledged is repeated, and the dialplan goes on. Only then, and only where the peer must
learn a new address (or the operator wants it), legs are re-INVITEd, no more than `rate` a second.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from node.calls import (
    alignment,
    anchor,
    applications,
    bridge,
    outcome,
    parting,
    prack,
    refresh,
    reliable,
    replaces,
    serving,
    timer,
    transfer,
    union,
)
from node.calls.asked import Asked
from node.calls.call import Call
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.calls.modify import Modification
from node.calls.serving import T1
from node.calls.snapshot import restored
from node.events import Event
from node.media.errors import MediaError
from node.sip.flow import Flow
from node.sip.message import Request, Response, parse
from store.records import CallRecord

log = logging.getLogger(__name__)

Reinvite = Literal["auto", "always", "never"]

ATTEMPTS = 4
"Times a re-INVITE is repeated after a 491."


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one leg in a recovery."""

    uuid: str
    "Of the leg."
    call: str
    "UUID of its call."
    ok: bool
    cause: str
    "`revived`, `reinvited`, or why the leg was given up, e.g. `481`."


class Recovery:
    """One batch of records brought to life."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        reinvite: Reinvite = "auto",
        rate: float = 0.0,
        then: Callable[[list[Result]], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._reinvite = reinvite
        self._rate = rate
        self._then = then
        self._results: dict[str, Result] = {}
        self._queue: deque[tuple[Call, Leg]] = deque()
        self._asked: dict[str, tuple[Call, Leg]] = {}
        "Legs whose re-INVITE has no final answer yet."
        self._opening = 0
        self._pacing = False
        self._told = False

    def run(self, records: Sequence[CallRecord]) -> list[Result]:
        """Revive all; what each leg came to so far."""
        for record in records:
            if record.state == "ended" or record.uuid in self._exchange.calls:
                continue
            try:
                self._revive(record)
            except Exception:
                log.exception("call %s could not be revived", record.uuid)
                self._give_up(record, "bad record")
        self._next()
        return list(self._results.values())

    def _give_up(self, record: CallRecord, cause: str) -> None:
        call = self._exchange.calls.get(record.uuid)
        if call is not None:
            call.post(call.end, "NORMAL_TEMPORARY_FAILURE")
        for leg in record.legs:
            self._note(leg.uuid, record.uuid, ok=False, cause=cause)

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _revive(self, record: CallRecord) -> None:
        exchange = self._exchange
        call = Call(exchange, record.uuid, record.profile_name)
        restored(call, record)
        exchange.calls[call.uuid] = call
        union.claim(call)
        replaces.forget_unanswered(call)
        live = [leg for leg in call.legs if leg.live and leg.dialog is not None]
        for leg in call.legs:
            exchange.enrol(call, leg)
            if not leg.live:
                exchange.depart(leg)
        call.post(self._bring_back, call, live)

    def _bring_back(self, call: Call, live: list[Leg]) -> None:
        exchange = self._exchange
        unknown = [leg for leg in live if exchange.profile(leg.profile) is None]
        for leg in live:
            self._revive_transaction(call, leg)
        for leg in live:
            self._reopen(call, leg)
        self._rejoin(call)
        for leg in live:
            if leg.cause and leg.confirmed and leg.pending is None:
                continue  # its BYE is all that is left to do
            leg.variables["recovered"] = "true"
            timer.resume(call, leg)
            self._acknowledge(call, leg)
            call.tell("CHANNEL_CREATE", leg)
            if leg.direction == "outbound":
                call.tell("CHANNEL_ORIGINATE", leg)
            self._note(leg.uuid, call.uuid, ok=True, cause="revived", leg=leg)
        for leg in unknown:
            log.error("call %s: there is no profile %s, ending leg %s", call.uuid, leg.profile, leg.uuid)
            self._note(leg.uuid, call.uuid, ok=False, cause="no profile", leg=leg)
            call.lost(leg, "INVALID_PROFILE")
        if unknown or not any(leg.live for leg in live):
            call.finish()
            return
        self._resume_modification(call)
        transfer.prepare(call)
        applications.resume(call)
        alignment.resume(call)
        parting.resume(call)
        self._end_doomed(call)
        if self._reinvite == "always":
            for leg in live:
                self._want(call, leg)

    def _revive_transaction(self, call: Call, leg: Leg) -> None:
        """The leg's INVITE goes on: a server one answers retransmissions, a client one waits for its response."""
        pending, endpoint = leg.pending, self._exchange.endpoint
        prack.revive(call, leg)
        if pending is None:
            return
        request = parse(pending.request)
        assert isinstance(request, Request)
        flow = Flow.from_record(pending.flow)
        if pending.role == "server":
            if pending.acknowledged:
                leg.pending = None
                return
            leg.transaction = endpoint.revive_server(request, flow, pending.response)
            leg.transaction.owner = call
            if pending.response:
                # Whether the predecessor came to sending it, nobody knows; hearing it twice does no harm.
                endpoint.send(pending.response, leg.transaction.reply_flow)
            if pending.response.startswith(b"SIP/2.0 2"):
                serving.repeat(call, leg, T1, 0.0)
            else:
                reliable.revive(call, leg)
            return
        leg.transaction = endpoint.revive_client(request, flow, proceeding=bool(pending.response))
        leg.transaction.reserved = True
        if leg.confirmed:
            then = partial(refresh.on_reinvited, call, None)
        else:
            then = partial(outcome.late_response, call)
        leg.asked = leg.transaction.owner = Asked(call, leg, then)
        if pending.cancelled:
            endpoint.cancel(leg.transaction, leg.reason(leg.cause or "ORIGINATOR_CANCEL"))

    def _acknowledge(self, call: Call, leg: Leg) -> None:
        """Its 2xx was put into the record before our ACK went out."""
        if leg.awaits_ack and not leg.delayed and leg.live:
            call.acknowledge(leg)

    def _resume_modification(self, call: Call) -> None:
        """A re-INVITE of one leg was on its way to the other one."""
        if len(call.bridged) != 2:
            return
        for source, target in (call.bridged, reversed(call.bridged)):
            pending = source.pending
            if pending is None or pending.role != "server" or source.transaction is None:
                continue
            if not source.transaction.request.to_tag:
                continue
            modification = Modification(call, source, target, source.transaction.request, source.transaction)
            if pending.response.startswith(b"SIP/2.0 2"):
                modification.revive_answered()
            elif target.pending is not None and target.pending.role == "client":
                modification.revive()
            else:
                modification.begin()
            return

    def _end_doomed(self, call: Call) -> None:
        """Legs that were only waiting for their ACK, or for their partner, to be ended."""
        for leg in list(call.legs):
            if leg.referral is not None and leg.referral.state != "told":
                transfer.resume(call, leg)
            elif leg.live and leg.cause and (leg.pending is None if leg.confirmed else leg is not call.legs[0]):
                call.release(leg, leg.cause)  # the unanswered ones are those whose place another leg has taken
        call.finish()

    # ---- media -------------------------------------------------------------------------------------------------------

    def _reopen(self, call: Call, leg: Leg) -> None:
        """The same port, on our address; where the peer is, and where it was found to be."""
        media, settings = leg.media, self._exchange.profile(leg.profile)
        if media is None or not media.port or settings is None:
            return
        named = self._exchange.media_address(leg)
        moved = media.advertised not in ("", named) or media.address not in ("", *_addresses(settings))
        if moved:
            media.address, media.advertised = settings.rtp_ip, named
        self._opening += 1
        anchor.open_port(call, leg, partial(self._on_reopened, call, leg, media.port, moved=moved))
        anchor.tell(self._exchange, leg)

    def _on_reopened(self, call: Call, leg: Leg, port: int, error: MediaError | None, *, moved: bool) -> None:
        self._opening -= 1
        media = leg.media
        if error is not None and media is not None and leg.live:
            # Somebody else has this port here: another one will do, if the peer is told.
            log.warning("call %s: port %d of leg %s is lost: %s", call.uuid, port, leg.uuid, error)
            media.port = 0
            self._opening += 1
            anchor.open_port(call, leg, partial(self._on_other_port, call, leg))
            return
        if moved and self._reinvite == "auto":
            self._want(call, leg)
        self._next()

    def _on_other_port(self, call: Call, leg: Leg, error: MediaError | None) -> None:
        self._opening -= 1
        if error is not None:
            self._note(leg.uuid, call.uuid, ok=False, cause="no port", leg=leg)
            call.kill(leg, "NORMAL_TEMPORARY_FAILURE")
        else:
            anchor.tell(self._exchange, leg)
            self._rejoin(call)
            if self._reinvite != "never":
                self._want(call, leg)
        self._next()

    def _rejoin(self, call: Call) -> None:
        """Who heard whom hears them again."""
        media = self._exchange.media
        if len(call.bridged) == 2:
            media.join(call.bridged[0].uuid, call.bridged[1].uuid)
            return
        caller = call.legs[0]
        early = next((leg for leg in call.legs[1:] if leg.state == "early"), None)
        if early is not None and caller.live:
            media.join(caller.uuid, early.uuid)

    # ---- re-INVITE ---------------------------------------------------------------------------------------------------

    def _want(self, call: Call, leg: Leg) -> None:
        """Have the leg told where we are now, when its turn comes."""
        if leg.confirmed and leg.uuid not in self._asked and leg.media is not None and leg.media.local_sdp:
            if not self._asked:
                # No re-INVITE takes longer; a leg that ends by itself meanwhile does not tell us.
                self._exchange.endpoint.later(2 * 64 * T1, self._tell_if_done)
            self._asked[leg.uuid] = (call, leg)
            self._queue.append((call, leg))

    def _next(self) -> None:
        """Send what the pace allows."""
        if self._pacing:
            return
        while self._queue:
            call, leg = self._queue.popleft()
            call.post(self._send, call, leg, 1)
            if self._rate > 0 and self._queue:
                self._pacing = True
                self._exchange.endpoint.later(1 / self._rate, self._go_on)
                return
        self._tell_if_done()

    def _go_on(self) -> None:
        self._pacing = False
        self._next()

    def _send(self, call: Call, leg: Leg, attempt: int) -> None:
        if not leg.confirmed or leg.cause:
            self._asked.pop(leg.uuid, None)
            return
        if leg.pending is not None or leg.awaits_ack or call.modification is not None:
            self._again(call, leg, attempt)
            return
        self._fire("sofia::recovery_send", call, leg, "")
        refresh.reinvite(call, leg, anchor.moved(leg), partial(self._on_reinvited, call, attempt))

    def _again(self, call: Call, leg: Leg, attempt: int) -> None:
        """An INVITE is under way already: a little later, as after a 491 (RFC 3261 14.1)."""
        if attempt >= ATTEMPTS:
            self._done(call, leg, ok=True, cause="revived")
            return
        pause = random.uniform(2.1, 4.0) if leg.direction == "outbound" else random.uniform(0.0, 2.0)
        call.later(pause, self._send, call, leg, attempt + 1)

    def _on_reinvited(self, call: Call, attempt: int, leg: Leg, status: int, response: Response | None) -> None:
        if status == 491:
            self._again(call, leg, attempt)
        elif status < 300:
            self._done(call, leg, ok=True, cause="reinvited")
        elif response is None or bridge.ends_dialog(status) or self._reinvite == "auto":
            # It does not know this call any more, or cannot be reached where we are now.
            call.kill(leg, "RECOVERY_ON_TIMER_EXPIRE" if response is None else "NORMAL_TEMPORARY_FAILURE")
            self._done(call, leg, ok=False, cause=str(status))
        else:
            self._done(call, leg, ok=True, cause=f"kept after {status}")

    def _done(self, call: Call, leg: Leg, *, ok: bool, cause: str) -> None:
        self._asked.pop(leg.uuid, None)
        self._note(leg.uuid, call.uuid, ok=ok, cause=cause, leg=leg)
        self._tell_if_done()

    def _tell_if_done(self) -> None:
        for call, leg in [asked for asked in self._asked.values() if not asked[1].live]:
            # It went while it was being asked: with its other side, or by itself.
            del self._asked[leg.uuid]
            self._note(leg.uuid, call.uuid, ok=False, cause=leg.cause, leg=leg)
        if self._queue or self._asked or self._opening or self._told:
            return
        self._told = True
        if self._then is not None:
            then, self._then = self._then, None
            then(list(self._results.values()))

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _note(self, uuid: str, call_uuid: str, *, ok: bool, cause: str, leg: Leg | None = None) -> None:
        self._results[uuid] = Result(uuid, call_uuid, ok, cause)
        level = logging.INFO if ok else logging.WARNING
        log.log(level, "call %s: leg %s %s", call_uuid, uuid, cause if ok else f"is lost: {cause}")
        call = self._exchange.calls.get(call_uuid)
        if call is not None and leg is not None:
            self._fire("sofia::recovery_recv", call, leg, cause)

    def _fire(self, subclass: str, call: Call, leg: Leg, status: str) -> None:
        events = self._exchange.events
        if not events.wanted(subclass):
            return
        headers = [
            ("profile_name", leg.profile),
            ("recovered_uuid", leg.uuid),
            ("call_uuid", call.uuid),
            ("call_id", leg.dialog.call_id if leg.dialog is not None else ""),
        ]
        if status:
            headers.append(("status", status))
        events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers))


def _addresses(settings: object) -> tuple[str, ...]:
    return (*getattr(settings, "rtp_ips", ()), getattr(settings, "rtp_ip", ""))
