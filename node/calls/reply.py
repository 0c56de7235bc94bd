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

PATIENCE = 24.0
"""Seconds after which a request other than INVITE is answered that has been passed on, and is not answered there.

Its author's own transaction lasts 32 (RFC 3261 17.1.2.2), ours to the other leg just as long, and a 408 may not be said
(RFC 4320): who waited for that would never answer. A phone whose connection is gone has had its 20 (`Detour`).
"""
REFUSED = {481: 500, 401: 403, 407: 403}
"What the other leg says of its own dialog, or asks of us and nobody here can answer, is said otherwise to this one."


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
