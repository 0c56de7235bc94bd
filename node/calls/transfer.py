"""REFER in a dialog: a leg has the one it is bridged with sent somewhere else (RFC 3515, RFC 5589), as mod_sofia does it.

What was asked for is in the record before its 202; from there it is carried out, by a successor too. Blind: the partner
goes to the dialplan, the referrer hears 200 at once and is hung up; with `confirm-blind-transfer` it waits beside and hears
what really becomes of it, and has its call back if that fails. Attended: the partners of the referrer's two calls are brought
together. Where the other call is not of this worker, the partner calls there with Replaces, and the outcome is confirmed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

from node.calls import alignment, announce, applications, causes, refer, relay, rerouting, union
from node.calls.exchange import Exchange, Extension
from node.calls.leg import Leg
from node.calls.reply import answer, own_user
from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, Response, parse
from node.sip.token import owner, slot
from node.sip.transaction import reply_flow
from node.sip.uri import Uri, unescape
from store.records import ReferralRecord, Step

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

log = logging.getLogger(__name__)

PATIENCE = 30
"So many times we look whether an exchange that is under way is over, or a dialog of ours revived."
LOOK_AGAIN = 0.1
FAREWELL = 2.0
"Seconds after which a referrer is hung up that does not answer our NOTIFY."


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
    notify(call, leg)
    record.silent = expires == 0
    call.save()


# ---- what it is told -----------------------------------------------------------------------------------------------------


def notify(call: Call, leg: Leg) -> None:
    """Tell the referrer how far it has come; when it is over, hang up on it if it has to go."""
    record = leg.referral
    if record is None or not leg.confirmed or leg.dialog is None or leg.flow is None:
        return
    final = record.state == "final"
    if record.silent:
        if final:
            _told(call, leg)
        return
    request = leg.dialog.request(
        "NOTIFY",
        contact=call.exchange.contact(leg, own_user(leg)),
        headers=[
            *call.exchange.headers(leg.profile),
            ("Event", refer.event(record.cseq)),
            ("Subscription-State", refer.state(final=final)),
        ],
        body=refer.fragment(record.status),
        content_type=refer.SIPFRAG,
    )

    def answered(leg: Leg, status: int, _response: Response | None) -> None:
        if final and status >= 200:
            _told(call, leg)

    call.ask(leg, request, answered)
    if final and leg.cause:
        call.later(FAREWELL, _told, call, leg)


def _told(call: Call, leg: Leg) -> None:
    record = leg.referral
    if record is None or record.state == "told" or not leg.live:
        return
    record.state, record.request, record.flow = "told", b"", None
    call.save()
    if leg.cause:
        call.release(leg, leg.cause)
        call.finish()


def conclude(call: Call, leg: Leg, status: int) -> None:
    """It is over: the referrer hears how it ended, and its call goes on or ends as `leg.cause` says."""
    assert leg.referral is not None
    leg.referral.state, leg.referral.status = "final", status
    call.commit(notify, call, leg)


# ---- carrying it out -----------------------------------------------------------------------------------------------------


def carry_out(call: Call, leg: Leg, looked: int = 0) -> None:
    """Do what is on record as asked for."""
    record = leg.referral
    if record is not None and record.state == "final":
        notify(call, leg)  # a predecessor had done it, as another record told meanwhile
    if record is None or record.state != "accepted" or not leg.confirmed:
        return
    target = refer.target(record.target)
    if target.replaces is None:
        _blind(call, leg, record, target, looked)
    else:
        _attended(call, leg, record, target, target.replaces, looked)


def _again(call: Call, leg: Leg, looked: int) -> bool:
    """Something is under way: look again in a moment, unless we have done so for long enough."""
    if looked < PATIENCE:
        call.later(LOOK_AGAIN, carry_out, call, leg, looked + 1)
    return looked < PATIENCE


def _refused(call: Call, leg: Leg, *others: Leg | None) -> bool:
    return any(one is not None and one.is_true("deny_refer_requests") for one in (leg, *others))


def _blind(call: Call, leg: Leg, record: ReferralRecord, target: refer.Target, looked: int) -> None:
    partner = call.partner(leg)
    extension = _extension(call, leg, target.uri)
    leg.variables["transfer_disposition"] = "recv_replace"
    if partner is None or not partner.confirmed or _refused(call, leg, partner):
        leg.variables["endpoint_disposition"] = "ATTENDED_TRANSFER_ERROR"
        announce.refused(call, leg, extension, record.target)
        log.info("call %s: %s has nobody who could be transferred", call.uuid, leg.name)
        conclude(call, leg, 403)
        return
    if call.modification is not None and _again(call, leg, looked):
        return
    leg.variables["transfer_to"] = f"blind:{partner.uuid}"
    leg.variables["transfer_destination"] = f"blind:{extension}"
    leg.variables["transfer_fallback_extension"] = leg.variables.get("sip_from_user") or leg.username
    leg.variables["endpoint_disposition"] = "BLIND_TRANSFER"
    _mark(partner, record)
    announce.transferred(call, leg, call, partner)
    routed = _send_on(call, leg, partner, record, extension)
    call.commit(_sent_on, call, leg, routed)


def _extension(call: Call, leg: Leg, uri: Uri) -> str:
    settings = call.exchange.profile(leg.profile)
    user = unescape(uri.user or uri.host)
    return f"{user}@{uri.host}" if settings is not None and settings.full_id_in_dialplan else user


def _mark(partner: Leg, record: ReferralRecord) -> None:
    """What the dialplan may know of the transfer, and its next leg is told."""
    if record.by:
        partner.variables["sip_h_Referred-By"] = record.by
    partner.variables["sip_refer_to"] = record.target


def _send_on(call: Call, leg: Leg, partner: Leg, record: ReferralRecord, extension: str) -> bool:
    """The partner goes to the dialplan; the referrer goes, or waits beside it."""
    record.transferee = partner.uuid
    if call.modification is not None:
        call.modification.interrupted(leg)
    call.unbridge()
    given = leg.variables
    context, dialplan = given.get("force_transfer_context", ""), given.get("force_transfer_dialplan", "")
    routed = rerouting.reroute(call, partner, extension, dialplan, context, "bl_xfer")
    _leave_or_wait(call, leg, record)
    return routed


def _leave_or_wait(call: Call, leg: Leg, record: ReferralRecord) -> None:
    if record.confirm:
        record.state = "trying"
        call.referred = Pursuit(call, leg)
    else:
        record.state, record.status = "final", 200
        leg.cause = "NORMAL_CLEARING"


def _sent_on(call: Call, leg: Leg, routed: bool) -> None:
    notify(call, leg)
    if routed:
        applications.run(call)
    else:
        call.conclude("NO_ROUTE_DESTINATION")


# ---- attended ------------------------------------------------------------------------------------------------------------


def find(exchange: Exchange, wanted: refer.Replaces) -> Extension | None:
    """The dialog that a Replaces names, if this worker has it. Some name the tags the wrong way round."""
    for ours, theirs in ((wanted.to_tag, wanted.from_tag), (wanted.from_tag, wanted.to_tag)):
        found = exchange.dialogs.get(ours)
        dialog = found.leg.dialog if found is not None else None
        if found is None or dialog is None or dialog.call_id != wanted.call_id:
            continue
        known = dialog.remote_tag or early_tag(found.leg)
        if not known or theirs in (known, "0"):
            return found
    return None


def early_tag(leg: Leg) -> str:
    """The tag of a callee that still rings, by its last provisional response."""
    if leg.pending is None or not leg.pending.response or leg.pending.role != "client":
        return ""
    return parse(leg.pending.response).to_tag


def _attended(
    call: Call, leg: Leg, record: ReferralRecord, target: refer.Target, wanted: refer.Replaces, looked: int
) -> None:
    leg.variables["transfer_disposition"] = "recv_replace"
    partner = call.partner(leg)
    found = find(call.exchange, wanted)
    if found is None:
        ours = owner(wanted.to_tag) == call.exchange.endpoint.token
        if ours and looked < PATIENCE and call.recovered:
            _again(call, leg, looked)  # its call may be revived only after this one
        elif partner is None or not partner.confirmed or _refused(call, leg, partner):
            conclude(call, leg, 403)
        elif ours:
            conclude(call, leg, 481)
        else:
            _call_there(call, leg, partner, record, target, wanted)
        return
    other, consult = found
    peer = other.partner(consult)
    if other is call or _refused(call, leg, consult, partner, peer):
        conclude(call, leg, 403)
        return
    calm = (partner is None or alignment.calm(call, partner)) and (peer is None or alignment.calm(other, peer))
    if not calm and _again(call, leg, looked):
        return
    consult.variables["transfer_disposition"] = "replaced"
    _bring_together(call, leg, record, other, consult, partner, peer)


def _bring_together(
    call: Call,
    leg: Leg,
    record: ReferralRecord,
    other: Call,
    consult: Leg,
    partner: Leg | None,
    peer: Leg | None,
) -> None:
    if partner is not None and peer is not None:
        _join(call, leg, record, other, consult, partner, peer)
    elif partner is not None and other.dialing is not None and other.legs[0] is consult and not consult.confirmed:
        _join_ringing(call, leg, record, other, consult, partner)
    elif partner is not None and consult.confirmed:
        _take_over(call, leg, record, other, consult, partner)
    elif peer is not None:
        _give_back(call, leg, record, other, consult, peer)
    else:
        log.info("call %s: %s would transfer legs that are in no bridge", call.uuid, leg.name)
        conclude(call, leg, 403)


def _join(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, partner: Leg, peer: Leg) -> None:
    """Both of the referrer's legs are bridged: their partners are bridged with each other, and the referrer goes."""
    leg.variables["transfer_to"] = f"att:{peer.uuid}"
    consult.variables["endpoint_disposition"] = "ATTENDED_TRANSFER"
    announce.replaced(other, consult, partner.uuid)
    announce.transferred(call, leg, call, partner, destination=peer.uuid, peer=consult.uuid)
    rerouting.note(call, partner, f"att_xfer:{_who(partner)}/{_who(peer)}")
    union.take(peer, other, call)
    union.strip(other)
    call.unbridge()
    record.transferee = partner.uuid
    record.state, record.status = "final", 200
    leg.cause = "NORMAL_CLEARING"
    rerouting.note(call, partner, f"uuid_br:{peer.uuid}")
    peer.variables["transfer_disposition"] = "bridge"
    union.bridge(call, partner, peer)
    call.commit(_joined, call, leg, other, peer)


