"""How each kind of database says it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from store.sql.schema import FILE_STEPS, MARIADB_STEPS, POSTGRESQL_STEPS
from store.sql.statements import BINDINGS, CALL_IDS, CALLS, REGISTRATIONS, Dialect, Row, Statement, Table, Value

SQLITE = Dialect(
    name="SQLite",
    # unixepoch('subsec') came with SQLite 3.42 only.
    clock="((julianday('now') - 2440587.5) * 86400.0)",
    types={
        "text": "TEXT",
        "longtext": "TEXT",
        "integer": "INTEGER",
        "bigint": "INTEGER",
        "double": "REAL",
        "blob": "BLOB",
        "clustered": " WITHOUT ROWID",
        "often_changed": "",
        "plain": "",
        "table": "TABLE",
        "add": "INSERT INTO",
    },
    steps=FILE_STEPS,
    asks_version="SELECT sqlite_version()",
    has_table="SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?",
    has_column="SELECT count(*) FROM pragma_table_info(?) WHERE name = ?",
    registrations=REGISTRATIONS,
    calls=CALLS,
)


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------

_ARRAYS = {
    **dict.fromkeys(("ping_count", "force_ping"), "integer[]"),
    **dict.fromkeys(("ping_time", "ping_expires", "likeness", "epoch", "version"), "bigint[]"),
    "binding": "bytea[]",
    "record": "bytea[]",
}
"Of columns that are not text."
_CALL_ID_ARRAYS = {"call_id": "bytea[]"}


class PostgresqlDialect(Dialect):
    """One array a column, whatever the number of rows: one plan, and few values to bind."""

    def source(self, table: Table, rows: Sequence[Row]) -> Statement:
        return _unnest(table), [array(column) for column in zip(*rows, strict=True)]

    def refresh(self, table: Table, rows: Sequence[Row]) -> Statement | None:
        if not table.refreshed:
            return None
        # Key, likeness and what is new: that is the first column, and the last ones.
        columns = list(zip(*rows, strict=True))
        news = len(table.refreshed) + 1
        return _refresh(table), [array(column) for column in (columns[0], *columns[-news:])]

    def among(self, columns: tuple[str, ...], keys: Sequence[Row]) -> Statement:
        (column,) = columns
        return f"{column} = ANY(?::{_ARRAYS.get(column, 'text[]')})", [array([key[0] for key in keys])]

    def in_order(self, table: Table) -> str:
        (key,) = table.key
        return f" ORDER BY {key}" if key in _ARRAYS else f' ORDER BY {key} COLLATE "C"'

    def lots(self, count: int) -> list[int]:
        return [count] if count else []


@lru_cache(16)
def _unnest(table: Table) -> str:
    return f"SELECT * FROM {_arrays(table, table.columns)}"


@lru_cache(16)
def _refresh(table: Table) -> str:
    (key,) = table.key
    columns = (key, "likeness", *table.refreshed)
    return (
        f"UPDATE {table.name} AS old SET {', '.join(f'{column} = new.{column}' for column in table.refreshed)} "
        f"FROM {_arrays(table, columns)} AS new ({', '.join(columns)}) "
        f"WHERE old.{key} = new.{key} AND old.likeness = new.likeness AND {table.newer}"
    )


def _arrays(table: Table, columns: tuple[str, ...]) -> str:
    own = _CALL_ID_ARRAYS if table is CALL_IDS else _ARRAYS
    # Of a call it has fractions.
    own = {**own, "expires": "double precision[]" if table is CALLS else "bigint[]"}
    places = ", ".join(f"?::{own.get(column, 'text[]')}" for column in columns)
    return f"unnest({places})"


def array(values: Sequence[Value]) -> str:
    """As PostgreSQL reads an array of text, numbers or bytes."""
    first = values[0]
    if isinstance(first, bytes):
        return '{"' + '","'.join(["\\\\x" + value.hex() for value in values]) + '"}'
    if not isinstance(first, str):
        return "{" + ",".join(map(str, values)) + "}"
    text = '","'.join(values)
    if "\\" in text or text.count('"') != 2 * len(values) - 2:
        text = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{text}"}}'


POSTGRESQL = PostgresqlDialect(
    name="PostgreSQL",
    clock="extract(epoch FROM statement_timestamp())::double precision",
    types={
        "text": "text",
        "longtext": "text",
        "integer": "integer",
        "bigint": "bigint",
        "double": "double precision",
        "blob": "bytea",
        "digest": "bytea",
        # Room in each page for the next version of its rows: without it every write would cost the indexes too.
        "often_changed": " WITH (fillfactor = 70)",
        "plain": "",
        "user_key": "",
        "owner_key": "",
        "call_id_key": "",
        "table": "TABLE",
        "add": "INSERT INTO",
    },
    steps=POSTGRESQL_STEPS,
    has_table="SELECT count(*) FROM pg_class WHERE oid = to_regclass(?::text)",
    has_column="SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(?::text) AND attname = ?::text",
    registrations=BINDINGS,
    calls=CALLS,
    digests=True,
    takes_nul=False,
    lock_rows=" FOR UPDATE",
)


# ---- MariaDB -------------------------------------------------------------------------------------------------------


class MariadbDialect(Dialect):
    """It cannot say how many of several rows were newer, so all are judged first."""

    def replacing(self, table: Table, *, newer: bool) -> str:
        assert not newer, "every write was judged"
        return _on_duplicate(table)

    def adding(self, table: Table) -> str:
        return f" ON DUPLICATE KEY UPDATE {table.key[0]} = VALUES({table.key[0]})"

    def overwriting(self, table: Table) -> str:
        changes = ", ".join(f"{column} = VALUES({column})" for column in table.columns if column not in table.key)
        return f" ON DUPLICATE KEY UPDATE {changes}"


@lru_cache(16)
def _on_duplicate(table: Table) -> str:
    """From left to right, each sees what was set before it: what the condition goes by comes last."""
    condition = re.sub(r"new\.(\w+)", r"VALUES(\1)", table.latest.replace("old.", ""))
    changed = [column for column in table.columns if column not in (*table.key, "epoch", "version")]
    changes = [f"{column} = IF({condition}, VALUES({column}), {column})" for column in changed]
    if "epoch" in condition:
        changes += [f"version = IF({condition}, VALUES(version), version)", "epoch = GREATEST(epoch, VALUES(epoch))"]
    else:
        changes += [f"{column} = IF({condition}, VALUES({column}), {column})" for column in ("epoch", "version")]
    return f" ON DUPLICATE KEY UPDATE {', '.join(changes)}"


_TEXT = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin"
_TABLE = " ENGINE = InnoDB ROW_FORMAT = DYNAMIC"

MARIADB = MariadbDialect(
    name="MariaDB",
    clock="(unix_timestamp(now(6)) + 0e0)",
    types={
        "text": f"VARCHAR(255) {_TEXT}",
        "longtext": f"LONGTEXT {_TEXT}",
        "integer": "INT",
        "bigint": "BIGINT",
        "double": "DOUBLE",
        "blob": "LONGBLOB",
        "digest": "BINARY(16)",
        "often_changed": _TABLE,
        "plain": _TABLE,
        "user_key": ", INDEX sip_registrations_user (sip_user(64), sip_host(64))",
        "owner_key": ", INDEX recovery_owner (slot, epoch)",
        "call_id_key": ", INDEX sofia_call_ids_call_id (call_id)",
        # It cannot undo the making of a table: what was made before the power failed is there already.
        "table": "TABLE IF NOT EXISTS",
        "add": "INSERT IGNORE INTO",
    },
    steps=MARIADB_STEPS,
    has_table="SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = ?",
    has_column=(
        "SELECT count(*) FROM information_schema.columns "
        "WHERE table_schema = database() AND table_name = ? AND column_name = ?"
    ),
    foreign=(
        "SELECT count(*) FROM information_schema.tables AS known WHERE table_schema = database() "
        "AND table_name = 'sip_registrations' AND NOT EXISTS (SELECT 1 FROM information_schema.columns AS own WHERE "
        "own.table_schema = database() AND own.table_name = known.table_name AND own.column_name = 'binding')"
    ),
    registrations=BINDINGS,
    calls=CALLS,
    digests=True,
    # Its driver reads a text to the first character 0.
    takes_nul=False,
    lock_rows=" FOR UPDATE",
    optimistic=False,
)
