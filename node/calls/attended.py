"""Attended transfer: a REFER whose Refer-To names another dialog of the referrer's (RFC 5589 7).

Both calls of this worker: their partners are brought together in one of them. The other call is of another worker, or of
nobody here: the partner calls there with Replaces, and the outcome is confirmed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import quote

from node.calls import alignment, announce, applications, identity, refer, referral, rerouting, union
from node.calls.exchange import Exchange, Extension
from node.calls.leg import Leg
from node.sip.message import parse
from node.sip.token import owner, slot
from node.sip.uri import Uri, unescape
from store.records import ReferralRecord, Step

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

PATIENCE = 30
"So many times we look whether a dialog of ours is revived."
LOOK_AGAIN = 0.1


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


def begin(
    call: Call,
    leg: Leg,
    record: ReferralRecord,
    target: refer.Target,
    wanted: refer.Replaces,
    again: Callable[[], bool],
) -> None:
    """Carry it out; `again` has us called once more in a moment, and says no when it was often enough."""
    leg.variables["transfer_disposition"] = "recv_replace"
    partner = call.partner(leg)
    found = find(call.exchange, wanted)
    if found is None:
        ours = owner(wanted.to_tag) == call.exchange.endpoint.token
        if ours and call.recovered and again():
            return  # its call may be revived only after this one
        if partner is None or not partner.confirmed or referral.refused(leg, partner):
            referral.conclude(call, leg, 403)
        elif ours:
            referral.conclude(call, leg, 481)
        else:
            _call_there(call, leg, partner, record, target, wanted)
        return
    other, consult = found
    peer = other.partner(consult)
    if other is call or referral.refused(leg, consult, partner, peer):
        referral.conclude(call, leg, 403)
        return
    calm = (partner is None or alignment.calm(call, partner)) and (peer is None or alignment.calm(other, peer))
    if not calm and again():
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
        referral.conclude(call, leg, 403)


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
    _name, number = identity.of(leg)
    return f"{number}@{leg.network_addr or leg.profile}"


def _joined(call: Call, leg: Leg, other: Call, peer: Leg) -> None:
    referral.notify(call, leg)
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
    call.post(referral.conclude, call, leg, 200)
    call.post(call.commit, other.post, union.forget_origin, other, partner)


def _take_over(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, partner: Leg) -> None:
    """Behind the second call is an application: the partner calls what the referrer has called."""
    announce.transferred(call, leg, call, partner, destination=consult.uuid)
    referral.mark(partner, record)
    consult.variables["endpoint_disposition"] = "ATTENDED_TRANSFER"
    record.transferee, record.confirm = partner.uuid, False
    call.unbridge()
    routed = rerouting.reroute(call, partner, consult.destination, "", consult.context, "att_xfer")
    referral.leave_or_wait(call, leg, record)
    call.commit(_taken_over, call, leg, other, routed)


def _taken_over(call: Call, leg: Leg, other: Call, routed: bool) -> None:
    other.post(other.end, "ATTENDED_TRANSFER")
    referral.sent_on(call, leg, routed)


def _give_back(call: Call, leg: Leg, record: ReferralRecord, other: Call, consult: Leg, peer: Leg) -> None:
    """Behind the first call is an application: the second one's partner calls what the referrer has called there."""
    announce.transferred(call, leg, other, peer, destination=leg.uuid)
    referral.mark(peer, record)
    record.transferee = peer.uuid
    record.state, record.status = "final", 200
    leg.cause = "ATTENDED_TRANSFER"
    union.strip(call)
    call.commit(_given_back, call, leg, other, consult, peer)


def _given_back(call: Call, leg: Leg, other: Call, consult: Leg, peer: Leg) -> None:
    referral.notify(call, leg)
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
    referral.mark(partner, record)
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
    referral.leave_or_wait(call, leg, record)
    call.commit(referral.sent_on, call, leg, True)


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


# ---- after a failover --------------------------------------------------------------------------------------------------------


def end_consult(call: Call, text: str, destination: str, context: str, looked: int) -> None:
    """The predecessor may not have come to ending the referrer's second call, which may be revived after this one."""
    wanted = refer.target(text).replaces
    found = find(call.exchange, wanted) if wanted is not None else None
    if found is None:
        if wanted is not None and looked < PATIENCE and owner(wanted.to_tag) == call.exchange.endpoint.token:
            call.later(LOOK_AGAIN, end_consult, call, text, destination, context, looked + 1)
        return
    other, consult = found
    peer = other.partner(consult)
    if other is call or consult.cause:
        return
    if peer is not None and peer.confirmed:
        other.post(_route_peer, other, consult, peer, destination, context)
    else:
        other.post(other.end, "ATTENDED_TRANSFER")
