"""Answers to requests inside a dialog."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip import compose
from node.sip.message import Request

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

Headers = tuple[tuple[str, str], ...]


def answer(
    call: Call,
    leg: Leg,
    request: Request,
    transaction: ServerTransaction,
    status: int,
    *,
    headers: Headers = (),
    contact: bool = False,
) -> None:
    """Answer a request in a dialog."""
    extra = [*call.exchange.headers(leg.profile), *headers]
    own = call.exchange.contact(leg, contact_user(leg, request)) if contact else None
    response = compose.response(request, status, headers=extra, contact=own)
    call.exchange.endpoint.respond(transaction, response)


def contact_user(leg: Leg, request: Request) -> str:
    """The user part of our Contact in an answer: as we were addressed."""
    return request.target.user or leg.destination


def own_user(leg: Leg) -> str:
    """The user part of our Contact in requests to a leg."""
    return leg.destination if leg.direction == "inbound" else leg.variables.get("sip_contact_user", "")
