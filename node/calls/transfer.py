"""REFER in a dialog: a leg has the one it is bridged with sent somewhere else (RFC 3515, RFC 5589), as mod_sofia does it.

What was asked for is in the record before its 202; from there it is carried out, by a successor too. Blind: the partner
goes to the dialplan, the referrer hears 200 at once and is hung up; with `confirm-blind-transfer` it waits beside and hears
what really becomes of it, and has its call back if that fails. Attended: the partners of the referrer's two calls are brought
together. Where the other call is not of this worker, the partner calls there with Replaces, and the outcome is confirmed.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import announce, attended, refer, referral, relay, rerouting
from node.calls.leg import Leg
from node.calls.reply import answer, own_user
from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, Response, parse
from node.sip.transaction import reply_flow
from node.sip.uri import Uri, unescape
from store.records import ReferralRecord

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

log = logging.getLogger(__name__)

PATIENCE = 30
"So many times we look whether an exchange that is under way is over."
LOOK_AGAIN = 0.1


# ---- what the referrer sends ---------------------------------------------------------------------------------------------


def on_refer(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A REFER in a dialog."""
    assert leg.dialog is not None
    settings = call.exchange.profile(leg.profile)
    known = leg.referral
    if known is not None and known.cseq == request.cseq.number:
        _accept(call, leg, request, transaction)
        return
    if settings is None or settings.disable_transfer or not leg.confirmed or leg.cause:
        answer(call, leg, request, transaction, 403)
        return
    try:
        target = refer.target_of(request)
    except SipError as error:
        answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))
        return
    if settings.proxy_refer and call.partner(leg) is not None:
        relay.pass_on(call, leg, request, transaction)
        return
    if call.referred is not None or (known is not None and known.state in ("accepted", "trying")):
        answer(call, leg, request, transaction, 491)
        return
    leg.dialog.refresh(request)
    leg.referral = ReferralRecord(
        cseq=request.cseq.number,
        request=request.encode(),
        flow=transaction.flow.to_record(),
        target=target.full,
        by=request.header("Referred-By") or "",
        kind="attended" if target.replaces is not None else "blind",
        silent=refer.unsubscribed(request),
        confirm=settings.confirm_blind_transfer or leg.is_true("confirm_blind_transfer"),
    )
    call.commit(_accepted, call, leg, request, transaction)


