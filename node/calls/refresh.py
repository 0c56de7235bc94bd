"""Our own re-INVITEs and UPDATEs: saying again, or from elsewhere, what was agreed with a leg."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from node.calls import hold, invite, retarget, timer
from node.calls.leg import Leg
from node.calls.reply import own_user
from node.sip.errors import SipError
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.asked import Then
    from node.calls.call import Call

log = logging.getLogger(__name__)

SWAPPED = "sip_recovery_swapped_cseq"
"Variable, ours: the CSeq of the INVITE whose From and To changed places; those of its ACK do too."


def reinvite(
    call: Call, leg: Leg, sdp: str, then: Then, more: Sequence[tuple[str, str]] = (), *, swapped: bool = False
) -> None:
    """Offer a leg something by ourselves; `then` hears of the final response, which is acknowledged already.

    `more`: further header fields. `swapped`: From and To change places (`sip_recovery_break_rfc`).
    """
    assert leg.dialog is not None
    headers = [*call.exchange.headers(leg.profile), *timer.asking(call, leg), *more, ("Content-Disposition", "session")]
    write_invite(call, leg, sdp, headers, partial(on_reinvited, call, then), swapped=swapped)


def write_invite(
    call: Call, leg: Leg, sdp: str, headers: list[tuple[str, str]], then: Then, *, swapped: bool = False
) -> None:
    """Write a re-INVITE, with an offer or (empty) without one, and send it when it is on record."""
    assert leg.dialog is not None
    assert leg.flow is not None
    request = leg.dialog.request(
        "INVITE",
        contact=call.exchange.contact(leg, own_user(leg)),
        headers=headers,
        body=sdp.encode("utf-8", "surrogateescape"),
        content_type=invite.SDP if sdp else None,
        swapped=swapped,
    )
    if swapped:
        leg.variables[SWAPPED] = str(request.cseq.number)
    leg.delayed = not sdp
    call.send_written(leg, request, then)


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
        retarget.follow(call, leg, response)
        timer.agreed(call, leg, response)
        if sdp := invite.sdp_of(response):
            try:
                hold.take(call, leg, sdp)
            except SipError as error:
                log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, error)
    else:
        call.settle(leg)
    call.save()
    if then is not None:
        then(leg, status, response)


# ---- the session timer -----------------------------------------------------------------------------------------------------


def on_session_due(call: Call, leg: Leg) -> None:
    """The session timer's beat: refresh, if that is ours to do (RFC 4028 7.4); else the session is over (10)."""
    leg.refresh = None
    if not leg.confirmed or leg.dialog is None or leg.media is None or leg.cause:
        return
    if leg.session_refresher != "us" or timer.left(call, leg) <= 0:
        log.info("call %s: the session of %s was not refreshed, ending it", call.uuid, leg.name)
        call.kill(leg, timer.EXPIRED)
        return
    if call.modification is not None or leg.pending is not None or leg.awaits_ack:
        timer.again(call, leg, 2.0)  # an offer is under way, and refreshes by itself if it comes through
        return
    settings = call.exchange.profile(leg.profile)
    if not timer.by_update(leg, settings):
        reinvite(call, leg, leg.media.local_sdp, partial(_on_refreshed, call))
        return
    headers = [*call.exchange.headers(leg.profile), *timer.asking(call, leg)]
    contact = call.exchange.contact(leg, own_user(leg))
    call.ask(leg, leg.dialog.request("UPDATE", contact=contact, headers=headers), partial(_on_refreshed, call))


def _on_refreshed(call: Call, leg: Leg, status: int, response: Response | None) -> None:
    """A response to the refresh; a 2xx to a re-INVITE counts already."""
    if status < 200 or not leg.confirmed:
        return
    if response is not None and status < 300:
        if response.cseq.method == "UPDATE":
            retarget.follow(call, leg, response)
            timer.agreed(call, leg, response)
            call.save()
        return
    if status in (408, 481):
        log.info("call %s: %s does not answer the refresh of its session, ending it", call.uuid, leg.name)
        call.kill(leg, timer.EXPIRED)
        return
    timer.again(call, leg, _pause(call, leg, status, response))


def _pause(call: Call, leg: Leg, status: int, response: Response | None) -> float:
    """Seconds until it is tried again."""
    if response is None:
        return 1.0  # the connection is gone; another one may be found
    if status == 422 and timer.enlarge(leg, response):
        return 0.0
    if status == 491:
        return random.uniform(2.1, 4.0) if leg.direction == "outbound" else random.uniform(0.0, 2.0)
    if status in (405, 501) and response.cseq.method == "UPDATE":
        leg.variables["sip_update_refresher"] = "false"
        return 0.0
    after = (response.header("Retry-After") or "").partition(";")[0].partition("(")[0].strip()
    return max(float(after[:6]) if after.isdecimal() else 0.0, timer.left(call, leg) / 4, 1.0)
