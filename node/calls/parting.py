"""Two bridged legs go ways of their own: `uuid_transfer -both` sends each of them to the dialplan, the second one in a new call.

First the old call's record says that the second leg is to go, and where; then the new call's has it; then the old one's has it
no more. Whoever takes over finds it in one of the two, or goes by the word of the one that took it (`union.claim`).
"""

from __future__ import annotations

from functools import partial

from node.calls import applications, rerouting, union
from node.calls.call import Call
from node.calls.leg import Leg

PATIENCE = 1.0
"Seconds a successor waits for the record of the call that may have the leg already, unless it has all records before."


def transfer(call: Call, leg: Leg, extension: str, dialplan: str, context: str) -> None:
    """Both legs of a bridge go to an extension, each by itself."""
    partner = call.partner(leg)
    assert partner is not None, "a leg that is alone goes by itself"
    if not leg.confirmed or leg.cause or not partner.confirmed or partner.cause:
        return
    if call.modification is not None:
        call.modification.interrupted(leg)
    call.unbridge()
    partner.parting = (extension, dialplan, context)
    routed = rerouting.reroute(call, leg, extension, dialplan, context, "bl_xfer")
    call.commit(_parted, call, partner, routed)


def _parted(call: Call, partner: Leg, routed: bool) -> None:
    part(call, partner)
    if routed:
        applications.run(call)
    else:
        call.end("NO_ROUTE_DESTINATION")


def part(call: Call, leg: Leg) -> None:
    """A leg that is to go makes a call of its own."""
    if leg not in call.legs or not leg.confirmed or leg.cause or not leg.parting:
        return
    extension, dialplan, context = leg.parting
    leg.parting = ()
    other = Call(call.exchange, leg.uuid, leg.profile)
    other.state = "answered"
    call.exchange.calls[other.uuid] = other
    union.take(leg, call, other)
    routed = rerouting.reroute(other, leg, extension, dialplan, context, "bl_xfer")
    other.post(other.commit, _gone, call, other, leg, routed)
    call.save()


def _gone(call: Call, other: Call, leg: Leg, routed: bool) -> None:
    call.post(call.commit, other.post, union.forget_origin, other, leg)
    if routed:
        applications.run(other)
    else:
        other.end("NO_ROUTE_DESTINATION")


def resume(call: Call) -> None:
    """After a failover: a leg may still have to go, unless another record has it, which may be revived after this one."""
    for leg in call.legs:
        if leg.parting:
            call.later(PATIENCE, part, call, leg)
            call.exchange.once_claimed(partial(call.post, part, call, leg))
