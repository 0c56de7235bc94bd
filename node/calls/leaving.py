"""A leg that goes: by BYE, by CANCEL, lost, or sent away; and what that means for the others of its call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import causes, passing
from node.calls.leg import Leg
from node.sip import compose
from node.sip.message import Request

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction


def on_bye(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """BYE: the other side first, then the record, then the 200."""
    cause = causes.from_reason(request.headers("Reason")) or "NORMAL_CLEARING"
    leg.variables["sip_hangup_disposition"] = "recv_bye"
    passing.leave(request, leg, call.partner(leg))
    lost(call, leg, cause)
    response = compose.response(request, 200, headers=call.exchange.headers(leg.profile))
    call.commit(call.exchange.endpoint.respond, transaction, response)


def refuse_ended(call: Call, leg: Leg) -> None:
    """RFC 3261 15.1.2: an INVITE of a leg that ends, not answered yet or its 200 being written down, hears 487."""
    if not leg.served or leg.transaction.final or leg.dialog is None:
        return
    response = compose.response(leg.transaction.request, 487, to_tag=leg.dialog.local_tag)
    call.exchange.endpoint.respond(leg.transaction, response)


def on_cancel(call: Call, leg: Leg, request: Request) -> None:
    """The caller gave up: 487 for it, CANCEL for those who still ring, BYE for one who just answered."""
    if leg.transaction is None or leg.transaction.final or leg.dialog is None:
        return
    headers = call.exchange.headers(leg.profile)
    response = compose.response(leg.transaction.request, 487, to_tag=leg.dialog.local_tag, headers=headers)
    call.exchange.endpoint.respond(leg.transaction, response)
    if leg.transaction.request.to_tag:  # of a re-INVITE: the call itself goes on
        call.settle(leg)
        if call.modification is not None:
            call.modification.cancelled(leg)
        return
    cause = causes.from_reason(request.headers("Reason")) or "ORIGINATOR_CANCEL"
    passing.reason(request, leg, *(one for one in call.legs if one is not leg and not one.confirmed))
    leg.variables["sip_hangup_disposition"] = "recv_cancel"
    leg.variables["sip_invite_failure_status"] = "487"
    leg.state = "trying"  # its 200 was never sent: there is no dialog to end
    needed = leg is call.legs[0] or leg in call.bridged
    call.over(leg, cause)
    if needed:
        call.end("ORIGINATOR_CANCEL")  # else it was to take the place of another leg, which stays


def lost(call: Call, leg: Leg, cause: str) -> None:
    """A leg ended by its peer, or given up for dead: what does that mean for the others?"""
    if _is_aside(call, leg):
        call.over(leg, cause)
        call.finish()
        return
    partner = call.partner(leg)
    was_caller = leg is call.legs[0]
    if call.modification is not None:
        call.modification.interrupted(leg)
    if was_caller and call.dialing is not None:
        call.dialing.abandon("ORIGINATOR_CANCEL")
    call.over(leg, cause)
    _follow(call, partner, cause, was_caller=was_caller)


def kill(call: Call, leg: Leg, cause: str) -> None:
    """Somebody wants this leg gone."""
    if _is_aside(call, leg):
        call.release(leg, cause)
        call.finish()
        return
    partner = call.partner(leg)
    was_caller = leg is call.legs[0]
    if call.modification is not None:
        call.modification.interrupted(leg)
    if was_caller and call.dialing is not None:
        call.dialing.abandon(cause)
    call.release(leg, cause)
    if was_caller or leg.answered:
        _follow(call, partner, cause, was_caller=was_caller)


def _is_aside(call: Call, leg: Leg) -> bool:
    """It has transferred its call away, or another leg took its place: nobody's fate hangs on it any more."""
    return leg.confirmed and leg is not call.legs[0] and leg not in call.bridged


def _follow(call: Call, partner: Leg | None, cause: str, *, was_caller: bool) -> None:
    """One leg of a bridge is gone: its caller may go on with the dialplan, all others end too."""
    if was_caller or partner is None or call.waiting is None:
        call.end(cause)
    else:
        call.waiting.left(partner, cause)
    call.finish()


def on_ended_elsewhere(call: Call, leg: Leg) -> None:
    """A predecessor had refused this caller, or its re-INVITE, already."""
    reinvited = leg.confirmed
    call.settle(leg)
    if reinvited:
        if call.modification is not None:
            call.modification.cancelled(leg)
        call.save()
        return
    call.over(leg, "NORMAL_CLEARING")
    call.end("NORMAL_CLEARING")
