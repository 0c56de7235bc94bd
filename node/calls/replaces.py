"""INVITE with Replaces (RFC 3891): a new leg takes the place of another one, in its bridge, at its application, or where it rings.

The tag of ours that it names says whose call it is: it is brought to that worker before anything is asked
(`node/transport/ownership.py`). It is authenticated like any INVITE. The old leg goes when the new one's 200 is on record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, announce, applications, arrival, attended, late, pickup, refer, union
from node.calls.arrival import Arrival
from node.calls.exchange import Exchange, Extension, new_uuid
from node.calls.leg import Leg
from node.calls.waiting import Answering
from node.media.errors import MediaError
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request
from store.errors import StoreError
from store.records import CallRecord

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

PATIENCE = 30
LOOK_AGAIN = 0.1
MEMORY = 6.0
"Seconds after which an INVITE is forgotten here that another worker was given."

Elsewhere = Callable[[CallRecord, Request, Flow, Callable[[], None]], None]
"Brings a request to who has its record, or the record to us; then it calls back."


# ---- what is to be done (pure) -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of the leg that is to be replaced."""

    over: bool
    "It ended, or is being ended."
    confirmed: bool
    called: bool
    "We are calling it, on behalf of a leg that waits."
    early_only: bool


def judge(view: View) -> int:
    """The status that refuses the replacement, 0 if it may be made (RFC 3891 3)."""
    match view:
        case View(over=True):
            return 603
        case View(confirmed=True, early_only=True):
            return 486
        case View(confirmed=True) | View(called=True):
            return 0
        case _:
            return 481  # an early dialog that its peer has begun


# ---- finding it ----------------------------------------------------------------------------------------------------------


def on_invite(exchange: Exchange, new: Arrival, elsewhere: Elsewhere | None) -> None:
    """A new INVITE that names a dialog. Raises BadReplaces."""
    wanted = refer.replaces_of(new.request)
    assert wanted is not None, "asked of an INVITE with Replaces only"
    found = attended.find(exchange, wanted)
    if found is not None:
        _begin(found, wanted, new)
    elif exchange.departed(wanted.to_tag):
        arrival.refuse(exchange, new, 603)
    else:
        call_id = wanted.call_id
        looked_up = partial(_on_looked_up, exchange, new, wanted, elsewhere)
        exchange.writer.ask(lambda store: store.call_by_call_id(call_id), looked_up)


def _on_looked_up(
    exchange: Exchange,
    new: Arrival,
    wanted: refer.Replaces,
    elsewhere: Elsewhere | None,
    record: CallRecord | StoreError | None,
) -> None:
    if new.transaction.final:
        return
    if isinstance(record, StoreError):
        arrival.refuse(exchange, new, 503)
        return
    tags = (wanted.to_tag, wanted.from_tag)  # some name them the wrong way round
    named = [leg for leg in record.legs if leg.dialog and leg.dialog.local_tag in tags] if record else []
    if record is None or not named:
        arrival.refuse(exchange, new, 481)
    elif record.state == "ended" or named[0].state == "ended":
        arrival.refuse(exchange, new, 603)
    elif elsewhere is None:
        arrival.refuse(exchange, new, 481)
    else:
        exchange.endpoint.later(MEMORY, partial(_forget, new))
        elsewhere(record, new.request, new.flow, partial(_on_brought, exchange, new, wanted))


def _forget(new: Arrival) -> None:
    if not new.transaction.final and new.transaction.owner is None:
        new.transaction.forget()


def _on_brought(exchange: Exchange, new: Arrival, wanted: refer.Replaces) -> None:
    found = attended.find(exchange, wanted)
    if found is None:
        arrival.refuse(exchange, new, 481)
    else:
        _begin(found, wanted, new)


def _begin(found: Extension, wanted: refer.Replaces, new: Arrival) -> None:
    found.call.post(_replace, found.call, found.leg, wanted, new, 0)


# ---- taking its place ----------------------------------------------------------------------------------------------------


