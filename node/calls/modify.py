"""Offers inside an established dialog: passed on to the other leg, and answers back.

An offer (re-INVITE, UPDATE) of one leg is made to the other one; its answer is the first one's answer. One such exchange
at a time: whoever comes second gets 491 (RFC 3261 14.2, RFC 3311 5.2). A leg nobody is behind is answered by us.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, bridge, display, hold, invite, refresh, retarget, serving, timer
from node.calls.bridge import OfferStep, OfferView
from node.calls.leg import Leg
from node.calls.reply import PATIENCE, REFUSED, answer, contact_user, own_user
from node.media import objection
from node.sip import compose
from node.sip.errors import SipError, UnsupportedMedia
from node.sip.message import Request, Response
from store.records import PendingInvite

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction
    from node.transport.endpoint import Alarm

log = logging.getLogger(__name__)


def on_offer(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A re-INVITE, or an UPDATE with an offer in a confirmed dialog."""
    if request.method == "INVITE" and not _acceptable(call, leg, request, transaction):
        return
    unheard = _answered_unheard(call, leg)
    if request.method == "INVITE" and unheard and call.answered_by is None:
        # Who sends a new INVITE has done with the former one (RFC 3261 14.1): its ACK was lost, or went to a predecessor.
        serving.acknowledged(call, leg)
    partner = call.partner(leg)
    ours = leg.pending is not None and leg.pending.role == "client"
    theirs = _server_pending(call, leg)
    if request.method == "UPDATE" and unheard:
        # Our 2xx has answered its offer, or made ours; an UPDATE does not wait for the ACK (RFC 3311 5.2).
        theirs, ours = False, call.answered_by is not None
    view = OfferView(
        bridged=partner is not None and partner.confirmed,
        ours_pending=ours,
        theirs_pending=theirs,
        partner_pending=partner is not None and (call.modification is not None or _pending(partner)),
    )
    match bridge.judge_offer(view):
        case OfferStep.TOO_SOON:
            answer(call, leg, request, transaction, 500, headers=later())
        case OfferStep.GLARE:
            answer(call, leg, request, transaction, 491)
        case OfferStep.ANSWER:
            _answer_alone(call, leg, request, transaction)
        case OfferStep.RELAY:
            assert partner is not None
            Modification(call, leg, partner, request, transaction).begin()


def _acceptable(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> bool:
    """Refuse a re-INVITE that cannot be served, whatever it offers."""
    try:
        if not leg.confirmed:
            # RFC 3261 14.2: one more INVITE while the first has no final answer.
            answer(call, leg, request, transaction, 500, headers=later())
            return False
        if request.body and not invite.sdp_of(request):
            raise UnsupportedMedia(request.content_type)
        timer.judge(request, call.exchange.profile(leg.profile))
    except SipError as error:
        answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))
        return False
    return True


def later() -> tuple[tuple[str, str], ...]:
    """RFC 3261 14.2, RFC 3311 5.2: between 0 and 10 seconds."""
    return (("Retry-After", str(random.randint(0, 10))),)


def _server_pending(call: Call, leg: Leg) -> bool:
    """Is an offer of this leg not answered yet, or our answer to it not acknowledged?"""
    if call.modification is not None and call.modification.source is leg:
        return True
    return leg.pending is not None and leg.pending.role == "server" and not leg.pending.acknowledged


def _answered_unheard(call: Call, leg: Leg) -> bool:
    """Has this leg our 200, and only its ACK has not reached us?"""
    answered = leg.served and leg.transaction.final and call.modification is None
    return answered and _server_pending(call, leg)


def _pending(leg: Leg) -> bool:
    return leg.awaits_ack or (leg.pending is not None and not leg.pending.acknowledged)


