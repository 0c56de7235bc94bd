"""Bringing answered legs together that did not call each other: of one call, or of two calls of this worker.

A leg that moves from one call to another is for a moment in two records: first the taking call's is written, which says whom
it took the leg from, then the other one's. Whoever finds both goes by that word (`claim`).
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, display, identity, outcome, refresh, timer
from node.calls.bridging import Bridging
from node.calls.leg import Leg
from store.records import Step

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

# ---- from call to call ---------------------------------------------------------------------------------------------------


def take(leg: Leg, source: Call, target: Call) -> None:
    """An answered leg belongs to another call from now on. What is left of the former one is for the caller to end."""
    if leg in source.bridged:
        source.unbridge()
    source.legs.remove(leg)
    target.legs.append(leg)
    leg.taken_from = source.uuid
    leg.variables["call_uuid"] = target.uuid
    if leg.asked is not None:
        leg.asked.call = target
        reinvited = leg.pending is not None and leg.pending.role == "client"  # and that is being taken back
        settle = partial(refresh.on_reinvited, target, None) if reinvited else partial(outcome.late_response, target)
        leg.asked.then = settle
    if leg.served:
        leg.transaction.owner = target
    if leg.refresh is not None:
        timer.carry_on(target, leg)
    target.exchange.enrol(target, leg)


def strip(call: Call) -> None:
    """Nothing of its dialplan goes on: a leg it ran for was taken away."""
    waiting, call.waiting = call.waiting, None
    if waiting is not None:
        waiting.abandon()
    call.steps, call.position, call.progress = [], 0, {}


def let_go(source: Call, target: Call, taken: Leg, cause: str) -> None:
    """End what is left of a call; when that is on record, nobody needs to be told any more whose the taken leg is."""
    source.end(cause)
    source.commit(target.post, forget_origin, target, taken)


def forget_origin(call: Call, leg: Leg) -> None:
    """The record of the call it was taken from does not have it any more."""
    leg.taken_from = ""
    call.save()


def claim(call: Call) -> None:
    """After a failover: each leg of a revived call may be in another call too, one of which took it from the other."""
    for leg in list(call.legs):
        found = call.exchange.dialogs.get(leg.dialog.local_tag) if leg.dialog is not None and leg.live else None
        if found is None or found.call is call:
            continue
        if found.leg.taken_from == call.uuid:
            _lose(call, leg)
        elif leg.taken_from == found.call.uuid:
            found.call.post(_lose_later, found.call, found.leg)


def _lose(call: Call, leg: Leg) -> None:
    """Another call has this leg: what is left here was to be ended."""
    log.info("call %s: leg %s was taken away by a transfer", call.uuid, leg.uuid)
    call.legs.remove(leg)
    if leg.parting:
        return  # the others do not depend on it
    call.bridged = []
    call.steps, call.position, call.progress = [], 0, {}
    for other in call.legs:
        other.cause = other.cause or "NORMAL_CLEARING"
        if other.referral is not None and other.referral.state in ("accepted", "trying"):
            other.referral.state, other.referral.status = "final", 200


def _lose_later(call: Call, leg: Leg) -> None:
    if leg in call.legs and leg.parting:
        _lose(call, leg)
        call.save()
    elif leg in call.legs:
        call.waiting = None
        _lose(call, leg)
        for other in list(call.legs):
            if other.referral is None or other.referral.state == "told":
                call.release(other, other.cause)
        call.finish()
        call.save()


# ---- into one bridge -----------------------------------------------------------------------------------------------------


def bridge(call: Call, first: Leg, second: Leg, *, fresh: bool = True) -> None:
    """Two answered legs of a call are one from now on; it is `first` whose dialplan would go on after them.

    `fresh`: the dialplan that brought the first one here is over; else it goes on when the second one hangs up.
    """
    call.legs.remove(first)
    call.legs.insert(0, first)
    waiting = call.waiting
    if fresh or not isinstance(waiting, Bridging) or waiting.leg is not first:
        call.steps, call.position = [Step("bridge", "")], 0
        waiting = call.waiting = Bridging(call, first, "")
        first.variables["current_application"], first.variables["current_application_data"] = "bridge", ""
    waiting.unite(second)
    alignment.due(call)
    display.due(call)
    first.callee_id_name, first.callee_id_number = identity.of(second)
    call.tell("CHANNEL_BRIDGE", first, second)