def _replace(call: Call, old: Leg, wanted: refer.Replaces, new: Arrival, looked: int) -> None:
    if new.transaction.final:
        return
    dialing = call.dialing
    view = View(
        over=not old.live or bool(old.cause) or old not in call.legs,
        confirmed=old.confirmed,
        called=dialing is not None and dialing.caller is not None and any(one.leg is old for one in dialing.attempts),
        early_only=wanted.early_only,
    )
    if status := judge(view):
        arrival.refuse(call.exchange, new, status)
        return
    if not _calm(call, old):
        if looked < PATIENCE:
            call.later(LOOK_AGAIN, _replace, call, old, wanted, new, looked + 1)
        else:
            arrival.refuse(call.exchange, new, 491)
        return
    # It hears no 100: until its 200 is on record it says its INVITE again, should we die meanwhile.
    leg = arrival.enter(call, new, new_uuid())
    call.exchange.count(leg.profile, "calls_in")
    call.tell("CHANNEL_CREATE", leg)
    anchor.open_port(call, leg, partial(_on_port, call, old, leg))


def _calm(call: Call, old: Leg) -> bool:
    """Nothing is under way that another leg could not go on with."""
    partner = call.partner(old)
    return alignment.calm(call, old, *([partner] if partner else [])) if old.confirmed else pickup.ready(call)


def _on_port(call: Call, old: Leg, leg: Leg, error: MediaError | None, looked: int = 0) -> None:
    if not leg.live or leg.cause:
        return
    if error is not None or not old.live or old.cause or old not in call.legs or looked >= PATIENCE:
        leg.variables["respond_code"] = "603" if error is None else "503"
        call.release(leg, "NORMAL_TEMPORARY_FAILURE")
        return
    if not _calm(call, old):  # it was, before the port was opened
        call.later(LOOK_AGAIN, _on_port, call, old, leg, None, looked + 1)
        return
    partner = call.partner(old)
    try:
        if not old.confirmed:
            pickup.pick_up(call, leg)
        elif partner is not None:
            _into_bridge(call, old, leg, partner)
        else:
            _into_application(call, old, leg)
    except SipError as refusal:
        log.info("call %s: %s cannot take the place of %s: %s", call.uuid, leg.name, old.name, refusal)
        leg.variables["respond_code"] = "488"
        call.release(leg, "INCOMPATIBLE_DESTINATION")


def forget_unanswered(call: Call) -> None:
    """After a failover: who came to replace somebody and has heard nothing yet, will come again."""
    for leg in call.legs[1:]:
        waits = leg.direction == "inbound" and leg.live and not leg.confirmed and not leg.cause
        if waits and leg not in call.bridged:
            call.legs.remove(leg)


def _into_bridge(call: Call, old: Leg, leg: Leg, partner: Leg) -> None:
    """The old leg's partner is the new one's. Raises SipError, and has done nothing then."""
    assert leg.media is not None
    said = alignment.said_by(partner)
    if leg.media.remote_sdp:
        pickup.demand_common(said, leg.media.remote_sdp)
        sdp = anchor.answer_to(leg, said)
        anchor.hear(call.exchange, leg, leg.media.remote_sdp)
    else:
        sdp = anchor.offer_to(call.exchange, leg, said)
        late.await_leg(call)
    announce.replaced(call, old, leg.uuid)
    leads = call.bridged[0] is old
    call.unbridge()
    old.cause = "ATTENDED_TRANSFER"
    if leads:
        union.bridge(call, leg, partner)
    else:
        union.bridge(call, partner, leg, fresh=False)
    call.answer(leg, sdp, partial(_go, call, old))


def _go(call: Call, old: Leg) -> None:
    """The new leg's 200 is on its way: hang up on the old one."""
    call.release(old, old.cause)
    call.finish()
    if call.answered_by is None:
        alignment.align(call)


def _into_application(call: Call, old: Leg, leg: Leg) -> None:
    """The old leg was alone with an application: it begins anew with the new one."""
    if call.legs[0] is not old:
        leg.variables["respond_code"] = "603"
        call.release(leg, "CALL_REJECTED")
        return
    waiting, call.waiting = call.waiting, None
    if waiting is not None:
        waiting.abandon()
    announce.replaced(call, old, leg.uuid)
    leg.destination, leg.context, leg.dialplan = old.destination, old.context, old.dialplan
    call.legs.remove(leg)
    call.legs.insert(0, leg)
    old.cause = "ATTENDED_TRANSFER"
    answering = Answering(call, leg, early=False, then=partial(_restart, call, old))
    call.waiting = answering
    answering.start()


def _restart(call: Call, old: Leg) -> None:
    call.waiting = None
    call.release(old, old.cause)
    applications.run(call)
