"""An INVITE that we serve: what its author is told, from ringing to the answer, until it acknowledges that.

What is told reliably (RFC 3262) is in `reliable.py`; a 2xx waits for the PRACK of a session description told before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import invite, reliable, timer
from node.calls.leg import Leg
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

log = logging.getLogger(__name__)

T1, T2 = 0.5, 4.0
"RFC 3261 17.1.1.1; the 2xx is repeated by these whatever the profile's timers are."


# ---- before the answer -----------------------------------------------------------------------------------------------


def ring(call: Call, leg: Leg, status: int) -> None:
    """Tell an unanswered caller that it rings."""
    if leg.state not in ("trying", "ringing") or leg.transaction is None or leg.pending is None:
        if call.referred is not None:
            call.referred.rings()
        return
    first = leg.state == "trying"
    leg.state = "ringing"
    call.state = "ringing"
    leg.progressed = leg.progressed or call.exchange.wall()
    _provide(call, leg, status, "")
    call.save()
    if first:
        call.tell("CHANNEL_PROGRESS", leg)


def early(call: Call, leg: Leg, sdp: str) -> None:
    """Early media: 183 with a session description."""
    if leg.state not in ("trying", "ringing", "early") or leg.transaction is None or leg.pending is None:
        return
    if leg.early_sent and leg.reliable is not None:
        return  # it has its answer, or our offer; another one would count for nothing
    leg.state = "early"
    leg.early_sent = True
    call.state = "ringing"
    leg.progress_media = leg.progress_media or call.exchange.wall()
    _provide(call, leg, 183, sdp)
    call.save()
    call.tell("CHANNEL_PROGRESS_MEDIA", leg)


def _provide(call: Call, leg: Leg, status: int, sdp: str) -> None:
    """A provisional response, reliable where the caller knows how to acknowledge it."""
    if leg.reliable is not None and reliable.serves(leg, sdp):
        reliable.provide(call, leg, status, sdp)
        return
    if leg.reliable is not None and leg.reliable.required:
        return  # RFC 3262 3: who insists gets no other; and without an offer there is none yet (RFC 3261 13.2.1)
    assert leg.pending is not None
    response = call.respond(leg, status, sdp=sdp)
    leg.pending.response = response.encode()
    call.exchange.endpoint.respond(leg.transaction, response)


# ---- the answer --------------------------------------------------------------------------------------------------------


def answer(
    call: Call,
    leg: Leg,
    sdp: str,
    then: Callable[[], None] | None,
    *,
    write: Callable[..., None] | None = None,
) -> None:
    """Answer a caller. The 200 goes out when the record with it is stored: a successor can send it byte for byte.

    `write`: `call.once_stored` where the next put is to hold more than this answer.
    """
    assert leg.transaction is not None
    assert leg.pending is not None
    if reliable.withholds(leg):
        leg.withheld = partial(answer, call, leg, sdp, then)
        return
    if leg.reliable is not None and leg.reliable.complete:
        sdp = ""  # it has the answer already, and what came now would not be one (RFC 3261 13.2.1)
    reliable.cease(leg)
    granted = timer.granted(call, leg, leg.transaction.request)
    response = call.respond(leg, 200, sdp=sdp, headers=granted)
    leg.pending.response = response.encode()
    leg.pending.acknowledged = False
    leg.state = "answered"
    leg.answered = leg.answered or call.exchange.wall()
    call.state = "answered"
    leg.variables["endpoint_disposition"] = "ANSWER"
    (write or call.commit)(_answer_stored, call, leg, leg.transaction, response, then)


def _answer_stored(
    call: Call, leg: Leg, transaction: ServerTransaction, response: Response, then: Callable[[], None] | None
) -> None:
    if leg.transaction is not transaction or not leg.live:
        return  # the caller gave up while the record was being written
    call.exchange.endpoint.respond(transaction, response)
    repeat(call, leg, T1, 0.0)
    call.tell("CHANNEL_ANSWER", leg)
    if then is not None:
        then()


# ---- our 2xx until its ACK ---------------------------------------------------------------------------------------------


def repeat(call: Call, leg: Leg, delay: float, waited: float) -> None:
    """Have our 2xx sent again after `delay`; without an ACK for 64*T1 the leg is ended (RFC 3261 13.3.1.4)."""
    if leg.repeat is not None:
        leg.repeat.cancel()
    leg.repeat = call.later(delay, _repeat, call, leg, delay, waited + delay)


def _repeat(call: Call, leg: Leg, delay: float, waited: float) -> None:
    leg.repeat = None
    pending = leg.pending
    if pending is None or pending.acknowledged or not leg.live or leg.transaction is None:
        return
    if waited >= 64 * T1:
        log.info("call %s: leg %s never acknowledged our 200, ending it", call.uuid, leg.uuid)
        pending.acknowledged = True
        call.end(leg.cause or "RECOVERY_ON_TIMER_EXPIRE")
        return
    call.exchange.endpoint.send(pending.response, leg.transaction.reply_flow)
    repeat(call, leg, min(2 * delay, T2), waited)


def on_ack(call: Call, leg: Leg, request: Request) -> None:
    """The ACK to a 2xx of ours."""
    pending = leg.pending
    if pending is None or pending.role != "server" or leg.transaction is None:
        return  # an ACK again
    if leg.transaction.request.cseq.number != request.cseq.number or not pending.response.startswith(b"SIP/2.0 2"):
        return
    if not leg.transaction.final:
        return  # it is no ACK to a 2xx that is still being written down, but to a refusal of another INVITE
    acknowledged(call, leg)
    call.save()
    sdp = invite.sdp_of(request)
    waiting, call.answered_by = call.answered_by, None
    if waiting is not None:
        waiting(leg, sdp)
    if leg.live and leg.cause:
        call.release(leg, leg.cause)
        call.finish()


def acknowledged(call: Call, leg: Leg) -> None:
    """Nothing of its INVITE is to be repeated any more."""
    if leg.repeat is not None:
        leg.repeat.cancel()
        leg.repeat = None
    call.settle(leg)
