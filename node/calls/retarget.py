"""Target refresh (RFC 3261 12.2): a new Contact in a dialog, and the way to it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call


def follow(call: Call, leg: Leg, message: Request | Response, came: Flow | None = None) -> None:
    """The leg's requests go to the Contact of this re-INVITE, UPDATE, or 2xx to one, which `came` this way."""
    dialog = leg.dialog
    assert dialog is not None
    before = dialog.target
    dialog.refresh(message)
    if dialog.target != before:
        find(call, leg, came)


def find(call: Call, leg: Leg, came: Flow | None = None) -> None:
    """Where the leg's requests go from now on, if that is not the way it came."""
    assert leg.dialog is not None
    assert leg.flow is not None
    if leg.flow.connection or leg.flow.reliable or leg.nat:
        # It is reached by the way it comes, whatever its Contact says; but what was in cipher never goes in clear.
        if came is not None and (came.secure or not leg.flow.secure):
            leg.flow = came
        return
    found = partial(call.post, _on_way, call, leg)
    call.exchange.endpoint.locate(leg.dialog.next_hop, leg.profile, found)


def _on_way(call: Call, leg: Leg, flows: list[Flow] | SipError) -> None:
    if not isinstance(flows, SipError) and flows and leg.live:
        leg.flow = flows[0]
        call.save()
