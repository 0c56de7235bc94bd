"""Reliable provisional responses to a caller (RFC 3262 3), and the PRACKs that acknowledge them.

One at a time: each bears the next RSeq, is on record before it goes out, and is repeated byte for byte, by a successor
too, until its PRACK is there; what follows waits for that. A PRACK is on record before its 200: who has heard the 200 never
sends it again.
"""

from __future__ import annotations

import logging
import random
import re
from typing import TYPE_CHECKING

from node.calls import anchor, invite
from node.calls.leg import Leg
from node.calls.reply import answer
from node.media.errors import NotAcceptable
from node.sip import compose
from node.sip.errors import SipError
from node.sip.message import Request, Response
from store.records import ReliableRecord

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

log = logging.getLogger(__name__)

T1 = 0.5
GIVE_UP = 64 * T1
TAG = "100rel"

_RACK = re.compile(r"(\d{1,10})[ \t]+(\d{1,10})[ \t]+(\S+)")


def arrive(leg: Leg, request: Request) -> None:
    """A caller that knows how to acknowledge provisional responses, on a profile with `enable-100rel`."""
    required = any(tag.lower() == TAG for tag in request.headers("Require"))
    if required or any(tag.lower() == TAG for tag in request.headers("Supported")):
        leg.reliable = ReliableRecord(required=required, cseq=request.cseq.number)


def serves(leg: Leg, sdp: str) -> bool:
    """Whether a response can go reliably.

    Where the caller made no offer, the first reliable response must hold ours (RFC 3261 13.2.1).
    """
    assert leg.reliable is not None
    assert leg.media is not None
    return bool(leg.media.remote_sdp or sdp or leg.reliable.rseq)


def provide(call: Call, leg: Leg, status: int, sdp: str) -> None:
    """Tell a caller something reliably, now or when what it was told before is acknowledged."""
    state = leg.reliable
    assert state is not None
    if state.complete:
        sdp = ""  # the answer is given; what would follow is none (RFC 3261 13.2.1)
    if not state.response:
        _emit(call, leg, status, sdp)
    elif not (state.waiting and state.waiting[-1] == (status, sdp)):
        state.waiting = [*state.waiting, (status, sdp)]
        call.save()


def _emit(call: Call, leg: Leg, status: int, sdp: str) -> None:
    state = leg.reliable
    assert state is not None
    assert leg.pending is not None
    assert leg.media is not None
    # RFC 3262 3: a random start with room above it.
    state.rseq = state.rseq + 1 if state.rseq else random.randrange(1, 2**31)
    headers = (("Require", TAG), ("RSeq", str(state.rseq)))
    response = call.respond(leg, status, sdp=sdp, headers=headers)
    state.response = leg.pending.response = response.encode()
    state.described = ("answer" if leg.media.remote_sdp else "offer") if sdp else ""
    call.commit(_emitted, call, leg, response)


def _emitted(call: Call, leg: Leg, response: Response) -> None:
    """It is on record: out with it."""
    if _outstanding(leg, response.encode()):
        call.exchange.endpoint.respond(leg.transaction, response)
        _repeat_after(call, leg, response.encode(), T1, 0.0)


def _outstanding(leg: Leg, response: bytes) -> bool:
    state = leg.reliable
    unanswered = leg.live and leg.served and not leg.transaction.final
    return unanswered and state is not None and state.response == response


def _repeat_after(call: Call, leg: Leg, response: bytes, delay: float, waited: float) -> None:
    if leg.repeat is not None:
        leg.repeat.cancel()
    leg.repeat = call.later(delay, _repeat, call, leg, response, delay, waited + delay)


def _repeat(call: Call, leg: Leg, response: bytes, delay: float, waited: float) -> None:
    """RFC 3262 3: at T1, doubling; after 64*T1 the INVITE is refused with a 5xx."""
    leg.repeat = None
    if not _outstanding(leg, response):
        return
    if waited + delay > GIVE_UP:
        log.info("call %s: leg %s never acknowledged a reliable response, refusing it", call.uuid, leg.uuid)
        leg.variables["respond_code"] = "504 Reliable Response Time-out"
        call.end("RECOVERY_ON_TIMER_EXPIRE")
        return
    call.exchange.endpoint.send(response, leg.transaction.reply_flow)
    _repeat_after(call, leg, response, 2 * delay, waited)


def revive(call: Call, leg: Leg) -> None:
    """Taken over: what had no PRACK, and was just sent again, is repeated from the start."""
    state = leg.reliable
    if state is not None and state.response and not leg.confirmed:
        _repeat_after(call, leg, state.response, T1, 0.0)


def presume(call: Call, leg: Leg, response: bytes) -> None:
    """Its PRACK went to where a predecessor was: it has this response. An answer to an offer of ours cannot be presumed."""
    state = leg.reliable
    if state is None or state.described == "offer" or not response or not _outstanding(leg, response):
        return
    state.complete = state.complete or state.described != ""
    state.response, state.described, state.presumed = b"", "", state.rseq
    if leg.repeat is not None:
        leg.repeat.cancel()
        leg.repeat = None
    call.commit(_go_on, call, leg)


