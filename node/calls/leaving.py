"""A leg that goes: by BYE, by CANCEL, lost, or sent away; and what that means for the others of its call."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import causes, invite, passing
from node.calls.leg import Leg
from node.media import objection
from node.sip import compose
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction


log = logging.getLogger(__name__)

LEFT_ALONE = 32.0
"Seconds for which a re-INVITE of ours outlives its dialog (64*T1)."


def on_bye(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """BYE: the other side first, then the record, then the 200."""
    cause = causes.from_reason(request.headers("Reason")) or "NORMAL_CLEARING"
    if leg.direction == "outbound" and not leg.confirmed:
        _leave_early(call, leg, cause)
        response = compose.response(request, 200, headers=call.exchange.headers(leg.profile))
        call.exchange.endpoint.respond(transaction, response)
        return
    leg.variables["sip_hangup_disposition"] = "recv_bye"
    passing.leave(request, leg, call.partner(leg))
    lost(call, leg, cause)
    response = compose.response(request, 200, headers=call.exchange.headers(leg.profile))
    call.commit(call.exchange.endpoint.respond, transaction, response)


def _leave_early(call: Call, leg: Leg, cause: str) -> None:
    """A callee that has not answered hangs up, which it may not (RFC 3261 15): it is taken for a refusal of its own only."""
    if call.dialing is None or not call.dialing.drop(leg, cause):
        call.release(leg, cause)
        call.finish()


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
    reinvited = bool(leg.transaction.request.to_tag)
    if reinvited and leg.pending is not None and leg.pending.response.startswith(b"SIP/2.0 2"):
        return  # too late (RFC 3261 9.2): its 200 is being written down, and what it offered counts on the other side
    headers = call.exchange.headers(leg.profile)
    response = compose.response(leg.transaction.request, 487, to_tag=leg.dialog.local_tag, headers=headers)
    call.exchange.endpoint.respond(leg.transaction, response)
    if reinvited:  # the call itself goes on
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


def unwritten(call: Call) -> None:
    """Its very first record was refused: whoever rules now has never heard of it, and it is nobody's.

    On UDP its INVITE comes again, and whoever has our address by then takes it up. On a connection nothing comes again, and
    this worker may live on, under another epoch: its caller is told to ask again. No callee has been asked.
    """
    leg = call.legs[0]
    if not leg.live or not leg.served or leg.transaction.final or leg.flow is None or not leg.flow.reliable:
        log.warning("call %s may not be begun here any more, leaving it alone", call.uuid)
        return
    leg.variables["respond_code"], leg.variables["sip_rh_Retry-After"] = "503", "1"
    call.end("NORMAL_TEMPORARY_FAILURE")


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


# ---- sent away -----------------------------------------------------------------------------------------------------------


def release(call: Call, leg: Leg, cause: str) -> None:
    """End one leg by what its state asks for: BYE, CANCEL, or a final response."""
    if not leg.live:
        return
    leg.cause = leg.cause or cause
    if leg.confirmed and not leg.unheard:
        if _unacknowledged(leg):
            call.save()
            return  # RFC 3261 15: no BYE before the ACK, or before we stop waiting for it
        _send_bye(call, leg, cause)
    elif leg.direction == "inbound":
        _refuse(call, leg, cause)
    elif leg.transaction is not None:
        _send_cancel(call, leg, cause)
        return  # it is over when its final response is there
    over(call, leg, cause)


def _unacknowledged(leg: Leg) -> bool:
    return leg.served and leg.transaction.final and leg.repeat is not None


def _send_bye(call: Call, leg: Leg, cause: str) -> None:
    if leg.dialog is None or leg.flow is None:
        return
    headers = [*call.exchange.headers(leg.profile), *leg.reason(cause), *leg.extra_headers("sip_bye_h_")]
    leg.variables.setdefault("sip_hangup_disposition", "send_bye")
    if leg.awaits_ack:
        call.acknowledge(leg)
    call.farewells.append(leg)
    call.ask(leg, leg.dialog.request("BYE", headers=headers), partial(_on_farewell, call))


def _on_farewell(call: Call, leg: Leg, status: int, _response: Response | None) -> None:
    """Whatever it answers to our BYE, or if nothing at all: its dialog is over."""
    if status >= 200 and leg in call.farewells:
        call.farewells.remove(leg)
        call.finish()


def _send_cancel(call: Call, leg: Leg, cause: str) -> None:
    if leg.pending is not None:
        if leg.pending.cancelled:
            return
        leg.pending.cancelled = True
    _silence(call, leg)
    leg.variables.setdefault("sip_hangup_disposition", "send_cancel")
    call.exchange.endpoint.cancel(leg.transaction, [*leg.reason(cause), *leg.extra_headers("sip_bye_h_")])
    call.save()


def _silence(call: Call, leg: Leg) -> None:
    """Its media port serves others from now on: should it answer after all, it is hung up on."""
    call.exchange.media.close(leg.uuid)
    if leg.media is not None:
        leg.media.port = 0


def _refuse(call: Call, leg: Leg, cause: str) -> None:
    if leg.transaction is None or leg.transaction.final or leg.dialog is None:
        return
    status, phrase = leg.refusal(cause)
    headers = [*call.exchange.headers(leg.profile), *leg.reason(cause), *leg.extra_headers("sip_rh_")]
    if contacts := leg.variables.get("sip_redirect_contacts"):
        headers += [("Contact", contact) for contact in contacts.split(",")]
    if status == 488:
        headers += objection.warnings(invite.sdp_of(leg.transaction.request))
    leg.variables.setdefault("sip_hangup_disposition", "send_refuse")
    response = compose.response(
        leg.transaction.request, status, phrase or None, to_tag=leg.dialog.local_tag, headers=headers
    )
    call.exchange.endpoint.respond(leg.transaction, response)


# ---- gone ----------------------------------------------------------------------------------------------------------------


def over(call: Call, leg: Leg, cause: str) -> None:
    """A leg is gone, whoever ended it: give back what it held, say so."""
    if not leg.live:
        return
    was_answered = leg.confirmed
    leg.cause = cause
    leg.state = "ended"
    leg.hung_up = call.exchange.wall()
    leg.variables["hangup_cause"] = cause
    for alarm in (leg.repeat, leg.refresh):
        if alarm is not None:
            alarm.cancel()
    leg.repeat = leg.refresh = None
    if call.waiting is not None and leg is call.legs[0]:
        call.waiting.abandon()
    call.exchange.media.close(leg.uuid)
    call.exchange.depart(leg)
    if not was_answered:
        way = "in" if leg.direction == "inbound" else "out"
        call.exchange.count(leg.profile, f"failed_calls_{way}")
    call.tell("CHANNEL_HANGUP", leg)
    if leg in call.bridged:
        call.unbridge()
    if call.referred is not None:
        call.referred.forget(leg)
    call.tell("CHANNEL_HANGUP_COMPLETE", leg)
    call.tell("CHANNEL_DESTROY", leg)
    refuse_ended(call, leg)
    if was_answered and leg.pending is not None and leg.pending.role == "client" and leg.transaction is not None:
        # RFC 3261 17.1.1.2: after a 100 nothing limits the time of our re-INVITE but its peer, who has left.
        call.exchange.endpoint.later(LEFT_ALONE, leg.transaction.forget)
    call.settle(leg)
    if leg.asked is not None:
        leg.asked.forget(remains=True)
        leg.asked = None
    if not was_answered and leg is not call.legs[0]:
        call.legs.remove(leg)  # nothing of it can be asked for again: the record needs it no more
    call.save()