def _answer_alone(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """Nobody is behind us: answer an offer, or make one, by ourselves."""
    assert leg.dialog is not None
    assert leg.media is not None
    retarget.follow(call, leg, request, transaction.flow)
    sdp = invite.sdp_of(request)
    if request.method == "INVITE":
        hold_server(call, leg, request, transaction)
    try:
        ours = anchor.again(leg, sdp) if sdp else leg.media.local_sdp
        if sdp:
            hold.take(call, leg, sdp)
        else:
            call.answered_by = partial(_on_late_answer, call)
    except SipError as error:
        if request.method == "INVITE":
            call.settle(leg)
        answer(call, leg, request, transaction, error.status)
        return
    finish_offer(call, leg, request, transaction, ours)


def _on_late_answer(call: Call, leg: Leg, sdp: str) -> None:
    if sdp:
        try:
            hold.take(call, leg, sdp)
        except SipError as error:
            log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, error)


def hold_server(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A re-INVITE is under way: it is part of the record until it is acknowledged."""
    transaction.owner = call
    leg.transaction = transaction
    leg.pending = PendingInvite(role="server", request=request.encode(), flow=transaction.flow.to_record())


def finish_offer(
    call: Call,
    leg: Leg,
    request: Request,
    transaction: ServerTransaction,
    sdp: str,
    then: Callable[[], None] | None = None,
) -> None:
    """Answer an offer 200. The record first: whoever takes over goes on with what the peer was told."""
    headers = [*call.exchange.headers(leg.profile), *timer.granted(call, leg, request)]
    if sdp:
        headers.append(("Content-Disposition", "session"))
    response = compose.response(
        request,
        200,
        contact=call.exchange.contact(leg, contact_user(leg, request)),
        headers=headers,
        body=sdp.encode("utf-8", "surrogateescape"),
        content_type=invite.SDP if sdp else None,
    )
    if request.method == "INVITE" and leg.pending is not None:
        leg.pending.response = response.encode()
    if leg.confirmed:
        display.heard(call, leg, request)
    call.commit(_offer_stored, call, leg, transaction, response, then)


def _offer_stored(
    call: Call, leg: Leg, transaction: ServerTransaction, response: Response, then: Callable[[], None] | None
) -> None:
    if then is not None:
        then()
    if not leg.live or transaction.final:
        return
    call.exchange.endpoint.respond(transaction, response)
    if leg.transaction is transaction:
        serving.repeat(call, leg, serving.T1, 0.0)
    call.tell("sofia::reinvite", leg)


class Modification:
    """An offer of one leg on its way to the other one, and the answer back."""

    __slots__ = (
        "_ack_pending",
        "_alarm",
        "_before",
        "_offered",
        "call",
        "over",
        "request",
        "source",
        "target",
        "transaction",
    )

    def __init__(self, call: Call, source: Leg, target: Leg, request: Request, transaction: ServerTransaction) -> None:
        self.call = call
        self.source = source
        self.target = target
        self.request = request
        self.transaction = transaction
        self.over = False
        self._ack_pending = False
        self._offered = ""
        self._alarm: Alarm | None = None
        "When the author of an UPDATE hears that it takes too long."
        self._before = target.media.local_sdp if target.media is not None else ""

    def begin(self) -> None:
        """Make the offer to the other leg."""
        call, source, target = self.call, self.source, self.target
        assert source.dialog is not None
        assert target.dialog is not None
        assert target.flow is not None
        call.modification = self
        sdp = invite.sdp_of(self.request)
        if self.request.method == "INVITE":
            # 100 when it is on record: a successor must hear of it again if it is not.
            call.once_stored(call.say_trying, source)
            hold_server(call, source, self.request, self.transaction)
        else:
            self._alarm = call.later(PATIENCE, self._too_late)
        try:
            offer = anchor.offer_to(call.exchange, target, sdp) if sdp else ""
        except SipError as error:
            self._refuse(error.status, tuple(objection.warnings(sdp)))
            return
        self._ask(offer)

    def _ask(self, offer: str) -> None:
        call, target = self.call, self.target
        assert target.dialog is not None
        headers = [*call.exchange.headers(target.profile), *timer.asking(call, target)]
        if self.request.method == "INVITE" or not self._allows_update():
            refresh.write_invite(call, target, offer, headers, self._on_response)
            return
        self._offered = offer
        body = offer.encode("utf-8", "surrogateescape")
        contact = call.exchange.contact(target, own_user(target))
        request = target.dialog.request("UPDATE", contact=contact, headers=headers, body=body, content_type=invite.SDP)
        call.ask(target, request, self._on_response)
        call.save()

    def _allows_update(self) -> bool:
        return "UPDATE" in self.target.variables.get("sip_allow", "")

    def revive(self) -> None:
        """Taken over: the re-INVITEs on both sides are live again."""
        self.call.modification = self
        self.target.transaction.owner.then = self._on_response

    def revive_answered(self) -> None:
        """Taken over: the asking leg has its 200, whose ACK is still to come."""
        self.over = True
        if self.target.awaits_ack and self.target.delayed:
            self.call.modification = self
            self._ack_pending = True
            self.call.answered_by = self._on_late_answer

    # ---- the other leg's answer --------------------------------------------------------------------------------------

    def _on_response(self, leg: Leg, status: int, response: Response | None) -> None:
        if status < 200:
            if leg.pending is not None and response is not None:
                leg.pending.response = response.encode()
            return
        if status < 300 and response is not None:
            if self.over:
                self._on_again(leg, response)
            else:
                self._on_answer(leg, response)
            return
        gone = response is None or status == 481
        if not self.over:
            self.call.settle(leg)
            self._revert()
            self._pass_refusal(status, response)
        if gone and leg in self.call.legs and leg.confirmed and not leg.cause:
            # RFC 3261 12.2.1.2: its dialog is gone, and with it the call.
            self.call.lost(leg, "RECOVERY_ON_TIMER_EXPIRE" if response is None else "NORMAL_TEMPORARY_FAILURE")

    def _pass_refusal(self, status: int, response: Response | None) -> None:
        """As relayed requests are refused; to an UPDATE a 408 is not to be said (RFC 4320)."""
        said = 408 if response is None else REFUSED.get(status, status)
        retry = response.header("Retry-After") if response is not None else None
        self._refuse(
            504 if said == 408 and self.request.method != "INVITE" else said, (("Retry-After", retry),) if retry else ()
        )

    def _on_again(self, leg: Leg, response: Response) -> None:
        """Its 2xx again: so the ACK was lost."""
        again = leg.invite_cseq == response.cseq.number and not leg.awaits_ack
        if response.cseq.method == "INVITE" and again and leg.live and leg.media is not None:
            self.call.acknowledge(leg, leg.media.local_sdp if leg.delayed else "")
        elif response.cseq.method == "UPDATE" and leg.live:
            _count(self.call, leg, self._offered, response)  # who had asked for it has gone meanwhile

    def _on_answer(self, leg: Leg, response: Response) -> None:
        call, source = self.call, self.source
        assert leg.dialog is not None
        assert source.dialog is not None
        assert source.media is not None
        self.over = True
        invited = response.cseq.method == "INVITE"
        retarget.follow(call, leg, response)
        leg.pending = None
        leg.awaits_ack = invited
        timer.agreed(call, leg, response)
        sdp = invite.sdp_of(response)
        offered = invite.sdp_of(self.request)
        try:
            if offered:
                hold.take(call, leg, sdp)
                ours = anchor.answer_to(source, sdp, offered)
                hold.take(call, source, offered)
                acknowledge: Callable[[], None] | None = partial(self._acknowledge, leg)
            else:
                # The other way round: its 200 holds the offer, our peer's ACK will hold the answer.
                hold.take(call, leg, sdp)
                ours = anchor.offer_to(call.exchange, source, sdp)
                acknowledge = None
                self._ack_pending = True
                call.answered_by = self._on_late_answer
        except SipError as error:
            log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, error)
            if invited:
                call.acknowledge(leg)
            self._refuse(488)
            return
        retarget.follow(call, source, self.request, self.transaction.flow)
        finish_offer(call, source, self.request, self.transaction, ours, acknowledge)
        if not self._ack_pending:
            self._close()

    def _acknowledge(self, leg: Leg) -> None:
        if leg.live and leg.awaits_ack:
            self.call.acknowledge(leg)

    def _on_late_answer(self, source: Leg, sdp: str) -> None:
        """The answer came in the ACK."""
        call, target = self.call, self.target
        self._ack_pending = False
        self._close()
        if not target.live:
            return
        try:
            hold.take(call, source, sdp)
            answer_ = anchor.answer_to(target, sdp)
        except (SipError, ValueError) as error:
            log.info("call %s: answer of %s not understood: %s", call.uuid, source.name, error)
            call.end("INCOMPATIBLE_DESTINATION")
            return
        call.acknowledge(target, answer_)
        call.save()

    # ---- other ends --------------------------------------------------------------------------------------------------

    def cancelled(self, leg: Leg) -> None:
        """The asking leg took its re-INVITE back (it has its 487): ours is taken back too."""
        if self.over or leg is not self.source:
            return
        self.over = True
        self._withdraw()
        self._close()

    def interrupted(self, leg: Leg) -> None:
        """One of the legs is gone: whoever waits for an answer gets one."""
        if self.over:
            return
        self.over = True
        if leg is self.target and self.source.live and not self.transaction.final:
            self._refuse(500)
        elif leg is self.source and not self.transaction.final:
            answer(self.call, leg, self.request, self.transaction, 487)
            self.call.settle(leg)
        self._withdraw()
        self._close()

    def _too_late(self) -> None:
        """The author of an UPDATE will not wait much longer for its answer; what the other leg says may yet count."""
        if not self.over:
            self.over = True
            self._withdraw()
            self._refuse(504)

    def _withdraw(self) -> None:
        """Our offer to the other leg is of no use any more: a re-INVITE is taken back."""
        call, target = self.call, self.target
        if target.pending is not None and target.pending.role == "client":
            if target.transaction is None or target.transaction.owner is None:
                call.settle(target)  # it is being written down, or was challenged, and will not leave (again)
            elif target.live:
                target.pending.cancelled = True
                call.exchange.endpoint.cancel(target.transaction)
                offered = target.media.local_sdp if target.media is not None else ""
                target.transaction.owner.then = partial(_on_cancelled, call, offered)
        self._revert()

    def _refuse(self, status: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.over = True
        self.call.settle(self.source) if self.request.method == "INVITE" else None
        if not self.transaction.final:
            answer(self.call, self.source, self.request, self.transaction, status, headers=headers)
        self.call.save()
        self._close()

    def _revert(self) -> None:
        """The offer came to nothing: what we said to the other leg before still counts."""
        if self.target.media is not None and self._before:
            self.target.media.local_sdp = self._before

    def _close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.call.modification is self:
            self.call.modification = None


def _on_cancelled(call: Call, offered: str, leg: Leg, status: int, response: Response | None) -> None:
    """The end of a re-INVITE we took back: a 487, or a 200 that was faster, and makes what was offered count."""
    if status < 200 or not leg.live:
        return
    call.settle(leg)
    if response is not None and status < 300:
        _accepted(call, leg, offered, response)
    call.save()


def _accepted(call: Call, leg: Leg, offered: str, response: Response) -> None:
    if leg.delayed:
        # It was asked for an offer: what was agreed on before is our answer to it.
        call.acknowledge(leg, leg.media.local_sdp if leg.media is not None else "")
        return
    call.acknowledge(leg)
    _count(call, leg, offered, response)


def _count(call: Call, leg: Leg, offered: str, response: Response) -> None:
    """An offer that was to be taken back has its answer: both count, and what does not fit any more is mended."""
    if leg.media is None or not offered:
        return
    leg.media.local_sdp = offered
    try:
        hold.take(call, leg, invite.sdp_of(response))
    except SipError as error:
        log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, error)
    if len(call.bridged) == 2:
        alignment.align(call)
