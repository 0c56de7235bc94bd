"""Records as rows, and rows as records.

A column holds what an operator asks for, and what the store itself goes by; the blob holds the rest of a registration,
or all of a call. Where both have a thing, the column counts for owner, epoch and version, which a claim changes without
touching the blob, so that what a newer release put in there stays; for all else the blob.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from operator import attrgetter
from typing import Any

import msgspec

from store.interface import Write
from store.records import ESCAPED, CallRecord, Registration, decode_call, original, registration_of, storable
from store.sql.statements import CALLS, Dialect, Row, Table, Value

_OWNER = ("slot", "epoch", "version")

Values = tuple[Value, ...]

CALL_COLUMNS = "hostname, slot, epoch, version, record"


def digest(text: str) -> bytes:
    """A key of 16 bytes for a text of any length."""
    return blake2b(text.encode(), digest_size=16).digest()


def _likeness(values: Values) -> int:
    """A whole number of 64 bits with its sign, the same wherever it is made."""
    return int.from_bytes(blake2b(msgspec.msgpack.encode(values), digest_size=8).digest(), "big", signed=True)


class Rows:
    """How records rest in a database of this dialect."""

    def __init__(self, dialect: Dialect) -> None:
        self._registrations = dialect.registrations
        self._digests = dialect.digests
        self._takes_nul = dialect.takes_nul
        columns = [column for column in dialect.registrations.columns if column in Registration.__struct_fields__]
        self._columns = columns
        self._alike = len(columns) + 1 - len(dialect.registrations.refreshed)
        "How many of the columns a refresh leaves as they are: the first ones."
        self.registration_columns = ", ".join((*columns, "record"))
        self._values: Callable[[Any], Values] = attrgetter(*columns)
        self._natural: Callable[[Any], Values] = attrgetter("sip_user", "sip_host", "profile_name", "contact")
        texts = [field.name for field in msgspec.structs.fields(Registration) if field.type is str]
        self._texts: Callable[[Any], tuple[str, ...]] = attrgetter(*(name for name in texts if name in columns))
        rest = [field for field in msgspec.structs.fields(Registration) if field.name not in (*columns, "beyond")]
        self._rest: Callable[[Any], Values] = attrgetter(*(field.name for field in rest))
        self._make_rest = msgspec.defstruct(
            "Rest", [(field.name, field.type, field.default) for field in rest], omit_defaults=True
        )

    # ---- there -------------------------------------------------------------------------------------------------------

    def table(self, write: Write) -> Table:
        return CALLS if isinstance(write.record, CallRecord) else self._registrations

    def key(self, write: Write) -> Row:
        record = write.record
        if isinstance(record, CallRecord):
            return self._clean((record.uuid,))
        return (digest(record.key),) if self._digests else self._clean(self._natural(record))

    def row(self, write: Write, key: Row) -> Row:
        record = write.record
        if isinstance(record, CallRecord):
            return self._clean(_call_row(record, write.data))
        rest = msgspec.msgpack.encode(self._make_rest(*self._rest(record)))
        if record.beyond is not None:
            rest = msgspec.msgpack.encode(record.beyond | _map.decode(rest))
        if write.data[:1] == ESCAPED:
            rest = ESCAPED + rest
        values = self._values(record)
        if not self._takes_nul and "\0" in "".join(self._texts(record)):
            # A column is for the operator; what it cannot hold, the blob does.
            values, rest = self._clean(values), write.data
        if not self._digests:
            return (*values, rest)
        alike = values[: self._alike]
        return (*key, *alike, _likeness(alike), *values[self._alike :], rest)

    def change(self, record: Registration, *, gone: bool) -> Any:
        """Names a binding that has changed, as briefly as can be: what is gone must be named to those who knew it."""
        if not self._digests:
            return self._clean(tuple(map(storable, self._natural(record))))
        name = storable(record.key)
        return name if gone else digest(name)

    def changed(self, change: Any) -> tuple[Values, str]:
        """Its key in its table, and its natural key where that was told."""
        if isinstance(change, bytes):
            return (change,), ""
        if isinstance(change, str):
            return (digest(change),), change
        user, host, profile, contact = change
        return tuple(change), f"{profile}|{user}@{host}|{contact}"

    def call_id(self, call_id: str) -> str | bytes:
        """A Call-ID as its table has it."""
        return digest(storable(call_id)) if self._digests else storable(call_id)

    def _clean(self, values: Values) -> Values:
        """Without the character 0, where a text may not have it."""
        if self._takes_nul or "\0" not in "".join([value for value in values if isinstance(value, str)]):
            return values
        return tuple(value.replace("\0", "\ufffd") if isinstance(value, str) else value for value in values)

    # ---- and back ----------------------------------------------------------------------------------------------------

    def registration(self, row: Row) -> Registration:
        """Of `registration_columns`, and what may follow them; raises `MsgspecError`."""
        columns = dict(zip(self._columns, row, strict=False))
        blob = bytes(row[len(columns)])
        escaped = blob[:1] == ESCAPED
        rest = _map.decode(blob[1:] if escaped else blob)
        values = columns | rest | {name: columns[name] for name in _OWNER}
        if escaped:
            values = {name: original(value) if isinstance(value, str) else value for name, value in values.items()}
        return registration_of(values)


_map = msgspec.msgpack.Decoder(dict[str, Any])


def call_of(row: Row) -> CallRecord:
    """Of `CALL_COLUMNS`; raises `MsgspecError`."""
    call = decode_call(bytes(row[4]))
    call.node, call.slot, call.epoch, call.version = original(row[0]), row[1], row[2], row[3]
    return call


def _call_row(call: CallRecord, data: bytes) -> Values:
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
        data,
    )
