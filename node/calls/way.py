"""The way to a leg's peer changes when the peer connects anew (pure)."""

from __future__ import annotations

from node.calls.leg import Leg
from node.sip.flow import Flow


def follow(leg: Leg, flow: Flow) -> bool:
    """A request in the leg's dialog came by this flow: ours go by it from now on, if it is another connection.

    Only from the peer itself, or from the proxy that the last ones came from; and never by another transport.
    """
    old = leg.flow
    if old is None or not old.reliable or flow.connection == old.connection:
        return False
    if (flow.profile, flow.transport) != (old.profile, old.transport):
        return False
    if leg.dialog is not None and leg.dialog.routes and flow.remote[0] != old.remote[0]:
        return False
    leg.flow = flow
    return True
