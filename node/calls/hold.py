"""A leg's new session description counts from now on; whether it holds is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import anchor
from node.calls.leg import Leg

if TYPE_CHECKING:
    from node.calls.call import Call


def take(call: Call, leg: Leg, sdp: str) -> None:
    """Send to where it says; fire CHANNEL_HOLD or CHANNEL_UNHOLD. Raises SipError."""
    held = leg.held
    anchor.hear(call.exchange, leg, sdp)
    if leg.held == held:
        return
    now = call.exchange.wall()
    if leg.held:
        leg.last_hold = now
        call.tell("CHANNEL_HOLD", leg)
    else:
        leg.hold_accumulated += now - leg.last_hold if leg.last_hold else 0.0
        call.tell("CHANNEL_UNHOLD", leg)
