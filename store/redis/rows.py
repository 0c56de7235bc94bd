"""Records to what lies in Redis, and back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from store.interface import ANYBODY, Put, Write
from store.records import CallRecord, Registration, decode_call, decode_registration

log = logging.getLogger(__name__)

HEAD = 40
LENGTH = 6


class Summary(msgspec.Struct, array_like=True):
    """What the scripts must know of a call without unpacking it."""

    node: str
    slot: str
    live: bool
    profile: str
    expires: float
    call_ids: list[str]


_pack = msgspec.msgpack.Encoder().encode
_summary = msgspec.msgpack.Decoder(Summary)


def packed(writes: Sequence[Write]) -> list[bytes]:
    """The plans of these writes, then a value for each."""
    plans: list[tuple[Any, ...]] = []
    values: list[bytes] = [b""]
    for write in writes:
        record = write.record
        operation = "P" if isinstance(write, Put) else "R"
        plan: tuple[Any, ...]
        head = b"%020d%020d" % (record.epoch, record.version)
        if isinstance(record, Registration):
            profile, user, host = record.profile_name, record.sip_user, record.sip_host
            key = f"{profile}|{user}@{host}|{record.contact}"
            plan = (operation, record.slot, record.epoch, key, profile, f"{user}@{host}", record.expires)
            values.append(head + write.data if operation == "P" else head)
        else:
            tomb = record.expires if record.state == "ended" else False
            plan = (operation, record.slot, record.epoch, record.uuid, False, tomb, False)
            values.append(_call_value(head, record, write.data) if operation == "P" else head)
        plans.append((*plan, write.heir) if write.heir and write.heir in (record.node, ANYBODY) else plan)
    values[0] = _pack(plans)
    return values


def _call_value(head: bytes, record: CallRecord, data: bytes) -> bytes:
    live = record.state != "ended"
    summary = _pack(
        Summary(
            record.node,
            record.slot,
            live,
            record.profile_name,
            # Of a live call it says nothing, and must not make two summaries differ.
            0.0 if live else record.expires,
            record.call_ids,
        )
    )
    return b"%s%06d%s%s" % (head, len(summary), summary, data)


def registration(value: bytes, place: str) -> Registration | None:
    """None, and a warning, for one that cannot be read."""
    try:
        return decode_registration(value[HEAD:])
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("%s: passed over a registration that cannot be read: %s", place, error)
        return None


def call(value: bytes, place: str) -> CallRecord | None:
    """The call, with owner and version as a claim may have changed them beside the record."""
    try:
        start = HEAD + LENGTH
        end = start + int(value[HEAD:start])
        summary = _summary.decode(value[start:end])
        record = decode_call(value[end:])
        record.node, record.slot = summary.node, summary.slot
        record.epoch, record.version = int(value[:20]), int(value[20:HEAD])
    except (msgspec.MsgspecError, ValueError) as error:
        log.warning("%s: passed over a call that cannot be read: %s", place, error)
        return None
    return record