def _who(leg: Leg) -> str:
    _name, number = union.identity(leg)
    return f"{number}@{leg.network_addr or leg.profile}"


def _joined(call: Call, leg: Leg, other: Call, peer: Leg) -> None:
    notify(call, leg)
    other.post(union.let_go, other, call, peer, "NORMAL_CLEARING")
    alignment.align(call)


def _join_ringing(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, partner: Leg) -> None:
    """The second call still rings: the partner waits for its answer in the referrer's place."""
    assert other.dialing is not None
    consult.variables["transfer_to"] = f"satt:{partner.uuid}"
    consult.variables["endpoint_disposition"] = "ATTENDED_TRANSFER"
    announce.replaced(other, consult, partner.uuid)
    announce.transferred(call, leg, call, partner, destination="", peer=consult.uuid)
    union.take(partner, call, other)
    other.legs.remove(partner)
    other.legs.insert(0, partner)
    other.dialing.caller = partner
    if other.waiting is not None:
        other.waiting.leg = partner
    rerouting.flip(other, partner)
    rerouting.note(other, partner, f"att_xfer:{_who(partner)}/{consult.destination}")
    union.strip(call)
    leg.cause = "NORMAL_CLEARING"
    consult.cause = "ORIGINATOR_CANCEL"
    other.post(other.commit, _joined_ringing, call, leg, other, consult, partner)


