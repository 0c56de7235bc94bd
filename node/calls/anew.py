"""What is not answered yet, and what is not acknowledged, when a node with an address of its own takes over.

An answer goes where the Via says, a request in a dialog where the Contact says: to an address that is dead.

    whoever rings       is called anew. The old INVITE ends by a CANCEL with its own Via: by branch, sent-by and method it is
                        known wherever it comes from (RFC 3261 17.2.3), and its answer comes here (18.2.1). The new INVITE
                        follows that answer, or a moment without one: a phone of one line would be busy with the old one.
    who waits for that  knows our responses by branch too (17.1.3), and goes on hearing from us: the same To tag, our Contact.
    our re-INVITE       counts as never sent; should it be answered, the answer has an ACK already.
    our 2xx, no ACK     goes out again with our Contact, for whoever has not heard it; who has, has sent its ACK to the dead
                        one, and sends it there each time. After a moment it is taken for acknowledged.

What a phone says to the dead address is lost: a CANCEL of the caller, the callee's 200 in the moment before it is on record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import anchor, invite, late, moving, refresh, reliable, serving
from node.calls.asked import Asked
from node.calls.destination import Destination, resolve
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.calls.reply import contact_user
from node.sip.flow import Flow
from node.sip.message import Request, Response, parse
from node.sip.tables import along
from store.records import PendingInvite

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm

PRESUMED = 2 * serving.T1
"Seconds after which our 2xx, said twice from here, is taken for acknowledged."
SILENT = 2 * serving.T1
"Seconds that a new INVITE waits for the end of the old one: enough for a CANCEL that was lost once."
COMES_BACK = 20.0
"The same for a phone whose connection went with its node: it has so long to come here (`Detour`)."
LOOK_AGAIN = 0.2
LOOKS = 160

TOLD_ELSEWHERE = "sip_recovery_told_elsewhere"
"Variable, ours: the caller has heard a session description with the address of a predecessor, and no other before its 200."


def displaced(exchange: Exchange, leg: Leg) -> bool:
    """Was the leg served at an address that is not ours, and is dead?"""
    settings = exchange.profile(leg.profile)
    if settings is None or leg.flow is None:
        return False
    return moving.contact_moved(leg.flow.local[0], settings, leg.flow.transport)


# ---- whoever rings -----------------------------------------------------------------------------------------------------


def forsake(call: Call, leg: Leg) -> None:
    """End the INVITE of a predecessor. The leg is as if it had never been called, or over if it was not wanted any more."""
    exchange, pending = call.exchange, leg.pending
    assert pending is not None
    request = parse(pending.request)
    assert isinstance(request, Request)
    flow = Flow.from_record(pending.flow)._replace(local=exchange.endpoint.local(leg.profile))
    reason = tuple(leg.reason(leg.cause or "LOSE_RACE"))
    cancel = along(request, "CANCEL", request.header("to") or "", reason)
    transaction = exchange.endpoint.revive_client(cancel, flow, proceeding=False)
    transaction.owner = leg.asked = Asked(call, leg, _nothing)
    exchange.depart(leg)
    leg.dialog = leg.pending = None
    leg.early = []
    if leg.media is not None:
        leg.media.port = 0
    if pending.cancelled:
        call.over(leg, leg.cause or "LOSE_RACE")
        return
    leg.state = "trying"
    leg.variables["origination_uuid"] = leg.uuid


def _nothing(leg: Leg, status: int, response: Response | None) -> None:
    """Nobody waits for the end of the old INVITE."""


def forsaken(leg: Leg) -> bool:
    """Is it to be called anew?"""
    return leg.live and leg.dialog is None and leg.asked is not None


def once_silent(call: Call, leg: Leg, then: Callable[[], None]) -> None:
    """When the old INVITE of a leg has come to its end, or has had the time for it."""
    if leg.asked is None or leg.flow is None:
        then()  # it was never called
        return
    asked, over = leg.asked, False

    def go() -> None:
        nonlocal over
        if not over:
            over = True
            alarm.cancel()
            asked.forget()
            then()

    def hear(_leg: Leg, status: int, _response: Response | None) -> None:
        if status >= 200:
            go()

    alarm: Alarm = call.later(COMES_BACK if leg.flow.reliable else SILENT, go)
    asked.then = hear


def find(call: Call, leg: Leg) -> None:
    """A phone that is reached by its connection only is called by the newest one."""
    newest = call.exchange.location.newest(leg.flow) if leg.flow is not None and leg.flow.connection else None
    if newest is not None:
        destination = resolve(call.exchange, leg.variables.get("sip_dialed", ""), dict(leg.variables))
        if isinstance(destination, Destination):
            call.registrations[destination.contact] = newest


def leave_alone(call: Call) -> list[Leg]:
    """Those whom nobody calls anew are over."""
    left = [leg for leg in call.legs if forsaken(leg)]
    for leg in left:
        call.over(leg, "NORMAL_TEMPORARY_FAILURE")
    return left


# ---- our own re-INVITE -------------------------------------------------------------------------------------------------


def take_back(call: Call, leg: Leg) -> None:
    """Our re-INVITE was sent from elsewhere. If its peer has answered 200, that waits for an ACK, or ends the call (RFC 3261 13.3.1.4)."""
    leg.pending = None
    if leg.delayed or leg.dialog is None or leg.flow is None:
        return
    flow = leg.flow._replace(local=call.exchange.endpoint.local(leg.profile))
    call.exchange.send(leg.dialog.ack(leg.invite_cseq, headers=leg.credentials), flow)


# ---- who waits for our answer ------------------------------------------------------------------------------------------


def tell_again(call: Call, leg: Leg, *, follow: bool) -> None:
    """Say what was said last to the author of an INVITE, with our Contact and our media address.

    `follow`: what cannot be said to it in a response any more, a re-INVITE is to say.
    """
    pending, transaction, media = leg.pending, leg.transaction, leg.media
    if pending is None or media is None or not leg.served:
        return
    described = bool(media.local_sdp)
    if described and not leg.confirmed:
        anchor.moved(leg)
        if follow and late.told(leg):
            leg.variables[TOLD_ELSEWHERE] = "true"
    if not pending.response:
        return
    told = parse(pending.response)
    assert isinstance(told, Response)
    sdp = ""
    if invite.sdp_of(told) and described:
        sdp = media.local_sdp if not leg.confirmed else anchor.moved(leg)
    contact = call.exchange.contact(leg, contact_user(leg, transaction.request))
    before, pending.response = pending.response, from_here(pending.response, contact, sdp)
    if leg.reliable is not None and leg.reliable.response == before:
        leg.reliable.response = pending.response
    transaction.last_response = pending.response
    call.exchange.endpoint.send(pending.response, transaction.reply_flow)
    if pending.response.startswith(b"SIP/2.0 2"):
        call.later(PRESUMED, _presume, call, leg, pending)
    else:
        reliable.revive(call, leg)
        call.later(PRESUMED, reliable.presume, call, leg, pending.response)


def from_here(response: bytes, contact: str, sdp: str) -> bytes:
    """A response of a predecessor under our Contact; its body, if `sdp` is not empty, is this one."""
    text = response.decode("utf-8", "surrogateescape")
    head, _, body = text.partition("\r\n\r\n")
    body = sdp or body
    length = len(body.encode("utf-8", "surrogateescape"))
    given = {"contact": contact, "content-length": str(length)}
    lines = []
    for line in head.split("\r\n"):
        name = line.partition(":")[0]
        value = given.get(name.lower())
        lines.append(line if value is None else f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("utf-8", "surrogateescape")


def _presume(call: Call, leg: Leg, pending: PendingInvite) -> None:
    """Nothing came: so it was acknowledged, where nobody hears it. An ACK that holds an answer cannot be presumed."""
    if leg.pending is not pending or pending.acknowledged or not leg.live or call.answered_by is not None:
        return
    serving.acknowledged(call, leg)
    call.save()
    tell_where(call, leg)
    if leg.cause:
        call.release(leg, leg.cause)
        call.finish()


# ---- after its ACK -----------------------------------------------------------------------------------------------------


def tell_where(call: Call, leg: Leg, looked: int = 0) -> None:
    """Whoever has heard a dead address in a provisional response hears ours in a re-INVITE: in its 200 it counts for nothing."""
    if TOLD_ELSEWHERE not in leg.variables or not leg.confirmed or leg.cause:
        return
    if call.modification is not None or leg.pending is not None or leg.awaits_ack:
        if looked < LOOKS:
            call.later(LOOK_AGAIN, tell_where, call, leg, looked + 1)
        return
    refresh.reinvite(call, leg, anchor.moved(leg), partial(_on_told, call, looked))


def _on_told(call: Call, looked: int, leg: Leg, status: int, _response: Response | None) -> None:
    if status == 491 and looked < LOOKS:
        call.later(5 * LOOK_AGAIN, tell_where, call, leg, looked + 5)
    elif status >= 200:
        leg.variables.pop(TOLD_ELSEWHERE, None)
        call.save()
