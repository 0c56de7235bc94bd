"""The statements all SQL databases share, and the little in which their dialects differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import attrgetter
from typing import Any

from store.interface import Write
from store.records import CallRecord, Registration

Value = Any
Row = Sequence[Value]


@dataclass(frozen=True, kw_only=True)
class Dialect:
    clock: str
    "An expression: seconds since 1970 with fractions, as the database sees it now."
    types: Mapping[str, str] = field(hash=False)
    "What stands in the braces of the schema."
    lock_rows: str = ""
    "What a SELECT needs at its end for nobody to change what it read before the transaction is over."


# ---- registrations -------------------------------------------------------------------------------------------------

REGISTRATION_KEY = ("sip_user", "sip_host", "profile_name", "contact")
# fmt: off
_REGISTRATION_FIELDS = (
    "call_id", "sip_user", "sip_host", "presence_hosts", "contact", "status", "ping_status", "ping_count", "ping_time",
    "force_ping", "rpid", "expires", "ping_expires", "user_agent", "server_user", "server_host", "profile_name",
    "hostname", "network_ip", "network_port", "sip_username", "sip_realm", "mwi_user", "mwi_host", "orig_server_host",
    "orig_hostname", "sub_host", "slot", "epoch", "version",
)
# fmt: on
_registration_values = attrgetter(*_REGISTRATION_FIELDS)
registration_key = attrgetter(*REGISTRATION_KEY)


def registration_row(write: Write) -> Row:
    return (*_registration_values(write.record), write.data)


# ---- calls -----------------------------------------------------------------------------------------------------------

# fmt: off
_CALL_COLUMNS = (
    "runtime_uuid", "technology", "profile_name", "hostname", "uuid", "slot", "epoch", "version", "state", "expires",
    "call_ids", "record",
)
# fmt: on


def call_row(write: Write) -> Row:
    call = write.record
    assert isinstance(call, CallRecord), "a call's row is made of a call"
    return (
        # What mod_sofia keeps here names the process that owns the leg; so does this.
        f"{call.node}/{call.slot}",
        "sofia",
        call.profile_name,
        call.node,
        call.uuid,
        call.slot,
        call.epoch,
        call.version,
        call.state,
        call.expires,
        " ".join(call.call_ids),
        write.data,
    )


# ---- tables ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """How records of one kind rest."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    kept: tuple[str, ...]
    "Columns, beside the key, that an ordinary write leaves as they are: to set one would cost its index."
    newer: str
    "When an ordinary write may replace the row; all others are judged one by one."

    @property
    def by_key(self) -> str:
        return " AND ".join(f"{column} = ?" for column in self.key)


REGISTRATIONS = Table(
    "sip_registrations",
    (*_REGISTRATION_FIELDS, "record"),
    REGISTRATION_KEY,
    (),
    "sip_registrations.version < excluded.version",
)
CALLS = Table(
    "recovery",
    _CALL_COLUMNS,
    ("uuid",),
    ("slot", "epoch", "technology"),
    "recovery.slot = excluded.slot AND recovery.epoch = excluded.epoch AND recovery.version < excluded.version",
)


def table_of(kind: type) -> Table:
    return REGISTRATIONS if kind is Registration else CALLS


def key_of(write: Write) -> Row:
    record = write.record
    return (record.uuid,) if isinstance(record, CallRecord) else registration_key(record)


def row_of(write: Write) -> Row:
    return call_row(write) if isinstance(write.record, CallRecord) else registration_row(write)


@lru_cache(256)
def put_newer(table: Table, rows: int) -> str:
    """Insert these rows, or replace those that are older; it counts fewer rows if any is not."""
    changed = [column for column in table.columns if column not in table.key + table.kept]
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES {places(len(table.columns), rows)} "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in changed)} "
        f"WHERE {table.newer}"
    )


@lru_cache(256)
def put_always(table: Table) -> str:
    changed = [column for column in table.columns if column not in table.key]
    return (
        f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES {places(len(table.columns), 1)} "
        f"ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in changed)}"
    )


@lru_cache(256)
def add_call_ids(rows: int) -> str:
    return f"INSERT INTO sofia_call_ids (uuid, call_id) VALUES {places(2, rows)} ON CONFLICT (uuid, call_id) DO NOTHING"


def places(columns: int, rows: int = 1) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)


def lots(count: int, most: int = 64) -> list[int]:
    """A number as a sum of powers of two, biggest first: few statements to prepare, few steps to run."""
    parts = []
    while count:
        part = min(most, 1 << (count.bit_length() - 1))
        parts.append(part)
        count -= part
    return parts