def _accepted(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    _accept(call, leg, request, transaction)
    carry_out(call, leg)


def _accept(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    call.exchange.endpoint.respond(transaction, _acceptance(call, leg, request))


def _acceptance(call: Call, leg: Leg, request: Request) -> Response:
    silent = leg.referral is not None and leg.referral.silent
    headers = [("Expires", str(refer.EXPIRES)), *call.exchange.headers(leg.profile)]
    headers += [("Refer-Sub", "false")] if silent else []
    contact = call.exchange.contact(leg, request.target.user or own_user(leg))
    return compose.response(request, 202, contact=contact, headers=headers)


def on_subscribe(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """SUBSCRIBE in a dialog: refreshes or ends what a REFER began (RFC 3515 2.4.4), and nothing else."""
    name, _, parameters = (request.header("Event") or "").partition(";")
    record = leg.referral
    if name.strip().lower() != "refer":
        answer(call, leg, request, transaction, 489, headers=(("Allow-Events", "refer"),))
        return
    number = parameters.strip().removeprefix("id=")
    if record is None or record.state == "told" or (number and number != str(record.cseq)):
        answer(call, leg, request, transaction, 481)
        return
    expires = refer.EXPIRES if request.expires is None else min(request.expires, refer.EXPIRES)
    answer(call, leg, request, transaction, 200, headers=(("Expires", str(expires)),), contact=True)
    referral.notify(call, leg, unsubscribed=expires == 0)
    record.silent = expires == 0
    call.save()


# ---- carrying it out -----------------------------------------------------------------------------------------------------


def carry_out(call: Call, leg: Leg, looked: int = 0) -> None:
    """Do what is on record as asked for."""
    record = leg.referral
    if record is not None and record.state == "final":
        referral.notify(call, leg)  # a predecessor had done it, as another record told meanwhile
    if record is None or record.state != "accepted" or not leg.confirmed:
        return
    target = refer.target(record.target)
    if target.replaces is None:
        _blind(call, leg, record, target, looked)
    else:
        again = partial(_again, call, leg, looked)
        attended.begin(call, leg, record, target, target.replaces, again)


def _again(call: Call, leg: Leg, looked: int) -> bool:
    """Something is under way: look again in a moment, unless we have done so for long enough."""
    if looked < PATIENCE:
        call.later(LOOK_AGAIN, carry_out, call, leg, looked + 1)
    return looked < PATIENCE


def _blind(call: Call, leg: Leg, record: ReferralRecord, target: refer.Target, looked: int) -> None:
    partner = call.partner(leg)
    extension = _extension(call, leg, target.uri)
    leg.variables["transfer_disposition"] = "recv_replace"
    if partner is None or not partner.confirmed or referral.refused(leg, partner):
        leg.variables["endpoint_disposition"] = "ATTENDED_TRANSFER_ERROR"
        announce.refused(call, leg, extension, record.target)
        log.info("call %s: %s has nobody who could be transferred", call.uuid, leg.name)
        referral.conclude(call, leg, 403)
        return
    if call.modification is not None and _again(call, leg, looked):
        return
    leg.variables["transfer_to"] = f"blind:{partner.uuid}"
    leg.variables["transfer_destination"] = f"blind:{extension}"
    leg.variables["transfer_fallback_extension"] = leg.variables.get("sip_from_user") or leg.username
    leg.variables["endpoint_disposition"] = "BLIND_TRANSFER"
    referral.mark(partner, record)
    announce.transferred(call, leg, call, partner)
    routed = _send_on(call, leg, partner, record, extension)
    call.commit(referral.sent_on, call, leg, routed)


def _extension(call: Call, leg: Leg, uri: Uri) -> str:
    settings = call.exchange.profile(leg.profile)
    user = unescape(uri.user or uri.host)
    return f"{user}@{uri.host}" if settings is not None and settings.full_id_in_dialplan else user


def _send_on(call: Call, leg: Leg, partner: Leg, record: ReferralRecord, extension: str) -> bool:
    """The partner goes to the dialplan; the referrer goes, or waits beside it."""
    record.transferee = partner.uuid
    if call.modification is not None:
        call.modification.interrupted(leg)
    call.unbridge()
    given = leg.variables
    context, dialplan = given.get("force_transfer_context", ""), given.get("force_transfer_dialplan", "")
    routed = rerouting.reroute(call, partner, extension, dialplan, context, "bl_xfer")
    referral.leave_or_wait(call, leg, record)
    return routed


# ---- after a failover --------------------------------------------------------------------------------------------------------


def prepare(call: Call) -> None:
    """Before the call's application goes on: who waits for its outcome, hears it."""
    for leg in call.legs:
        record = leg.referral
        if record is None or not leg.confirmed or record.state == "told":
            continue
        if record.request and record.flow is not None:
            _accept_again(call, leg, record)
        if record.state == "trying":
            call.referred = referral.Pursuit(call, leg)


def _accept_again(call: Call, leg: Leg, record: ReferralRecord) -> None:
    """Whether the predecessor came to sending the 202, nobody knows; hearing it twice does no harm."""
    request = parse(record.request)
    assert isinstance(request, Request)
    assert record.flow is not None
    flow = Flow.from_record(record.flow)
    request.stamp(*flow.remote)
    call.exchange.endpoint.send(_acceptance(call, leg, request).encode(), reply_flow(request, flow))


def resume(call: Call, leg: Leg) -> None:
    """Go on where the predecessor was: carry it out, or tell how it ended."""
    record = leg.referral
    if record is None or not leg.confirmed:
        return
    if record.state == "accepted":
        call.later(LOOK_AGAIN, carry_out, call, leg)
        return
    if record.state == "trying" and call.referred is not None and len(call.bridged) == 2:
        call.referred.reached()
        return
    if record.kind == "attended" and record.state == "final" and record.status == 200:
        call.later(LOOK_AGAIN, attended.end_consult, call, record.target, leg.destination, leg.context, 0)
    referral.notify(call, leg)
