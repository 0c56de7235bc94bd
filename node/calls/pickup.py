"""A leg picks up a call that still rings (RFC 3891 3, early dialogs): it and the caller are told each what the other one offers.

Who has offered nothing is made an offer in its 200, and its ACK holds the answer: the other one hears its 200 only then. What
a caller was told before, by early media, stays; what does not fit is mended after the answer.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, announce, late, reliable, serving, union
from node.calls.leg import Leg
from node.media import negotiation
from node.media.errors import NotAcceptable

if TYPE_CHECKING:
    from node.calls.call import Call


def ready(call: Call) -> bool:
    """May it be picked up now? Not before the caller has its port, and has answered an offer of ours."""
    caller = call.legs[0]
    return caller.media is not None and bool(caller.media.port) and not reliable.offers(caller)


def pick_up(call: Call, leg: Leg) -> None:
    """The leg has answered in the place of all that are being called. Raises SipError, and has done nothing then."""
    caller = call.legs[0]
    assert leg.media is not None
    said, offered = _said(caller), leg.media.remote_sdp
    if said and offered:
        demand_common(said, offered)
        sdp = anchor.answer_to(leg, said)
        anchor.hear(call.exchange, leg, offered)
        mine = late.answer(call, caller, offered)
        then = _unite(call, caller, leg)
        if caller.confirmed:
            call.answer(leg, sdp, then)
            return
        # Both 200s in one record: neither is ever answered without the other.
        serving.answer(call, leg, sdp, None, write=call.once_stored)
        call.answer(caller, mine, then)
    elif said:
        sdp = anchor.offer_to(call.exchange, leg, said)
        then = _unite(call, caller, leg)
        late.await_leg(call)
        call.answer(leg, sdp, then)
    else:
        sdp = anchor.offer_to(call.exchange, caller, offered) if offered else anchor.own_offer(call.exchange, caller)
        then = _unite(call, caller, leg)
        late.await_caller(call)
        call.answer(caller, sdp, then)


def _said(caller: Leg) -> str:
    """What the caller has offered, or agreed on; empty for one that has offered nothing."""
    if caller.media is None or not caller.media.remote_sdp:
        return ""
    return alignment.said_by(caller) if late.told(caller) else caller.media.remote_sdp


def _unite(call: Call, caller: Leg, leg: Leg) -> partial[None]:
    """The two are one from now on; returns what is to follow when that is on record."""
    dialing = call.dialing
    assert dialing is not None
    called = [attempt.leg for attempt in dialing.attempts]
    for one in called:
        announce.intercepted(call, one, leg.uuid)
        one.cause = "PICKED_OFF"
    dialing.forget()
    call.dialing = None
    union.bridge(call, caller, leg, fresh=False)
    return partial(_picked_up, call, called)


def _picked_up(call: Call, called: list[Leg]) -> None:
    """The record is safe: those who were called are told that it is over."""
    for one in called:
        call.release(one, one.cause)
    if call.answered_by is None:
        alignment.align(call)


def demand_common(one: str, other: str) -> None:
    """Raises NotAcceptable if two descriptions have no codec in common."""
    mine, theirs = negotiation.audio_of(one).codecs, negotiation.audio_of(other).codecs
    if not any(codec.same(each) for codec in mine if not codec.is_accessory for each in theirs):
        raise NotAcceptable("no codec in common")
