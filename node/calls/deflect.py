"""REFER of our own: `deflect`, `uuid_deflect` and `uuid_simplify` ask a peer to call somebody else (RFC 3515), and hang up then."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import refer
from node.calls.leg import Leg
from node.calls.reply import own_user
from node.calls.waiting import Waiting
from node.sip.message import Response
from node.sip.uri import Uri

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm

log = logging.getLogger(__name__)

PATIENCE = 10.0
"Seconds after which a peer that accepted and says nothing more is hung up on, as mod_sofia does."
PENDING = "sip_refer_pending"
"Variable of a leg that was asked: part of its record, so that a successor knows what a NOTIFY is about."


def order(call: Call, leg: Leg, uri: str) -> None:
    """`uuid_deflect`."""
    ask(call, leg, uri)


def simplify(call: Call, leg: Leg) -> None:
    """`uuid_simplify`: the leg's peer is to take our place towards the other one's (RFC 5589 7), and both go.

    It is referred to the other peer's Contact: its address of record may lead back to us.
    """
    partner = call.partner(leg)
    if partner is None or partner.dialog is None or not partner.confirmed:
        return
    dialog = partner.dialog
    wanted = refer.Replaces(dialog.call_id, dialog.remote_tag, dialog.local_tag)
    ask(call, leg, refer.refer_to(Uri.parse(dialog.target), wanted))


def ask(call: Call, leg: Leg, uri: str) -> bool:
    """Send the REFER. False if the leg is in no state for it."""
    if not leg.confirmed or leg.cause or leg.dialog is None or leg.flow is None:
        return False
    exchange = call.exchange
    own = exchange.endpoint.contact(leg.flow)
    request = leg.dialog.request(
        "REFER",
        contact=exchange.contact(leg, own_user(leg)),
        headers=[
            *exchange.headers(leg.profile),
            ("Refer-To", uri if uri.startswith("<") else f"<{uri if ':' in uri else f'sip:{uri}'}>"),
            ("Referred-By", leg.variables.get("sip_h_Referred-By") or own),
        ],
    )
    leg.variables[PENDING] = "true"
    call.save()
    call.ask(leg, request, partial(_on_answer, call))
    return True


def _on_answer(call: Call, leg: Leg, status: int, _response: Response | None) -> None:
    if status < 200 or not leg.live:
        return
    if status >= 300:
        heard(call, leg, status)
        return
    call.later(PATIENCE, _timed_out, call, leg)


def _timed_out(call: Call, leg: Leg) -> None:
    if leg.live and leg.variables.pop(PENDING, ""):
        call.kill(leg, "BLIND_TRANSFER")


def heard(call: Call, leg: Leg, status: int) -> None:
    """A final status: of the REFER, or of what it led to. Only a 200 hangs up."""
    if not leg.variables.pop(PENDING, ""):
        return
    leg.variables["sip_refer_reply_status"] = str(status)
    call.save()
    if status == 200 and not leg.is_true("sip_refer_continue_after_reply"):
        call.kill(leg, "BLIND_TRANSFER")
        return
    log.info("call %s: %s was referred elsewhere: %d", call.uuid, leg.name, status)
    if isinstance(call.waiting, Deflecting) and call.waiting.leg is leg:
        call.waiting.done()


class Deflecting(Waiting):
    """`deflect`: until the peer has told what came of it."""

    __slots__ = ("_alarm", "_uri")

    def __init__(self, call: Call, leg: Leg, uri: str) -> None:
        super().__init__(call, leg)
        self._uri = uri.strip()
        self._alarm: Alarm | None = None

    def start(self) -> None:
        if not ask(self.call, self.leg, self._uri):
            self.done()

    def resume(self) -> None:
        """The REFER is out, or its answer was lost: what is left is to wait."""
        if not self.leg.is_true(PENDING):
            self.start()
            return
        self._alarm = self.call.later(PATIENCE, _timed_out, self.call, self.leg)

    def abandon(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    forget = abandon
