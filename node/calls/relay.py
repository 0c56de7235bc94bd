"""Small requests in a dialog that are passed on to the other leg with their bodies, and answered with its answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.calls.reply import answer
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction

PASSED_ON = ("info-package", "recv-info", "event", "subscription-state", "content-disposition", "call-info")
"Their header fields that go along."


def pass_on(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    partner = call.partner(leg)
    if request.method == "INFO":
        call.tell("RECV_INFO", leg)
    if partner is None or partner.dialog is None or not partner.confirmed or partner.flow is None:
        answer(call, leg, request, transaction, 200)
        return
    extra = [(name, value) for name, value in request.items() if name.lower() in PASSED_ON or _is_foreign(name)]
    relayed = partner.dialog.request(
        request.method,
        headers=[*call.exchange.headers(partner.profile), *extra],
        body=request.body,
        content_type=request.header("Content-Type") if request.body else None,
    )
    call.ask(partner, relayed, partial(_on_passed_on, call, leg, request, transaction))


def _is_foreign(name: str) -> bool:
    name = name.lower()
    return name.startswith("x-") and not name.startswith("x-fs-")


def _on_passed_on(
    call: Call,
    leg: Leg,
    request: Request,
    transaction: ServerTransaction,
    partner: Leg,
    status: int,
    response: Response | None,
) -> None:
    if status < 200 or not leg.live:
        return
    # 481 of the other leg is said of its dialog, not of this one.
    answer(call, leg, request, transaction, 500 if status == 481 else 504 if response is None else status)
    if status == 481:
        call.lost(partner, "NORMAL_TEMPORARY_FAILURE")
