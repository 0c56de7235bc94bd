"""A call as a record, and back: what a successor needs to live on from here, and nothing else (pure).

Where an object at rest is one of `store.records` already (media, pending INVITE), the record holds the live one itself:
it is encoded within the put, and may change afterwards. What a newer release knows of a call, a leg, its dialog or media goes
from record to record unread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.leg import Early, Leg
from node.sip.dialog import Dialog
from node.sip.flow import Flow
from store.records import CallRecord, LegRecord

if TYPE_CHECKING:
    from node.calls.call import Call


def snapshot(call: Call) -> CallRecord:
    """The record of a call, with its next version."""
    exchange = call.exchange
    ended = call.state == "ended"
    return CallRecord(
        node=exchange.node,
        slot=exchange.slot,
        epoch=exchange.epoch,
        version=call.version,
        uuid=call.uuid,
        state=call.state,
        profile_name=call.profile,
        legs=[_at_rest(call, leg, ended=ended) for leg in call.legs],
        bridged=[leg.uuid for leg in call.bridged],
        steps=call.steps,
        position=call.position,
        progress=call.progress,
        created=call.created,
        expires=call.expires,
        beyond=call.beyond,
    )


def _at_rest(call: Call, leg: Leg, *, ended: bool) -> LegRecord:
    if ended or (not leg.live and leg not in call.farewells):
        return _tombstone(leg)
    record = leg_record(leg)
    if not leg.live:
        record.state = "answered"  # with a cause: to be ended as soon as it is revived
        record.media = None
    return record


def _tombstone(leg: Leg) -> LegRecord:
    """Of a leg that is over only its dialog is kept, to know its retransmissions by."""
    return LegRecord(
        uuid=leg.uuid,
        direction=leg.direction,
        profile=leg.profile,
        state="ended",
        dialog=leg.dialog.to_record() if leg.dialog is not None else None,
        cause=leg.cause,
        beyond=leg.beyond,
    )


def leg_record(leg: Leg) -> LegRecord:
    """The record of a leg; reserves its next CSeq numbers."""
    return LegRecord(
        uuid=leg.uuid,
        direction=leg.direction,
        profile=leg.profile,
        state=leg.state,
        flow=leg.flow.to_record() if leg.flow is not None else None,
        dialog=leg.dialog.to_record() if leg.dialog is not None else None,
        invite=leg.pending,
        media=leg.media,
        variables=leg.variables,
        name=leg.name,
        username=leg.username,
        caller_id_name=leg.caller_id_name,
        caller_id_number=leg.caller_id_number,
        callee_id_name=leg.callee_id_name,
        callee_id_number=leg.callee_id_number,
        destination=leg.destination,
        context=leg.context,
        dialplan=leg.dialplan,
        network_addr=leg.network_addr,
        user_agent=leg.user_agent,
        gateway=leg.gateway,
        created=leg.created,
        progressed=leg.progressed,
        progress_media=leg.progress_media,
        answered=leg.answered,
        bridged=leg.bridged_at,
        invite_cseq=leg.invite_cseq,
        credentials=leg.credentials,
        awaits_ack=leg.awaits_ack,
        delayed=leg.delayed,
        early_sent=leg.early_sent,
        cause=leg.cause,
        session_expires=leg.session_expires,
        session_refresher=leg.session_refresher,
        session_minimum=leg.session_minimum,
        session_refreshed=leg.session_refreshed,
        reliable=leg.reliable,
        early=[early.to_record() for early in leg.early if early.flow is not None] if leg.early else [],
        referral=leg.referral,
        taken_from=leg.taken_from,
        parting=leg.parting,
        proven=leg.proven,
        beyond=leg.beyond,
    )


def restored_leg(record: LegRecord) -> Leg:
    """A leg as it was; its transaction and its media are still to be revived."""
    leg = Leg(record.uuid, record.direction, record.profile, created=record.created)
    leg.state = record.state
    leg.flow = Flow.from_record(record.flow) if record.flow is not None else None
    leg.dialog = Dialog.from_record(record.dialog) if record.dialog is not None else None
    leg.pending = record.invite
    leg.media = record.media
    leg.variables = dict(record.variables)
    leg.name = record.name
    leg.username = record.username
    leg.caller_id_name, leg.caller_id_number = record.caller_id_name, record.caller_id_number
    leg.callee_id_name, leg.callee_id_number = record.callee_id_name, record.callee_id_number
    leg.destination, leg.context, leg.dialplan = record.destination, record.context, record.dialplan
    leg.network_addr, leg.user_agent, leg.gateway = record.network_addr, record.user_agent, record.gateway
    leg.progressed, leg.progress_media = record.progressed, record.progress_media
    leg.answered, leg.bridged_at = record.answered, record.bridged
    leg.invite_cseq, leg.awaits_ack, leg.early_sent = record.invite_cseq, record.awaits_ack, record.early_sent
    leg.delayed, leg.cause = record.delayed, record.cause
    leg.credentials = record.credentials
    leg.session_expires, leg.session_refresher = record.session_expires, record.session_refresher
    leg.session_minimum, leg.session_refreshed = record.session_minimum, record.session_refreshed
    leg.reliable = record.reliable
    leg.early = [Early.from_record(early) for early in record.early]
    leg.referral, leg.taken_from, leg.parting = record.referral, record.taken_from, record.parting
    leg.proven, leg.beyond = record.proven, record.beyond
    return leg


def restored(call: Call, record: CallRecord) -> None:
    """Fill a new call from its record."""
    call.state = record.state
    call.legs = [restored_leg(leg) for leg in record.legs]
    call.bridged = [leg for uuid in record.bridged for leg in call.legs if leg.uuid == uuid]
    call.steps = list(record.steps)
    call.position = record.position
    call.progress = dict(record.progress)
    call.version = record.version
    call.created = record.created
    call.expires = record.expires
    call.beyond = record.beyond
    call.recovered = True
