"""What a 2xx to an INVITE of ours makes, wanted or not, and what other responses mean that come too late."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from node.calls import causes, display, prack, timer
from node.calls.asked import Remains
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.sip.dialog import Dialog
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Response
from store.records import DialogRecord

if TYPE_CHECKING:
    from node.calls.call import Call


def late_response(call: Call, leg: Leg, status: int, response: Response | None) -> None:
    """A response to an INVITE that nobody waits for: a loser's, or the winner's again."""
    if status < 200:
        return
    if not leg.live:
        # The leg's last INVITE is another one, which has made the end of this one's forks its own no more.
        if response is not None and status < 300 and leg.dialog is not None and leg.flow is not None:
            end_late(call.exchange, Remains(leg.profile, leg.flow, leg.dialog.remote_tag, leg.credentials), response)
        return
    if status >= 300:
        if not leg.confirmed:
            call.settle(leg)
            call.over(leg, leg.cause or causes.from_status(status))
            call.finish()
        return
    assert response is not None
    if leg.confirmed:
        _again(call, leg, response)
        return
    # It answered while our CANCEL was on its way (RFC 3261 9.1): take it, and hang up.
    confirm(call, leg, response)
    call.release(leg, leg.cause or "LOSE_RACE")
    call.finish()


def _again(call: Call, leg: Leg, response: Response) -> None:
    """The winner's 2xx again: the same ACK again. Another one's, behind a forking proxy: ACK and BYE (RFC 3261 13.2.2.4)."""
    assert leg.dialog is not None
    assert leg.media is not None
    assert leg.flow is not None
    if response.to_tag == leg.dialog.remote_tag:
        if response.cseq.number != leg.invite_cseq:
            # Of an INVITE before the last one, or of a predecessor's that did not get into the record: it must stop.
            call.exchange.send(leg.dialog.ack(response.cseq.number), leg.flow)
        elif not leg.awaits_ack:
            call.acknowledge(leg, leg.media.local_sdp if leg.delayed else "")
        return
    disown(call, leg, response)


def disown(call: Call, leg: Leg, response: Response) -> None:
    """End a dialog that a 2xx made and nobody wants; one that names no Contact cannot be reached."""
    assert leg.flow is not None
    if not response.contacts:
        return
    stray = stray_dialog(response)
    call.exchange.send(stray.ack(response.cseq.number), leg.flow)
    call.ask(leg, stray.request("BYE", headers=call.exchange.headers(leg.profile)), _nothing)


def end_late(exchange: Exchange, remains: Remains, response: Response) -> None:
    """A 2xx to an INVITE whose leg is over: another one's behind a forking proxy, or one that comes again."""
    if not response.contacts:
        return
    stray = stray_dialog(response)
    exchange.send(stray.ack(response.cseq.number, headers=remains.credentials), remains.flow)
    if response.to_tag not in remains.tags:
        remains.tags += (response.to_tag,)
        exchange.endpoint.request(stray.request("BYE", headers=exchange.headers(remains.profile)), remains.flow)


def stray_dialog(response: Response) -> Dialog:
    """The dialog that a 2xx to an INVITE of ours makes, known from the response alone."""
    return Dialog.from_record(
        DialogRecord(
            call_id=response.call_id,
            local_tag=response.from_tag,
            remote_tag=response.to_tag,
            local=str(response.from_.without_params("tag")),
            remote=str(response.to.without_params("tag")),
            target=str(response.contacts[0].uri),
            routes=list(reversed(response.headers("Record-Route"))),
            cseq=response.cseq.number,
            cseq_reserved=response.cseq.number,
        )
    )


def _nothing(leg: Leg, status: int, response: Response | None) -> None:
    """Whatever the answer is."""


def confirm(call: Call, leg: Leg, response: Response) -> None:
    """A 2xx to our INVITE makes the dialog, and says where its requests go from now on."""
    assert leg.dialog is not None
    assert leg.flow is not None
    leg.dialog.confirm(response)
    leg.state = "answered"
    leg.answered = leg.answered or call.exchange.wall()
    leg.awaits_ack = True
    leg.pending = None
    # The layer absorbs what comes again for a while; of the INVITE and of who sent it nothing is kept for longer.
    leg.transaction = None
    if leg.asked is not None:
        leg.asked.then = partial(late_response, call)
    leg.user_agent = response.user_agent
    display.heard(call, leg, response)
    leg.variables["sip_to_tag"] = response.to_tag
    if leg.early:
        prack.confirmed(leg)
    if allow := response.header("Allow"):
        leg.variables["sip_allow"] = allow
    timer.agreed(call, leg, response)
    if leg.flow.connection or leg.nat or leg.flow.reliable:
        return  # it is reached by the way we came, whatever its Contact says
    found = partial(call.post, _on_way, leg)
    call.exchange.endpoint.locate(leg.dialog.next_hop, leg.profile, found)


def _on_way(leg: Leg, flows: list[Flow] | SipError) -> None:
    if not isinstance(flows, SipError) and flows:
        leg.flow = flows[0]
