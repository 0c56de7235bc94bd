"""Our own re-INVITEs and UPDATEs: saying again, or from elsewhere, what was agreed with a leg."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import invite, modify, timer
from node.calls.leg import Leg
from node.calls.reply import own_user
from node.sip.errors import SipError
from node.sip.message import Response
from store.records import PendingInvite

if TYPE_CHECKING:
    from node.calls.asked import Then
    from node.calls.call import Call

log = logging.getLogger(__name__)


def reinvite(call: Call, leg: Leg, sdp: str, then: Then) -> None:
    """Offer a leg something by ourselves; `then` hears of the final response, which is acknowledged already."""
    assert leg.dialog is not None
    assert leg.flow is not None
    request = leg.dialog.request(
        "INVITE",
        contact=call.exchange.contact(leg, own_user(leg)),
        headers=[*call.exchange.headers(leg.profile), *timer.asking(leg), ("Content-Disposition", "session")],
        body=sdp.encode("utf-8", "surrogateescape"),
        content_type=invite.SDP,
    )
    leg.invite_cseq = request.cseq.number
    leg.delayed = False
    leg.transaction = call.ask(leg, request, partial(on_reinvited, call, then))
    encoded = leg.transaction.request.encode()
    leg.pending = PendingInvite(role="client", request=encoded, flow=leg.flow.to_record())
    call.save()


def on_reinvited(call: Call, then: Then | None, leg: Leg, status: int, response: Response | None) -> None:
    """A response to a re-INVITE of our own."""
    if status < 200:
        if leg.pending is not None and response is not None:
            leg.pending.response = response.encode()
        return
    if not leg.live:
        return
    if response is not None and status < 300:
        assert leg.dialog is not None
        call.acknowledge(leg)
        if leg.pending is None:
            return  # it came again
        leg.pending = None
        leg.dialog.refresh(response)
        timer.agreed(call, leg, response)
        if sdp := invite.sdp_of(response):
            try:
                modify.take(call, leg, sdp)
            except SipError as error:
                log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, error)
    else:
        call.settle(leg)
    call.save()
    if then is not None:
        then(leg, status, response)


def refresh_session(call: Call, leg: Leg) -> None:
    """The session timer's beat is ours: say again what we said last (RFC 4028 7.4)."""
    leg.refresh = None
    if not leg.confirmed or leg.dialog is None or leg.media is None:
        return
    timer.start(call, leg)
    if call.modification is not None or leg.pending is not None or leg.awaits_ack:
        return  # an offer is under way and refreshes by itself
    then = partial(_on_session_refreshed, call)
    if "UPDATE" not in leg.variables.get("sip_allow", ""):
        reinvite(call, leg, leg.media.local_sdp, then)
        return
    headers = [*call.exchange.headers(leg.profile), *timer.asking(leg)]
    contact = call.exchange.contact(leg, own_user(leg))
    call.ask(leg, leg.dialog.request("UPDATE", contact=contact, headers=headers), then)


def _on_session_refreshed(call: Call, leg: Leg, status: int, response: Response | None) -> None:
    if status < 200 or not leg.live:
        return
    if response is not None and status < 300:
        timer.agreed(call, leg, response)
    elif status in (408, 481):
        call.lost(leg, "RECOVERY_ON_TIMER_EXPIRE")
