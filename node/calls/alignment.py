"""Bringing two bridged legs into line that did not agree with each other, but with somebody else before.

One may still be on hold, and they need not speak the same codecs, or call them by the same numbers: re-INVITEs follow
until both were told what the other one says.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import TYPE_CHECKING

from node.calls import anchor, display, refresh
from node.calls.leg import Leg
from node.media import negotiation
from node.media.sdp import Direction
from node.sip.errors import SipError
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

OFFERS = 4
"Re-INVITEs that bringing two legs into line may take: two as a rule."
PATIENCE = 60
"So many times we look whether an exchange that is under way is over."
LOOK_AGAIN = 0.2

_CRYPTO = re.compile(r"^a=crypto:\d+ +(.*?)\s*$", re.MULTILINE)


def calm(call: Call, *legs: Leg) -> bool:
    """Is no offer under way with any of these legs, and every 2xx acknowledged?"""
    return call.modification is None and all(
        leg.confirmed and leg.pending is None and not leg.awaits_ack and leg.repeat is None for leg in legs
    )


def due(call: Call) -> None:
    """The record is to say, from its next put on, that the bridged legs may not fit each other."""
    call.progress["align"] = "0"


def wanted(call: Call) -> bool:
    """Whether the record says so."""
    return "align" in call.progress


def align(call: Call) -> None:
    """Have both bridged legs told what the other one says, if they were not."""
    due(call)
    _align(call, 0)


def resume(call: Call) -> None:
    """After a failover: go on with it."""
    if wanted(call):
        _align(call, 0)


def _align(call: Call, looked: int) -> None:
    made = int(call.progress.get("align", str(OFFERS)))
    if len(call.bridged) != 2 or made >= OFFERS or looked >= PATIENCE:
        call.progress.pop("align", None)
        display.tell(call)
        return
    if not calm(call, *call.bridged):
        call.later(LOOK_AGAIN, _align, call, looked + 1)
        return
    first, second = call.bridged
    for leg, other in ((first, second), (second, first)):
        if not in_line(leg, other) and (offer := _offer(call, leg, other)):
            call.progress["align"] = str(made + 1)
            said = display.said_along(call, leg, other)
            refresh.reinvite(call, leg, offer, partial(_on_answer, call, looked), said)
            return
    call.progress.pop("align", None)
    display.tell(call)
    call.save()


def _on_answer(call: Call, looked: int, leg: Leg, status: int, response: Response | None) -> None:
    if status == 491:
        call.progress["align"] = str(max(0, int(call.progress.get("align", "1")) - 1))
        call.later(LOOK_AGAIN, _align, call, looked + 1)
    elif response is None or status == 481:
        call.lost(leg, "RECOVERY_ON_TIMER_EXPIRE" if response is None else "NORMAL_TEMPORARY_FAILURE")
    elif status >= 300:
        log.info("call %s: %s refuses to be brought into line: %d", call.uuid, leg.name, status)
        call.progress.pop("align", None)
        display.tell(call)
    else:
        _align(call, looked)


def _offer(call: Call, leg: Leg, other: Leg) -> str:
    """What the other leg can hear, as an offer to this one."""
    try:
        return anchor.offer_to(call.exchange, leg, said_by(other))
    except SipError as error:
        log.info("call %s: no offer for %s: %s", call.uuid, leg.name, error)
        return ""


def said_by(leg: Leg) -> str:
    """What a leg can be bridged with from now on: what it agreed on before, no more held than it holds. Raises SipError."""
    assert leg.media is not None
    text = negotiation.agreed(leg.media.remote_sdp, leg.media.local_sdp)
    return negotiation.with_direction(text, _direction(leg))


def _direction(leg: Leg) -> Direction:
    """What a leg wants of its partner: everything, unless it holds."""
    assert leg.media is not None
    return negotiation.audio_of(leg.media.remote_sdp).direction if leg.held else "sendrecv"


def in_line(leg: Leg, other: Leg) -> bool:
    """Was a leg told, last time, something that fits what the other one can hear?"""
    if leg.media is None or other.media is None or not leg.media.local_sdp:
        return True
    try:
        told, heard = negotiation.audio_of(leg.media.local_sdp), negotiation.audio_of(leg.media.remote_sdp)
        said = negotiation.audio_of(other.media.remote_sdp)
        wanted = _direction(other)
    except SipError:
        return True  # nothing that could be made better by saying it again
    if told.direction != wanted and not (leg.held and told.direction in ("recvonly", "inactive")):
        return False
    keys = set(_CRYPTO.findall(leg.media.local_sdp)), set(_CRYPTO.findall(other.media.remote_sdp))
    if (keys[0] or keys[1]) and not keys[0] & keys[1]:
        return False
    spoken = [codec for codec in told.codecs if any(codec.same(one) for one in heard.codecs)]
    for codec in spoken:
        numbers = [one.payload_type for one in said.codecs if codec.same(one)]
        if codec.payload_type not in numbers and (numbers or not codec.is_accessory):
            return False
    return any(not codec.is_accessory for codec in spoken)
