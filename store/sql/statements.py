"""The statements all SQL databases share, and the little in which their dialects differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from store.sql.schema import Step

Value = Any
Row = Sequence[Value]
Statement = tuple[str, Row]


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """How records of one kind rest; one object a table, known by itself."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    kept: tuple[str, ...]
    "Columns, beside the key, that an ordinary write leaves as they are: to set one would cost its index."
    newer: str
    "When an ordinary write may replace the row, of columns `old.x` by columns `new.x`; all others are judged."
    latest: str
    "When a write that was judged may: again, for what came between the judging and the writing."
    refreshed: tuple[str, ...] = ()
    "What is new of a row that is like the one before."


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What SQLite says; others override what they say in another way."""

    name: str
    clock: str
    "An expression: seconds since 1970 with fractions, as the database sees it now."
    steps: tuple[Step, ...] = field(hash=False)
    "The tables, step by step."
    types: Mapping[str, str] = field(hash=False)
    "What stands in the braces of the steps."
    has_table: str
    "Counts the tables of a name."
    has_column: str
    "Counts the columns of a table and a name."
    registrations: Table
    calls: Table
    asks_version: str = "SELECT version()"
    foreign: str = ""
    "Counts tables of our names that another program has made, where making ours would not show it."
    digests: bool = False
    "Are keys of any length found by their digest?"
    takes_nul: bool = True
    "May a text have a character 0 in it?"
    lock_rows: str = ""
    "What a SELECT needs at its end for nobody to change what it read before the transaction is over."
    optimistic: bool = True
    "Can it write what is newer and count how much was, in one statement?"
    most: int = 64
    "Rows a statement."

    def insert(self, table: Table) -> str:
        """What a source follows."""
        return _insert(table)

    def source(self, table: Table, rows: Sequence[Row]) -> Statement:
        """What INSERT takes the rows from."""
        return f"VALUES {places(len(table.columns), len(rows))}", [value for row in rows for value in row]

    def refresh(self, table: Table, rows: Sequence[Row]) -> Statement | None:
        """Of rows that are there already, newer and alike, write what is new; None if the dialect cannot."""
        return None

    def among(self, columns: tuple[str, ...], keys: Sequence[Row]) -> Statement:
        """The condition that a row has one of these keys."""
        values = [value for key in keys for value in key]
        if len(columns) == 1:
            return f"{columns[0]} IN ({places(len(values))[1:-1]})", values
        return f"({', '.join(columns)}) IN (VALUES {places(len(columns), len(keys))})", values

    def in_order(self, table: Table) -> str:
        """What a SELECT needs to find rows, and to lock them, in the order in which Python sorts their keys."""
        return f" ORDER BY {', '.join(table.key)}"

    def lots(self, count: int) -> list[int]:
        """How many rows each statement gets: a sum of powers of two, for few statements to prepare and to run."""
        parts = []
        while count:
            parts.append(min(self.most, 1 << (count.bit_length() - 1)))
            count -= parts[-1]
        return parts

    def replacing(self, table: Table, *, newer: bool) -> str:
        """What follows the source of an ordinary write (`newer`, it counts the rows that were), or of one judged."""
        return _on_conflict(table, newer=newer)

    def adding(self, table: Table) -> str:
        """What follows the source when a row that is there already stays."""
        return f" ON CONFLICT ({', '.join(table.key)}) DO NOTHING"

    def overwriting(self, table: Table) -> str:
        """What follows the source when a row that is there already is replaced, whatever it is."""
        changes = ", ".join(f"{column} = excluded.{column}" for column in table.columns if column not in table.key)
        return f" ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes}"


@lru_cache(16)
def _insert(table: Table) -> str:
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) "


@lru_cache(64)
def _on_conflict(table: Table, *, newer: bool) -> str:
    fixed = table.key + table.kept if newer else table.key
    changes = ", ".join(f"{column} = excluded.{column}" for column in table.columns if column not in fixed)
    condition = (table.newer if newer else table.latest).replace("old.", f"{table.name}.").replace("new.", "excluded.")
    return f" ON CONFLICT ({', '.join(table.key)}) DO UPDATE SET {changes} WHERE {condition}"


@lru_cache(256)
def places(columns: int, rows: int = 1) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)


# ---- the tables ------------------------------------------------------------------------------------------------------

_NEWER = "old.version < new.version"
_OWNED = "old.slot = new.slot AND old.epoch = new.epoch AND old.version < new.version"
_LATEST = "(old.epoch < new.epoch OR old.epoch = new.epoch AND old.version < new.version)"

# fmt: off
_BINDING = (
    "call_id", "sip_user", "sip_host", "presence_hosts", "contact", "status", "ping_status", "ping_count", "ping_time",
    "force_ping", "rpid", "ping_expires", "user_agent", "server_user", "server_host", "profile_name", "hostname",
    "network_ip", "network_port", "sip_username", "sip_realm", "mwi_user", "mwi_host", "orig_server_host",
    "orig_hostname", "sub_host", "slot", "epoch", "expires", "version", "record",
)
_CALL = (
    "runtime_uuid", "technology", "profile_name", "hostname", "uuid", "slot", "epoch", "version", "state", "expires",
    "call_ids", "record",
)
# fmt: on

REGISTRATIONS = Table(
    "sip_registrations", _BINDING, ("sip_user", "sip_host", "profile_name", "contact"), (), _NEWER, _NEWER
)
"By its natural key."
_STILL = _BINDING.index("slot")
BINDINGS = Table(
    "sip_registrations",
    ("binding", *_BINDING[:_STILL], "likeness", *_BINDING[_STILL:]),
    ("binding",),
    (),
    _NEWER,
    _NEWER,
    refreshed=_BINDING[_STILL:],
)
"""By the digest of its natural key, which is short whatever a phone puts into its Contact.

`likeness` is a digest of what a refresh does not change: a write with the same need not bring that again."""
CALLS = Table("recovery", _CALL, ("uuid",), ("slot", "epoch", "technology"), _OWNED, _LATEST)
CALL_IDS = Table("sofia_call_ids", ("uuid", "call_id"), ("uuid", "call_id"), (), "", "")
HEADS = Table("sofia_feed_heads", ("writer", "number", "moment"), ("writer",), (), "", "")
