"""What the console has done with single legs: `uuid_transfer`, `uuid_bridge`, `uuid_deflect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import alignment, applications, rerouting, union
from node.calls.leg import Leg

if TYPE_CHECKING:
    from node.calls.call import Call


def transfer(call: Call, leg: Leg, extension: str, dialplan: str, context: str) -> None:
    """A leg goes to the dialplan; who it was bridged with is hung up."""
    if not leg.confirmed or leg.cause:
        return
    partner = call.partner(leg)
    if call.modification is not None:
        call.modification.interrupted(leg)
    call.unbridge()
    routed = rerouting.reroute(call, leg, extension, dialplan, context, "bl_xfer")
    if partner is not None:
        partner.cause = "NORMAL_CLEARING"
    call.commit(_transferred, call, partner, routed)


def _transferred(call: Call, partner: Leg | None, routed: bool) -> None:
    if partner is not None:
        call.release(partner, partner.cause)
    if routed:
        applications.run(call)
    else:
        call.end("NO_ROUTE_DESTINATION")


def may_join(call: Call, leg: Leg, other: Call, peer: Leg) -> bool:
    """Two answered legs with nothing under way."""
    return leg is not peer and alignment.calm(call, leg) and alignment.calm(other, peer)


def join(call: Call, leg: Leg, other: Call, peer: Leg) -> None:
    """Bridge two legs; whoever else is in their calls goes."""
    if other is not call:
        union.take(peer, other, call)
        union.strip(other)
    call.unbridge()
    union.strip(call)
    rest = [one for one in call.legs if one not in (leg, peer) and one.live]
    for one in rest:
        one.cause = one.cause or "NORMAL_CLEARING"
    rerouting.note(call, leg, f"uuid_br:{peer.uuid}")
    union.bridge(call, leg, peer)
    call.commit(_joined, call, other, peer, rest)


def _joined(call: Call, other: Call, peer: Leg, rest: list[Leg]) -> None:
    for one in rest:
        call.release(one, one.cause)
    if other is not call:
        other.post(union.let_go, other, call, peer, "NORMAL_CLEARING")
    alignment.align(call)
