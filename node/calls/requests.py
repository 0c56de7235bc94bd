"""A request inside a dialog: judged by its CSeq, then handed to who serves its method."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.calls import invite, modify, prack, relay, reliable, transfer, update, way
from node.calls.leg import Leg
from node.calls.reply import answer
from node.sip.errors import OutOfOrder, SipError
from node.sip.message import Request

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

    Service = Callable[[Call, Leg, Request, ServerTransaction], None]

log = logging.getLogger(__name__)


def on_request(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A request in the leg's dialog, ACK excepted."""
    early = prack.early_of(leg, request.from_tag) if leg.early and not leg.confirmed else None
    dialog = early.dialog if early is not None else leg.dialog
    assert dialog is not None
    try:
        dialog.accepts(request)
    except OutOfOrder as error:
        answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))
        return
    if way.follow(leg, transaction.flow):
        call.save()
    if request.body and request.method in ("INVITE", "UPDATE", "PRACK"):
        try:
            invite.read(request)
        except SipError as error:
            answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))
            return
    try:
        SERVICES.get(request.method, _not_allowed)(call, leg, request, transaction)
    except SipError as error:
        # What cannot be read of one request is no reason to end a call that is well.
        log.info("call %s: %s of %s not understood: %s", call.uuid, request.method, leg.name, error)
        if not transaction.final:
            answer(call, leg, request, transaction, error.status, headers=tuple(error.headers))


def _bye(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    call.on_bye(leg, request, transaction)


def _options(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    answer(call, leg, request, transaction, 200, headers=(("Accept", invite.SDP),))


def _not_allowed(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    answer(call, leg, request, transaction, 405)


SERVICES: dict[str, Service] = {
    "BYE": _bye,
    "INVITE": modify.on_offer,
    "UPDATE": update.on_update,
    "OPTIONS": _options,
    "PRACK": reliable.on_prack,
    "INFO": relay.pass_on,
    "MESSAGE": relay.pass_on,
    "NOTIFY": relay.on_notify,
    "REFER": transfer.on_refer,
    "SUBSCRIBE": transfer.on_subscribe,
}
"By method: what serves a request inside a dialog, and answers it."
