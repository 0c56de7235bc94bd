"""A leg of ours to somebody: how it is born, what it is offered, and its INVITE as it goes into the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import anchor, identity, invite, loops, passing, timer
from node.calls.destination import Destination
from node.calls.exchange import Exchange, new_uuid
from node.calls.leg import Leg
from node.sip import compose
from node.sip.dialog import Dialog
from node.sip.message import Request
from store.records import PendingInvite

if TYPE_CHECKING:
    from node.calls.call import Call

NTP = 2_208_988_800
"Seconds from 1900 to 1970: the first CSeq is counted like Sofia-SIP's."


def new_leg(call: Call, caller: Leg | None, destination: Destination, variables: dict[str, str]) -> Leg:
    """A leg that has been told nothing yet; the variables are its own from now on."""
    exchange = call.exchange
    uuid = variables.pop("origination_uuid", "") or new_uuid()
    leg = Leg(uuid, "outbound", destination.profile, created=exchange.wall())
    leg.variables = variables
    leg.gateway = destination.gateway
    leg.destination = destination.number
    leg.callee_id_number = destination.number
    invite.name_caller(leg, caller)
    leg.name = f"sofia/{destination.profile}/{destination.shown}"
    variables["direction"] = "outbound"
    variables["is_outbound"] = "true"
    variables["uuid"] = uuid
    variables["call_uuid"] = call.uuid
    variables["channel_name"] = leg.name
    variables["sip_profile_name"] = destination.profile
    variables["sofia_profile_name"] = variables["recovery_profile_name"] = destination.profile
    variables["sip_destination_url"] = uri = str(destination.uri)
    variables["sip_req_uri"] = uri.partition(":")[2]
    hops = 70
    if caller is not None:
        hops = int(caller.variables.get("max_forwards", "70") or 70) - 1
        leg.username, leg.context, leg.dialplan = caller.username, caller.context, caller.dialplan
        leg.network_addr = caller.network_addr
        variables["originator"] = variables["originating_leg_uuid"] = caller.uuid
        variables["signal_bond"] = caller.uuid
    variables["max_forwards"] = str(hops)
    settings = exchange.profile(destination.profile)
    assert settings is not None, "a destination without a profile"
    anchor.prepare(leg, settings)
    return leg


def offer(exchange: Exchange, leg: Leg, caller: Leg | None) -> str:
    """What the leg is offered: the caller's offer, something of our own, or nothing if the caller offered nothing.

    Raises SipError where that cannot be.
    """
    assert leg.media is not None
    if leg.media.local_sdp:
        return leg.media.local_sdp
    if caller is None:
        return anchor.own_offer(exchange, leg)
    assert caller.media is not None
    if not caller.media.remote_sdp:
        return anchor.own_offer(exchange, leg) if caller.media.codec else ""
    return anchor.offer_to(exchange, leg, anchor.towards(caller))


def write(call: Call, leg: Leg, destination: Destination, sdp: str) -> Request:
    """The leg's next INVITE with its Via, and all that the record must say of it."""
    assert leg.flow is not None
    exchange = call.exchange
    first = leg.dialog is None
    tag = exchange.names.tag() if leg.dialog is None else leg.dialog.local_tag
    call_id = leg.dialog.call_id if leg.dialog is not None else leg.variables.get("sip_invite_call_id") or new_uuid()
    leg.invite_cseq = leg.invite_cseq + 1 if leg.invite_cseq else (int(exchange.wall()) + NTP) // 2 % 2**27
    host = exchange.endpoint.address(leg.flow)[0]
    uri = str(destination.uri)
    local = destination.from_field or invite.from_field(leg, host)
    remote = destination.to_field or invite.to_field(leg, destination.uri, destination.to)
    request = compose.request(
        "INVITE",
        uri,
        from_=f"{local};tag={tag}",
        to=remote,
        call_id=call_id,
        cseq=leg.invite_cseq,
        max_forwards=int(leg.variables.get("max_forwards", "70")),
        routes=destination.routes,
        contact=exchange.contact(leg, leg.variables.get("sip_contact_user") or destination.contact_user),
        headers=_headers(exchange, leg, host, sdp),
        body=sdp.encode("utf-8", "surrogateescape"),
        content_type=invite.SDP if sdp else None,
    )
    # As `Dialog.uac` reads it from the request, which was composed of just this.
    leg.dialog = Dialog(
        call_id,
        tag,
        local=local,
        remote=remote.partition(";tag=")[0],
        target=uri,
        routes=destination.routes,
        cseq=leg.invite_cseq,
        secure=uri.startswith("sips:"),
    )
    if first:
        exchange.enrol(call, leg)
    leg.variables["sip_call_id"] = call_id
    leg.delayed = not sdp
    leg.transaction = None
    request = exchange.endpoint.layer.with_via(request, leg.flow)
    leg.pending = PendingInvite(role="client", request=request.encode(), flow=leg.flow.to_record())
    return request


def _headers(exchange: Exchange, leg: Leg, host: str, sdp: str) -> list[tuple[str, str]]:
    settings = exchange.profile(leg.profile)
    headers = [*exchange.headers(leg.profile), *leg.credentials]
    headers += timer.proposed(leg, settings)
    headers += loops.told(leg)
    headers += passing.named(leg)
    headers += leg.extra_headers("sip_h_")
    headers += identity.asserted(leg, host, settings.caller_id_type if settings is not None else "rpid")
    if sdp:
        headers.append(("Content-Disposition", "session"))
    return headers