def withholds(leg: Leg) -> bool:
    """Whether a 2xx must wait: a session description is not acknowledged yet (RFC 3262 3)."""
    return leg.reliable is not None and bool(leg.reliable.response and leg.reliable.described)


def offers(leg: Leg) -> bool:
    """Whether an offer of ours waits for its answer in a PRACK."""
    return leg.reliable is not None and leg.reliable.described == "offer"


def settled(leg: Leg) -> bool:
    """Whether offer and answer are exchanged, or on their way: what a 2xx would hold is none."""
    return leg.reliable is not None and (leg.reliable.complete or leg.reliable.described != "")


def cease(leg: Leg) -> None:
    """The answer follows: nothing is repeated any more, though its PRACK may still come."""
    if leg.reliable is not None:
        leg.reliable.waiting = []
        if leg.repeat is not None:
            leg.repeat.cancel()
            leg.repeat = None


# ---- PRACK -----------------------------------------------------------------------------------------------------------


def on_prack(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """The caller has a reliable response of ours."""
    state = leg.reliable
    rseq = _acknowledged(state, request) if state is not None else 0
    if state is None or not 0 < rseq <= state.rseq:
        answer(call, leg, request, transaction, 481)
        return
    if not state.response or rseq < state.rseq:
        _hear_again(call, leg, request, transaction, presumed=rseq <= state.presumed)
        return
    described = state.described
    state.response, state.described, state.prack = b"", "", request.cseq.number
    if leg.repeat is not None and not leg.confirmed:
        leg.repeat.cancel()
        leg.repeat = None
    state.complete = state.complete or described != ""
    try:
        sdp = _take(call, leg, invite.sdp_of(request), described)
    except SipError as error:
        log.info("call %s: PRACK of %s not understood: %s", call.uuid, leg.name, error)
        answer(call, leg, request, transaction, error.status)
        if described == "offer":
            call.end("INCOMPATIBLE_DESTINATION")
        else:
            call.save()
            _go_on(call, leg)
        return
    call.once_stored(_accept, call, leg, request, transaction, sdp)
    call.commit(_go_on, call, leg)


def _hear_again(call: Call, leg: Leg, request: Request, transaction: ServerTransaction, *, presumed: bool) -> None:
    """Of what is acknowledged already: its 200 got lost, a predecessor could not send it any more, or nobody waited for the PRACK."""
    state = leg.reliable
    assert state is not None
    sdp = invite.sdp_of(request)
    if request.cseq.number == state.prack:
        _accept(call, leg, request, transaction, leg.media.local_sdp if sdp and leg.media is not None else "")
    elif presumed:
        ours = _take(call, leg, sdp, "")
        state.prack = request.cseq.number
        call.once_stored(_accept, call, leg, request, transaction, ours)
    else:
        answer(call, leg, request, transaction, 481)


def _acknowledged(state: ReliableRecord, request: Request) -> int:
    """The RSeq in RAck, if its CSeq and method are those of the INVITE (RFC 3262 3); else 0."""
    match = _RACK.fullmatch(request.header("RAck") or "")
    if match is None or (int(match[2]), match[3]) != (state.cseq, "INVITE"):
        return 0
    return int(match[1])


def _take(call: Call, leg: Leg, sdp: str, described: str) -> str:
    """The session description in a PRACK, the answer to our offer or an offer; returns our answer to the latter."""
    if described == "offer":
        if not sdp:
            raise NotAcceptable("a PRACK without the answer")
        waiting, call.answered_by = call.answered_by, None
        if waiting is not None:
            waiting(leg, sdp)
        else:
            anchor.hear(call.exchange, leg, sdp)
        return ""
    if not sdp:
        return ""
    assert leg.reliable is not None
    if not leg.reliable.complete:
        raise NotAcceptable("an offer while the first one has no answer")
    ours = anchor.again(leg, sdp)
    anchor.hear(call.exchange, leg, sdp)
    return ours


def _accept(call: Call, leg: Leg, request: Request, transaction: ServerTransaction, sdp: str) -> None:
    headers = [*call.exchange.headers(leg.profile)]
    if sdp:
        headers.append(("Content-Disposition", "session"))
    body, kind = sdp.encode("utf-8", "surrogateescape"), invite.SDP if sdp else None
    response = compose.response(request, 200, headers=headers, body=body, content_type=kind)
    call.exchange.endpoint.respond(transaction, response)


def _go_on(call: Call, leg: Leg) -> None:
    """What waited for the PRACK: the 2xx, or the next provisional response."""
    if not leg.live or leg.transaction is None or leg.transaction.final:
        return
    withheld, leg.withheld = leg.withheld, None
    state = leg.reliable
    assert state is not None
    if withheld is not None:
        withheld()
    elif state.waiting and not state.response:
        (status, sdp), *state.waiting = state.waiting
        _emit(call, leg, status, "" if state.complete else sdp)