def _joined_ringing(call: Call, leg: Leg, other: Call, consult: Leg, partner: Leg) -> None:
    other.release(consult, "ORIGINATOR_CANCEL")
    call.post(conclude, call, leg, 200)
    call.post(call.commit, other.post, union.forget_origin, other, partner)


def _take_over(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, partner: Leg) -> None:
    """Behind the second call is an application: the partner calls what the referrer has called."""
    announce.transferred(call, leg, call, partner, destination=consult.uuid)
    _mark(partner, record)
    consult.variables["endpoint_disposition"] = "ATTENDED_TRANSFER"
    record.transferee, record.confirm = partner.uuid, False
    call.unbridge()
    routed = rerouting.reroute(call, partner, consult.destination, "", consult.context, "att_xfer")
    _leave_or_wait(call, leg, record)
    call.commit(_taken_over, call, leg, other, routed)


def _taken_over(call: Call, leg: Leg, other: Call, routed: bool) -> None:
    other.post(other.end, "ATTENDED_TRANSFER")
    _sent_on(call, leg, routed)


def _give_back(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, peer: Leg) -> None:
    """Behind the first call is an application: the second one's partner calls what the referrer has called there."""
    announce.transferred(call, leg, other, peer, destination=leg.uuid)
    _mark(peer, record)
    record.transferee = peer.uuid
    record.state, record.status = "final", 200
    leg.cause = "ATTENDED_TRANSFER"
    union.strip(call)
    call.commit(_given_back, call, leg, other, consult, peer)


def _given_back(call: Call, leg: Leg, other: Call, consult: Leg, peer: Leg) -> None:
    notify(call, leg)
    other.post(_route_peer, other, consult, peer, leg.destination, leg.context)


def _route_peer(other: Call, consult: Leg, peer: Leg, destination: str, context: str) -> None:
    if not peer.confirmed:
        return
    other.unbridge()
    routed = rerouting.reroute(other, peer, destination, "", context, "att_xfer")
    other.release(consult, "ATTENDED_TRANSFER")
    if routed:
        applications.run(other)
    else:
        other.end("NO_ROUTE_DESTINATION")


# ---- the other call is not of this worker ------------------------------------------------------------------------------------


