"""Reliable provisional responses of a callee (RFC 3262 4), and our PRACKs.

Each To tag is an early dialog of its own, for a proxy may have forked our INVITE. A response is taken once, in the order of
RSeq; what comes again or too early is passed over, for the callee repeats it until it hears our PRACK. A PRACK is on record
before it goes out, and a successor repeats it.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import anchor, challenged, invite
from node.calls.asked import Asked
from node.calls.leg import Early, Leg
from node.calls.reliable import TAG
from node.sip import keyring
from node.sip.dialog import Dialog
from node.sip.errors import SipError
from node.sip.fields import number
from node.sip.flow import Flow
from node.sip.keyring import Headers
from node.sip.message import Request, Response, parse

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)


def take(call: Call, leg: Leg, response: Response) -> bool:
    """A provisional response above 100; PRACKs it if it wants that. False if it is to be passed over."""
    rseq = _rseq(call, leg, response)
    if not rseq:
        return True
    early = early_of(leg, response.to_tag)
    if early is None:
        early = Early(Dialog.uac(leg.transaction.request, response), rseq)
        leg.early = [*leg.early, early]
    elif rseq != early.rseq + 1:
        return False
    early.rseq = rseq
    sdp = invite.sdp_of(response)
    answer = ""
    if sdp and leg.delayed:
        answer = _answer(call, leg, sdp)
        leg.delayed = not answer
    early.complete = early.complete or bool(sdp)
    _acknowledge(call, leg, early, response, answer)
    return True


def early_of(leg: Leg, tag: str) -> Early | None:
    """The early dialog with this tag of the callee's."""
    return next((early for early in leg.early if early.dialog.remote_tag == tag), None)


def confirmed(leg: Leg) -> None:
    """A 2xx made the dialog: its numbers go on where the early one's were (RFC 3261 12.1.2), the others are over."""
    assert leg.dialog is not None
    early = early_of(leg, leg.dialog.remote_tag)
    if early is not None:
        leg.dialog.cseq = max(leg.dialog.cseq, early.dialog.cseq)
        leg.dialog.remote_cseq = max(leg.dialog.remote_cseq, early.dialog.remote_cseq)
    leg.early = [one for one in leg.early if one.prack]


def _rseq(call: Call, leg: Leg, response: Response) -> int:
    """The number of a reliable response; 0 for any other."""
    rseq = number(response.header("RSeq") or "", 2**32 - 1)
    if rseq is None or not response.to_tag or leg.transaction is None:
        return 0
    settings = call.exchange.profile(leg.profile)
    known = settings is not None and settings.enable_100rel
    asked = any(tag.lower() == TAG for tag in response.headers("Require"))
    return rseq if known and asked and response.contacts else 0


def _answer(call: Call, leg: Leg, offer: str) -> str:
    """Our answer to the offer that the callee made in its response; empty if there can be none."""
    assert leg.media is not None
    try:
        leg.media.remote_sdp = offer
        answer = anchor.own_answer(call.exchange, leg)
    except SipError as error:
        log.info("call %s: offer of %s cannot be answered: %s", call.uuid, leg.name, error)
        leg.media.remote_sdp = ""
        return ""
    return answer


def _acknowledge(call: Call, leg: Leg, early: Early, response: Response, answer: str) -> None:
    request = early.dialog.request(
        "PRACK",
        headers=[*call.exchange.headers(leg.profile), ("RAck", f"{early.rseq} {response.cseq.number} INVITE")],
        body=answer.encode("utf-8", "surrogateescape"),
        content_type=invite.SDP if answer else None,
    )
    assert leg.flow is not None
    if leg.flow.connection or leg.nat or leg.flow.reliable:
        early.flow = leg.flow
        _write(call, leg, early, request)
        return
    found = partial(call.post, _on_way, call, leg, early, request)
    call.exchange.endpoint.locate(early.dialog.next_hop, leg.profile, found)


def _on_way(call: Call, leg: Leg, early: Early, request: Request, flows: list[Flow] | SipError) -> None:
    early.flow = leg.flow if isinstance(flows, SipError) or not flows else flows[0]
    if leg.live:
        _write(call, leg, early, request)


def _write(call: Call, leg: Leg, early: Early, request: Request, answers: int = 0) -> None:
    """`answers`: how many challenges to it were answered already."""
    assert early.flow is not None
    request = call.exchange.endpoint.layer.with_via(request, early.flow)
    early.prack = request.encode()
    # With what else comes of the response: who is told that it rings must not depend on hearing it again.
    call.once_stored(_send, call, leg, early, request, answers)


def _send(call: Call, leg: Leg, early: Early, request: Request, answers: int = 0) -> None:
    """The PRACK leaves once it is on record."""
    if not leg.live or early.flow is None:
        return
    early.transaction = call.exchange.endpoint.revive_client(request, early.flow, proceeding=False)
    early.transaction.owner = Asked(call, leg, partial(_on_answered, call, early, request, answers))


def _on_answered(
    call: Call, early: Early, request: Request, answers: int, leg: Leg, status: int, response: Response | None
) -> None:
    if status < 200 or early.prack != request.encode():
        return
    if status in (401, 407) and response is not None and leg.live:
        then = partial(_on_credentials, call, leg, early, request, answers, status)
        challenged.answer(call, leg, request, response, then, answers, flow=early.flow)
    else:
        _over(call, leg, early, status)


def _on_credentials(
    call: Call, leg: Leg, early: Early, request: Request, answers: int, status: int, credentials: Headers | None
) -> None:
    """It was challenged: the same once more, with what was asked for and a number of its own."""
    if early.prack != request.encode():
        return
    if credentials is None or not leg.live:
        _over(call, leg, early, status)
        return
    same = leg.dialog is not None and leg.dialog.remote_tag == early.dialog.remote_tag
    dialog = leg.dialog if same and leg.dialog is not None else early.dialog  # its 2xx may have been faster
    dialog.cseq += 1
    _write(call, leg, early, keyring.again(request, credentials, dialog.cseq), answers + 1)


def _over(call: Call, leg: Leg, early: Early, status: int) -> None:
    """The PRACK is through, whatever the answer: a callee that did not take it ends its INVITE by itself."""
    if status >= 300:
        log.info("call %s: PRACK to %s was answered %d", call.uuid, leg.name, status)
    early.prack, early.transaction = b"", None
    if leg.confirmed:
        leg.early = [one for one in leg.early if one is not early]
    if leg.live:
        call.save()


def revive(call: Call, leg: Leg) -> None:
    """Taken over: PRACKs without an answer are sent again, as they were."""
    for early in leg.early:
        if early.prack:
            request = parse(early.prack)
            assert isinstance(request, Request)
            _send(call, leg, early, request)
