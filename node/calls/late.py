"""Answers that come in an ACK, of a leg that took another one's place, or of the caller it picked up: to the offer in our 200.

The other one of the two hears its own 200 only then, if it has none yet.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, reliable
from node.calls.leg import Leg
from node.media.errors import NotAcceptable
from node.sip.errors import SipError

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)


def await_leg(call: Call) -> None:
    """What the new leg answers, its partner is told."""
    call.answered_by = partial(_on_leg, call)


def await_caller(call: Call) -> None:
    """What the caller answers, the new leg is told, which hears its 200 then."""
    call.answered_by = partial(_on_caller, call)


def told(caller: Leg) -> bool:
    """Whether the caller has an answer already, or our offer, from somebody who came before."""
    return (
        caller.confirmed or caller.early_sent or bool(caller.media and caller.media.codec) or reliable.settled(caller)
    )


def answer(call: Call, caller: Leg, sdp: str) -> str:
    """What the caller's 200 is to hold. Raises SipError."""
    assert caller.media is not None
    mine = caller.media.local_sdp if told(caller) else anchor.answer_to(caller, sdp)
    anchor.hear(call.exchange, caller, caller.media.remote_sdp)
    return mine


def _on_leg(call: Call, leg: Leg, sdp: str) -> None:
    """The leg that picked up has told its answer: now the caller hears its own."""
    other = call.partner(leg)
    if other is None or not other.live:
        return
    try:
        _hear(call, leg, sdp)
        mine = "" if other.confirmed else answer(call, other, sdp)
    except SipError as refusal:
        _misunderstood(call, leg, refusal)
        return
    if other.confirmed:
        alignment.align(call)
    else:
        call.answer(other, mine, partial(alignment.align, call))


def _on_caller(call: Call, caller: Leg, sdp: str) -> None:
    """The caller, who had offered nothing, has told its answer: now the leg that picked up hears its own."""
    leg = call.partner(caller)
    if leg is None or not leg.live or leg.media is None:
        return
    offered = leg.media.remote_sdp
    try:
        _hear(call, caller, sdp)
        if offered:
            mine = anchor.answer_to(leg, sdp)
            anchor.hear(call.exchange, leg, offered)
        else:
            mine = anchor.offer_to(call.exchange, leg, alignment.said_by(caller))
    except SipError as refusal:
        _misunderstood(call, caller, refusal)
        return
    if offered:
        call.answer(leg, mine, partial(alignment.align, call))
    else:
        await_leg(call)
        call.answer(leg, mine)


def _hear(call: Call, leg: Leg, sdp: str) -> None:
    if not sdp:
        raise NotAcceptable("an ACK without the answer")
    anchor.hear(call.exchange, leg, sdp)


def _misunderstood(call: Call, leg: Leg, refusal: SipError) -> None:
    log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, refusal)
    call.end("INCOMPATIBLE_DESTINATION")


def resume(call: Call) -> bool:
    """After a failover: does one of the bridged legs still owe the answer to our offer in its 200? Then that is awaited."""
    caller, leg = call.bridged
    if _owes(caller) and leg.served and not leg.confirmed:
        await_caller(call)
    elif _owes(leg) or (_owes(caller) and not leg.awaits_ack and not leg.delayed):
        await_leg(call)
    else:
        return False
    return True


def _owes(leg: Leg) -> bool:
    return leg.served and leg.confirmed and leg.media is not None and not leg.media.remote_sdp
