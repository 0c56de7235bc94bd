"""Reviving calls from their records: by the successor of a worker at home, or by the other node.

What a record says is made true again, in this order: dialogs can be asked for, INVITE transactions answer, media flows on
the ports it had, what waited to be acknowledged is repeated, and the dialplan goes on. Only then, and only where the peer must
learn a new address (or the operator wants it), legs are re-INVITEd, when the pace allows. Each leg yields a result.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from functools import partial

from node.calls import (
    alignment,
    anchor,
    anew,
    applications,
    bridge,
    moving,
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
from node.calls.ledger import Ledger, Result
from node.calls.leg import Leg
from node.calls.modify import Modification
from node.calls.moving import Reinvite
from node.calls.pace import Pace
from node.calls.serving import T1
from node.calls.snapshot import restored
from node.calls.urgency import Rank, rank
from node.events import Event
from node.media.errors import MediaError
from node.sip.flow import Flow
from node.sip.message import Request, Response, parse
from store.records import CallRecord

log = logging.getLogger(__name__)

ATTEMPTS = 4
"Times a re-INVITE is repeated after a 491."
LOOK_AGAIN = 0.2
LOOKS = 200
"So many times a leg is looked at whether its own INVITE is over: longer than any lasts that is not acknowledged (64*T1)."
LONGEST = 2 * 64 * T1
"Seconds in which, as a rule, whatever a leg was asked for is answered or given up."

ENDED = frozenset(("NORMAL_CLEARING", "ORIGINATOR_CANCEL", "LOSE_RACE", "ATTENDED_TRANSFER", "BLIND_TRANSFER"))
"Causes of those who had their end as it would have come without a failover."


class BadRecord(Exception):
    """What a record holds cannot be made true again; the call is ended."""


class Recovery:
    """One batch of records brought to life."""

    def __init__(
        self,
        exchange: Exchange,
        *,
        pace: Pace,
        ledger: Ledger,
        reinvite: Reinvite = "auto",
        then: Callable[[list[Result]], None] | None = None,
    ) -> None:
        self._exchange = exchange
        self._pace = pace
        self._ledger = ledger
        self._reinvite = reinvite
        self._then = then
        self._results: dict[str, Result] = {}
        self._ranks: dict[str, Rank] = {}
        "Of the calls."
        self._asked: dict[str, tuple[Call, Leg]] = {}
        "Legs whose re-INVITE waits for its turn, or has no final answer yet."
        self._opening: dict[str, tuple[Call, Leg]] = {}
        "Legs whose port is not open yet."
        self._settled: dict[str, Result] = {}
        "What was told of legs as their last result."
        self._told = False

    def run(self, records: Sequence[CallRecord]) -> list[Result]:
        """Revive all; what each leg came to so far."""
        for record in records:
            if record.state == "ended" or record.uuid in self._exchange.calls or self._has_ended(record):
                continue
            self._ledger.counts.calls += 1
            try:
                self._revive(record)
            except Exception:
                log.exception("call %s could not be revived", record.uuid)
                self._give_up(record, "bad record")
        self._tell_if_done()
        if not self._told:
            self._exchange.endpoint.later(LONGEST, self._look)
        return list(self._results.values())

    def _look(self) -> None:
        """From time to time: a leg that ends by itself while it is asked does not tell us."""
        self._tell_if_done()
        if not self._told:
            self._exchange.endpoint.later(LONGEST, self._look)

    def _has_ended(self, record: CallRecord) -> bool:
        """Was it here, and ended since the record was read?"""
        live = [leg.dialog.local_tag for leg in record.legs if leg.dialog is not None and leg.state != "ended"]
        return bool(live) and all(map(self._exchange.departed, live))

    def _give_up(self, record: CallRecord, cause: str) -> None:
        call = self._exchange.calls.get(record.uuid)
        if call is not None:
            call.post(call.end, "NORMAL_TEMPORARY_FAILURE")
        for leg in record.legs:
            if leg.state != "ended":
                call_id = leg.dialog.call_id if leg.dialog is not None else ""
                self._note(Result(leg.uuid, record.uuid, False, cause, leg.profile, call_id, leg.direction))
                self._settle(leg.uuid)

    # ---- one call ----------------------------------------------------------------------------------------------------

    def _revive(self, record: CallRecord) -> None:
        exchange = self._exchange
        call = Call(exchange, record.uuid, record.profile_name)
        restored(call, record)
        exchange.calls[call.uuid] = call
        self._ranks[call.uuid] = rank(record, exchange.configuration.emergency_numbers(record.profile_name))
        union.claim(call)
        replaces.forget_unanswered(call)
        live = [leg for leg in call.legs if leg.live and leg.dialog is not None]
        for leg in call.legs:
            exchange.enrol(call, leg)
            if not leg.live:
                exchange.depart(leg)
        call.post(self._bring_back_or_end, call, live)

    def _bring_back_or_end(self, call: Call, live: list[Leg]) -> None:
        try:
            self._bring_back(call, live)
        except Exception as error:
            for leg in live:
                self._opening.pop(leg.uuid, None)
                self._note(result(call, leg, ok=False, cause="bad record"))
                self._answered(leg.uuid)
            raise BadRecord(f"call {call.uuid} could not be revived") from error

    def _bring_back(self, call: Call, live: list[Leg]) -> None:
        exchange = self._exchange
        unknown = [leg for leg in live if exchange.profile(leg.profile) is None]
        for leg in live:
            self._revive_transaction(call, leg)
        for leg in live:
            self._reopen(call, leg)
        self._rejoin(call)
        for leg in live:
            if anew.forsaken(leg):
                self._note(result(call, leg, ok=True, cause="called anew"))
                continue
            if not leg.live:
                self._note(result(call, leg, ok=True, cause=leg.cause))  # it was cancelled already
                continue
            if leg.cause and leg.confirmed and leg.pending is None:
                continue  # its BYE is all that is left to do
            leg.variables["recovered"] = "true"
            timer.resume(call, leg)
            self._acknowledge(call, leg)
            call.tell("CHANNEL_CREATE", leg)
            if leg.direction == "outbound":
                call.tell("CHANNEL_ORIGINATE", leg)
            self._note(result(call, leg, ok=True, cause="revived"))
            self._relocate(call, leg)
        for leg in unknown:
            log.error("call %s: there is no profile %s, ending leg %s", call.uuid, leg.profile, leg.uuid)
            self._note(result(call, leg, ok=False, cause="no profile"))
            call.lost(leg, "INVALID_PROFILE")
        if unknown or not any(leg.live for leg in live):
            call.finish()
            self._settle_rest(live)
            return
        self._resume_modification(call)
        transfer.prepare(call)
        applications.resume(call)
        for leg in anew.leave_alone(call):
            self._note(result(call, leg, ok=False, cause="nobody calls it anew"))
        alignment.resume(call)
        parting.resume(call)
        self._end_doomed(call)
        if self._reinvite == "always":
            for leg in live:
                self._want(call, leg)
        self._settle_rest(live)

    def _settle_rest(self, legs: list[Leg]) -> None:
        """Tell of those for whom nothing is under way any more."""
        for leg in legs:
            self._settle(leg.uuid)

    def _relocate(self, call: Call, leg: Leg) -> None:
        """On a node with an address of its own: from now on the leg is served here, and hears so by our Contact."""
        if not anew.displaced(self._exchange, leg):
            anew.tell_where(call, leg)
            return
        assert leg.flow is not None
        leg.flow = leg.flow._replace(local=self._exchange.endpoint.local(leg.profile))
        call.save()
        anew.tell_again(call, leg, follow=self._reinvite != "never")
        if self._reinvite == "auto":
            self._want(call, leg)

    def _revive_transaction(self, call: Call, leg: Leg) -> None:
        """The leg's INVITE goes on: a server one answers retransmissions, a client one waits for its response."""
        pending, endpoint = leg.pending, self._exchange.endpoint
        away = pending is not None and anew.displaced(self._exchange, leg)
        if pending is not None and pending.role == "client" and away:
            (anew.take_back if leg.confirmed else anew.forsake)(call, leg)
            return
        prack.revive(call, leg)
        if pending is None:
            return
        request = parse(pending.request)
        assert isinstance(request, Request)
        flow = Flow.from_record(pending.flow)
        if away:
            flow = flow._replace(local=endpoint.local(leg.profile))
        if pending.role == "server":
            if pending.acknowledged:
                leg.pending = None
                return
            leg.transaction = endpoint.revive_server(request, flow, pending.response)
            leg.transaction.owner = call
            if pending.response and not away:
                # Whether the predecessor came to sending it, nobody knows; hearing it twice does no harm.
                endpoint.send(pending.response, leg.transaction.reply_flow)
            if pending.response.startswith(b"SIP/2.0 2"):
                serving.repeat(call, leg, T1, 0.0)
            elif not away:
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
        if media is None or settings is None:
            return
        named = self._exchange.media_address(leg)
        if not media.port:
            media.address, media.advertised = settings.rtp_ip, named  # nobody was told another one
            return
        moved = moving.media_moved(media, settings, named)
        if moved:
            media.address, media.advertised = settings.rtp_ip, named
        self._opening[leg.uuid] = (call, leg)
        anchor.open_port(call, leg, partial(self._on_reopened, call, leg, media.port, moved=moved))
        anchor.tell(self._exchange, leg)

    def _on_reopened(self, call: Call, leg: Leg, port: int, error: MediaError | None, *, moved: bool) -> None:
        media = leg.media
        if error is not None and media is not None and leg.live:
            # Somebody else has this port here: another one will do, if the peer is told.
            log.warning("call %s: port %d of leg %s is lost: %s", call.uuid, port, leg.uuid, error)
            media.port = 0
            anchor.open_port(call, leg, partial(self._on_other_port, call, leg))
            return
        self._opening.pop(leg.uuid, None)
        if moved and self._reinvite == "auto":
            self._want(call, leg)
        self._settle_rest([leg])
        self._tell_if_done()

    def _on_other_port(self, call: Call, leg: Leg, error: MediaError | None) -> None:
        self._opening.pop(leg.uuid, None)
        if error is not None:
            self._note(result(call, leg, ok=False, cause="no port"))
            call.kill(leg, "NORMAL_TEMPORARY_FAILURE")
            self._lose_others(call)
        else:
            anchor.tell(self._exchange, leg)
            self._rejoin(call)
            if self._reinvite != "never":
                self._want(call, leg)
        self._settle_rest([leg])
        self._tell_if_done()

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
            self._asked[leg.uuid] = (call, leg)
            self._ledger.counts.asked += 1
            self._pace.push(self._ranks[call.uuid], partial(call.post, self._send, call, leg, 1))

    def _send(self, call: Call, leg: Leg, attempt: int, looked: int = 0) -> None:
        if not leg.confirmed or leg.cause:
            self._tell_if_done()
            return
        if leg.pending is not None or leg.awaits_ack or call.modification is not None:
            self._wait(call, leg, attempt, looked)
            return
        self._tell("sofia::recovery_send", result(call, leg, ok=True, cause="").identity)
        swapped = leg.direction == "outbound" and leg.is_true("sip_recovery_break_rfc")
        refresh.reinvite(call, leg, anchor.moved(leg), partial(self._on_reinvited, call, attempt), swapped=swapped)

    def _wait(self, call: Call, leg: Leg, attempt: int, looked: int) -> None:
        """An INVITE that we know of is under way: when that is over."""
        if looked >= LOOKS:
            self._done(result(call, leg, ok=True, cause="kept, too busy to be asked"))
            return
        call.later(LOOK_AGAIN, self._send, call, leg, attempt, looked + 1)

    def _again(self, call: Call, leg: Leg, attempt: int) -> None:
        """It has an INVITE under way itself: a little later (RFC 3261 14.1)."""
        if attempt >= ATTEMPTS:
            self._done(result(call, leg, ok=True, cause="kept, too busy to be asked"))
            return
        pause = random.uniform(2.1, 4.0) if leg.direction == "outbound" else random.uniform(0.0, 2.0)
        call.later(pause, self._send, call, leg, attempt + 1)

    def _on_reinvited(self, call: Call, attempt: int, leg: Leg, status: int, response: Response | None) -> None:
        if status < 200:
            return
        if status == 491 or (status in (500, 503) and response is not None and response.header("Retry-After")):
            # RFC 3261 14.2: it has an INVITE of its own under way, or has not answered our last one.
            self._again(call, leg, attempt)
        elif status < 300:
            self._done(result(call, leg, ok=True, cause="reinvited", status=status))
        elif response is None or bridge.ends_dialog(status) or self._reinvite == "auto":
            # It does not know this call any more, or cannot be reached where we are now.
            call.kill(leg, "RECOVERY_ON_TIMER_EXPIRE" if response is None else "NORMAL_TEMPORARY_FAILURE")
            self._note(result(call, leg, ok=False, cause=str(status), status=status if response is not None else 0))
            self._lose_others(call)
            self._answered(leg.uuid)
            self._tell_if_done()
        else:
            self._done(result(call, leg, ok=True, cause=f"kept after {status}", status=status))

    def _lose_others(self, call: Call) -> None:
        """A leg was given up: those that have ended with it are lost too, however well they had answered."""
        for leg in call.legs:
            before = self._results.get(leg.uuid)
            if before is not None and before.ok and not leg.live and leg.uuid not in self._asked:
                self._note(result(call, leg, ok=False, cause="the other side is lost"))
                self._settle(leg.uuid)

    def _done(self, result: Result) -> None:
        self._note(result)
        self._answered(result.uuid)
        self._tell_if_done()

    def _answered(self, uuid: str) -> None:
        if self._asked.pop(uuid, None) is not None:
            self._ledger.counts.asked -= 1
        self._settle(uuid)

    def _tell_if_done(self) -> None:
        for call, leg in [gone for gone in {**self._asked, **self._opening}.values() if not gone[1].live]:
            # It went while it was being asked: with its other side, or by itself.
            self._opening.pop(leg.uuid, None)
            # Whose end was due, or wished for by a phone, is not lost.
            self._note(result(call, leg, ok=leg.cause in ENDED, cause=leg.cause))
            self._answered(leg.uuid)
        if self._asked or self._opening or self._told:
            return
        self._told = True
        if self._then is not None:
            then, self._then = self._then, None
            then(list(self._results.values()))

    # ---- telling -----------------------------------------------------------------------------------------------------

    def _note(self, result: Result) -> None:
        before = self._results.get(result.uuid)
        self._results[result.uuid] = result
        self._ledger.note(result, before)
        if result.ok:
            log.info("call %s: leg %s %s", result.call, result.uuid, result.cause)
        else:
            log.warning("call %s: leg %s is lost: %s", result.call, result.uuid, result.cause)
        self._tell("sofia::recovery_recv", result.headers)

    def _settle(self, uuid: str) -> None:
        """Tell the result of a leg of whose recovery nothing more comes, once."""
        result = self._results.get(uuid)
        if result is None or uuid in self._opening or uuid in self._asked:
            return
        if self._settled.get(uuid) is not result:
            self._settled[uuid] = result
            self._tell("sofia::recovery_recovered", result.headers)

    def _tell(self, subclass: str, headers: Callable[[], list[tuple[str, str]]]) -> None:
        events = self._exchange.events
        if events.wanted(subclass):
            events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers()))


def result(call: Call, leg: Leg, *, ok: bool, cause: str, status: int = 0) -> Result:
    call_id = leg.dialog.call_id if leg.dialog is not None else ""
    return Result(leg.uuid, call.uuid, ok, cause, leg.profile, call_id, leg.direction, status)
