"""Events of transfers and replacements, and of what comes by INFO, as mod_sofia fires them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import rows
from node.calls.leg import Leg
from node.events import Event

if TYPE_CHECKING:
    from node.calls.call import Call

Header = tuple[str, str]


def refused(call: Call, leg: Leg, extension: str, full: str) -> None:
    """`sofia::error`: a REFER on a leg that is bridged with nobody."""
    own = [("Error-Type", "blind_transfer"), ("Transfer-Exten", extension), ("Full-Refer-To", full)]
    _fire(call, leg, "sofia::error", own, [])


def transferred(
    call: Call, leg: Leg, partners: Call, partner: Leg, *, destination: str | None = None, peer: str = ""
) -> None:
    """`sofia::transferor` and `sofia::transferee`, with `fire-transfer-events`; `destination` of an attended one."""
    if not _asked_for(call, leg):
        return
    more: list[Header] = []
    if destination is not None:
        more = [("att_xfer_original_call_id", partner.uuid), ("att_xfer_destination_call_id", destination)]
        more += [("att_xfer_destination_peer_uuid", peer)] if peer else []
    _fire(call, leg, "sofia::transferor", [], more)
    _fire(partners, partner, "sofia::transferee", [], [])


def replaced(call: Call, leg: Leg, by: str) -> None:
    """`sofia::replaced`: another leg takes the place of this one."""
    if _asked_for(call, leg):
        _fire(call, leg, "sofia::replaced", [], [("att_xfer_replaced_by", by)])


def intercepted(call: Call, leg: Leg, by: str) -> None:
    """`sofia::intercepted`: its call was picked up by another leg."""
    if _asked_for(call, leg):
        _fire(call, leg, "sofia::intercepted", [], [("intercepted_by", by)])


def referral(call: Call, leg: Leg, headers: list[Header], body: str) -> None:
    """`sofia::notify_refer`: what became of a REFER of ours."""
    if call.exchange.events.wanted("sofia::notify_refer"):
        event = Event(
            name="CUSTOM", subclass="sofia::notify_refer", headers=[*headers, ("UniqueID", leg.uuid)], body=body
        )
        call.exchange.events.fire(event)


def digit(call: Call, leg: Leg, digit: str, milliseconds: int) -> None:
    """`DTMF`: a key was pressed, said by INFO. The duration in samples of 8 kHz."""
    if call.exchange.events.wanted("DTMF"):
        own = [("DTMF-Digit", digit), ("DTMF-Duration", str(milliseconds * 8)), ("DTMF-Source", "ENDPOINT")]
        headers = [*rows.channel_headers(call, leg), *own]
        call.exchange.events.fire(Event(name="DTMF", headers=headers, function="switch_channel_dequeue_dtmf"))


def displayed(call: Call, leg: Leg, other: Leg, name: str, number: str) -> None:
    """`CALL_UPDATE`: a leg was told who is at its other end."""
    if call.exchange.events.wanted("CALL_UPDATE"):
        own = [("Direction", "SEND"), ("Sent-Callee-ID-Name", name), ("Sent-Callee-ID-Number", number)]
        _update(call, leg, [*own, ("Bridged-To", other.uuid)], "sofia_receive_message")


def renamed(call: Call, leg: Leg, partner: Leg | None, name: str, number: str) -> None:
    """`CALL_UPDATE`: a leg has said who it is by now."""
    if call.exchange.events.wanted("CALL_UPDATE"):
        own = [("Direction", "RECV"), ("Callee-Name", name), ("Callee-Number", number)]
        bridged = [("Bridged-To", partner.uuid)] if partner is not None else []
        _update(call, leg, [*own, *bridged], "sofia_update_callee_id")


def _update(call: Call, leg: Leg, own: list[Header], function: str) -> None:
    headers = [*own, *rows.channel_headers(call, leg), *rows.variable_headers(call, leg)]
    call.exchange.events.fire(Event(name="CALL_UPDATE", headers=headers, function=function))


def _asked_for(call: Call, leg: Leg) -> bool:
    settings = call.exchange.profile(leg.profile)
    return settings is not None and settings.fire_transfer_events


def _fire(call: Call, leg: Leg, subclass: str, before: list[Header], after: list[Header]) -> None:
    events = call.exchange.events
    if events.wanted(subclass):
        headers = [*before, *rows.channel_headers(call, leg), *rows.variable_headers(call, leg), *after]
        function = "sofia_handle_sip_i_refer"
        events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers, function=function))
