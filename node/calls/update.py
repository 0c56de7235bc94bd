"""UPDATE (RFC 3311): before the answer, and without an offer. One with an offer in a confirmed dialog is in `modify.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import anchor, bridge, display, invite, modify, prack, retarget, timer
from node.calls.bridge import EarlyOfferView, OfferStep
from node.calls.leg import Leg
from node.calls.reply import answer
from node.sip.errors import SipError, UnsupportedMedia
from node.sip.message import Request

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction


def on_update(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A new Contact, a session refreshed, or a new offer."""
    settings = call.exchange.profile(leg.profile)
    if settings is not None and not settings.allow_update:
        answer(call, leg, request, transaction, 405)
        return
    try:
        if request.body and not invite.sdp_of(request):
            raise UnsupportedMedia(request.content_type)
        timer.judge(request, settings)
    except SipError as error:
        answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))
        return
    if not request.body:
        _refresh(call, leg, request, transaction)
    elif leg.confirmed:
        modify.on_offer(call, leg, request, transaction)
    else:
        _on_early_offer(call, leg, request, transaction)


def _refresh(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """The 200 after the record: who has not heard it refreshes again, be it with a successor."""
    headers = timer.granted(call, leg, request) if leg.confirmed else ()
    _retarget(call, leg, request, transaction)
    if leg.confirmed:
        display.heard(call, leg, request)
    call.commit(_refreshed, call, leg, request, transaction, headers)


def _refreshed(
    call: Call, leg: Leg, request: Request, transaction: ServerTransaction, headers: tuple[tuple[str, str], ...]
) -> None:
    if leg.live:
        answer(call, leg, request, transaction, 200, headers=headers, contact=True)


def _retarget(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    early = prack.early_of(leg, request.from_tag) if not leg.confirmed else None
    if early is not None:
        early.dialog.refresh(request)
    else:
        retarget.follow(call, leg, request, transaction.flow)


def _on_early_offer(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """Answered by ourselves: whoever stands behind the leg has not answered, and asks for nothing yet."""
    assert leg.media is not None
    match bridge.judge_early_offer(_view(leg, request)):
        case OfferStep.GLARE:
            answer(call, leg, request, transaction, 491)
            return
        case OfferStep.TOO_SOON:
            answer(call, leg, request, transaction, 500, headers=modify.later())
            return
    offer = invite.sdp_of(request)
    try:
        ours = anchor.again(leg, offer)
        anchor.hear(call.exchange, leg, offer)
    except SipError as error:
        answer(call, leg, request, transaction, error.status)
        return
    _retarget(call, leg, request, transaction)
    modify.finish_offer(call, leg, request, transaction, ours)


def _view(leg: Leg, request: Request) -> EarlyOfferView:
    if leg.direction == "inbound":
        state = leg.reliable
        return EarlyOfferView(
            complete=state is not None and state.complete,
            ours_open=state is not None and state.described == "offer",
        )
    early = prack.early_of(leg, request.from_tag)
    complete = early is not None and early.complete
    return EarlyOfferView(complete=complete, ours_open=not complete and not leg.delayed)