def _call_there(
    call: Call, leg: Leg, partner: Leg, record: ReferralRecord, target: refer.Target, wanted: refer.Replaces
) -> None:
    """The partner calls the referrer's second partner, to take the place of the referrer's second call there."""
    _mark(partner, record)
    partner.variables["sip_h_Replaces"] = str(wanted)
    leg.variables["endpoint_disposition"] = "ATTENDED_TRANSFER"
    announce.transferred(call, leg, call, partner)
    record.transferee, record.confirm = partner.uuid, True
    call.unbridge()
    union.strip(call)
    call.legs.remove(partner)
    call.legs.insert(0, partner)
    rerouting.flip(call, partner)
    rerouting.note(call, partner, f"att_xfer:{_who(partner)}/{target.uri}")
    partner.variables.pop("current_application", None)
    call.steps, call.position = [Step("bridge", _dial_string(call, leg, target.uri, wanted))], 0
    _leave_or_wait(call, leg, record)
    call.commit(_sent_on, call, leg, True)


def _dial_string(call: Call, leg: Leg, uri: Uri, wanted: refer.Replaces) -> str:
    """Where the INVITE with Replaces goes: to a node's own worker, to a user's phones, or to who was named.

    Of the URI nothing is taken over that a dial string could take for its own.
    """
    exchange = call.exchange
    user = quote(unescape(uri.user), safe="-_.!~*+")
    token = owner(wanted.to_tag)
    profile = slot(token).rpartition("#")[0] if token is not None else ""
    if exchange.profile(profile) is not None:
        host, port = exchange.endpoint.local(profile)
        host = f"[{host}]" if ":" in host else host
        return f"sofia/{leg.profile}/sip:{user}@{host}:{port}"
    if exchange.directory.find(unescape(uri.user), uri.host) is not None:
        return f"user/{user}@{uri.host}"
    transport = f";transport={uri.transport.lower()}" if uri.transport.isalpha() else ""
    return f"sofia/{leg.profile}/{uri.scheme}:{user}@{uri.host_port}{transport}"


# ---- while the referrer waits ------------------------------------------------------------------------------------------------


class Pursuit:
    """A transfer whose outcome the referrer waits for, its leg beside the transferred one. `call.referred` is the one."""

    __slots__ = ("call", "leg")

    def __init__(self, call: Call, leg: Leg) -> None:
        self.call = call
        self.leg = leg

    def rings(self) -> None:
        """Whoever is called rings."""
        record = self.leg.referral
        if record is not None and record.status < 180:
            record.status = 180
            self.call.save()
            notify(self.call, self.leg)

    def reached(self) -> None:
        """The transferred leg talks to somebody, or to something: the referrer may go."""
        call, leg = self.call, self.leg
        call.referred = None
        call.legs[0].variables.pop("sip_h_Replaces", None)
        leg.cause = leg.cause or "NORMAL_CLEARING"
        conclude(call, leg, 200)

    def failed(self, cause: str) -> bool:
        """Nobody was reached: bridge the two again. False if that cannot be."""
        call, leg, transferee = self.call, self.leg, self.call.legs[0]
        call.referred = None
        transferee.variables.pop("sip_h_Replaces", None)
        if not (leg.confirmed and not leg.cause and transferee.confirmed and not transferee.cause):
            return False
        status = _failure(transferee, cause)
        log.info("call %s: transfer of %s failed: %s", call.uuid, transferee.name, cause)
        union.strip(call)
        union.bridge(call, transferee, leg)
        conclude(call, leg, status)
        alignment.align(call)
        return True

    def forget(self, leg: Leg) -> None:
        """A leg is gone; if it was the referrer, nobody waits any more."""
        if leg is self.leg:
            self.call.referred = None


def _failure(transferee: Leg, cause: str) -> int:
    protocol, _, status = transferee.variables.get("last_bridge_proto_specific_hangup_cause", "").partition(":")
    if protocol == "sip" and status.isdigit() and int(status) >= 300:
        return int(status)
    return causes.to_status(transferee.variables.get("originate_failed_cause") or cause)


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
            call.referred = Pursuit(call, leg)


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
        call.later(LOOK_AGAIN, _end_consult, call, record.target, leg.destination, leg.context, 0)
    notify(call, leg)


def _end_consult(call: Call, text: str, destination: str, context: str, looked: int) -> None:
    """The predecessor may not have come to ending the referrer's second call, which may be revived after this one."""
    wanted = refer.target(text).replaces
    found = find(call.exchange, wanted) if wanted is not None else None
    if found is None:
        if wanted is not None and looked < PATIENCE and owner(wanted.to_tag) == call.exchange.endpoint.token:
            call.later(LOOK_AGAIN, _end_consult, call, text, destination, context, looked + 1)
        return
    other, consult = found
    peer = other.partner(consult)
    if other is call or consult.cause:
        return
    if peer is not None and peer.confirmed:
        other.post(_route_peer, other, consult, peer, destination, context)
    else:
        other.post(other.end, "ATTENDED_TRANSFER")
