"""An INVITE that may enter, on its way to becoming a leg: of a call of its own, or of one that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from node.calls import invite, reliable
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.directory import User
from node.sip import compose
from node.sip.dialog import Dialog
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction


class Arrival(Struct, frozen=True):
    """A new INVITE, and what the screen found out about its author."""

    request: Request
    transaction: ServerTransaction
    flow: Flow
    user: User | None = None
    context: str = ""
    "Named by an access list."
    variables: Mapping[str, str] = {}


def enter(call: Call, arrival: Arrival, uuid: str) -> Leg:
    """The leg that the INVITE makes in this call."""
    exchange, request, user = call.exchange, arrival.request, arrival.user
    settings = exchange.profile(arrival.flow.profile)
    assert settings is not None, "a flow of a profile we do not have"
    leg = Leg(uuid, "inbound", settings.name, created=exchange.wall())
    given = dict(arrival.variables)
    if user is not None:
        given = {**user.variables.plain(), "user_name": user.id, "domain_name": user.domain, **given}
    # Who passed digest or a list may say who it is; where nobody has to, everybody may, as in mod_sofia.
    trusted = not settings.auth_calls or given.get("sip_authorized") == "true" or "sip_looped_call" in given
    invite.arrive(leg, request, arrival.flow, given, trusted=trusted)
    domain = request.from_.uri.address if settings.context == "_domain_" else settings.context
    leg.context = arrival.context or leg.variables.get("user_context") or domain
    leg.dialplan = leg.variables.get("inbound_dialplan") or settings.dialplan
    leg.dialog = Dialog.uas(request, exchange.names.tag())
    if settings.auth_all_packets and user is not None and "sip_auth_realm" in arrival.variables:
        leg.proven = f"{user.id}@{user.domain}"
    call.legs.append(leg)
    call.receive(leg, request, arrival.transaction)
    if settings.enable_100rel:
        reliable.arrive(leg, request)
    exchange.enrol(call, leg)
    return leg


def refuse(exchange: Exchange, arrival: Arrival, status: int, phrase: str = "", error: SipError | None = None) -> None:
    """No leg comes of it."""
    exchange.count(arrival.flow.profile, "failed_calls_in")
    extra = [*exchange.headers(arrival.flow.profile), *(error.headers if error is not None else ())]
    tag = exchange.names.tag()
    response = compose.response(arrival.request, status, phrase or None, to_tag=tag, headers=extra)
    exchange.endpoint.respond(arrival.transaction, response)
