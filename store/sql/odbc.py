"""A session with a database by its ODBC driver: PostgreSQL, MariaDB, SQLite.

Drivers hang: that of PostgreSQL knows no time limit for a statement, and waits for ever on a server that is frozen. What
can be limited on the way is (timeouts of the connection, of TCP, of locks, of a transaction whose client is silent);
beyond that the caller keeps a deadline of his own, and `interrupt` ends the connection under the driver, which comes
back then. Where that cannot be done its thread stays in there, and the writer counts those.

Transactions are begun and ended by statements of ours: with its own way PostgreSQL's driver says that a commit went
well after a failed statement on a dead connection.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar
from urllib.parse import quote

import pyodbc

from store.errors import Busy, Crosswise, Refused, StoreError, Unavailable, UnknownStore
from store.settings import OdbcSettings
from store.sql.dialects import MARIADB, POSTGRESQL, SQLITE
from store.sql.dsn import Server, Target
from store.sql.refusals import refusal
from store.sql.statements import Dialect, Row, Statement, Value

log = logging.getLogger(__name__)

T = TypeVar("T")

# It would hand out connections that are broken.
pyodbc.pooling = False

# Its driver reads a text to the first character 0.
SQLITE_FILE = replace(SQLITE, takes_nul=False)
DIALECTS = {"PostgreSQL": POSTGRESQL, "MariaDB": MARIADB, "SQLite": SQLITE_FILE}
"By the first word of what the server calls itself."
DRIVERS = {Server.POSTGRESQL: "PostgreSQL", Server.MARIADB: "MariaDB"}

LACKS = {
    "MySQL": ". It has neither MariaDB's collation utf8mb4_nopad_bin, by which keys that differ only in blanks at their "
    "end are two, nor its limits on a session that is silent (idle_transaction_timeout), without which a frozen node "
    "would keep the other one from its fence"
}
"Why not: of what is nearly one of them."
LOCK = 0x50F1A
"PostgreSQL's advisory lock of those who write; who changes fences has it alone."
SCHEMA_LOCK = "sofia_schema"
KEPT = 64
"Prepared statements at most."

_connecting = threading.Lock()


class OdbcSession:
    def __init__(self, target: Target, settings: OdbcSettings) -> None:
        self.place = target.place
        self.dialect: Dialect = DIALECTS.get(target.server.value, SQLITE_FILE)
        self._target = target
        self._settings = settings
        self._connection: pyodbc.Connection | None = None
        self._prepared: OrderedDict[str, tuple[str, pyodbc.Cursor]] = OrderedDict()
        self._wire: int | None = None
        "A descriptor of the driver's own connection, if it could be told from all others."
        self._holding = threading.Lock()
        "Held by who uses or closes it."
        self._schema_locked = False

    # ---- the connection ----------------------------------------------------------------------------------------------

    def connect(self) -> None:
        self.close()
        words = self._words()
        with _connecting, self._errors():
            before = _sockets()
            self._connection = _connected(_joined(words), self._settings.connect)
            # Values go in one piece: of longer text in several MariaDB's driver makes other characters.
            self._connection.maxwrite = 1 << 30
            self._wire = _the_new_one(before)
        self._limit_silence()
        try:
            self._meet()
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """What the driver says to it does not matter: the connection is not used again."""
        connection, self._connection = self._connection, None
        self._prepared.clear()
        self._schema_locked = False
        if connection is not None:
            with suppress(pyodbc.Error):
                connection.close()
        with self._holding:
            if self._wire is not None:
                os.close(self._wire)
                self._wire = None

    def interrupt(self) -> None:
        with self._holding, suppress(OSError):
            if self._wire is not None:
                with socket.socket(fileno=os.dup(self._wire)) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def _limit_silence(self) -> None:
        """What is not acknowledged, and who does not answer at all, for so long is gone; whatever the driver knows of it."""
        if self._wire is None:
            return
        with socket.socket(fileno=os.dup(self._wire)) as wire:
            if wire.family in (socket.AF_INET, socket.AF_INET6):
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._settings.network * 1000))
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2)):
                    wire.setsockopt(socket.IPPROTO_TCP, option, value)

    def _words(self) -> dict[str, str]:
        settings = self._settings
        match self._target.server:
            case Server.POSTGRESQL:
                return {"Driver": _driver("PostgreSQL"), "Pqopt": _libpq(self._target.words, settings)}
            case Server.MARIADB:
                return {"DRIVER": _driver("MariaDB")} | _mariadb(settings) | self._target.words
            case _:
                return _by_driver(self._target.words, settings)

    def _meet(self) -> None:
        """Learn who it is, and tell how we want to be treated."""
        assert self._connection is not None, "connected"
        with self._errors():
            name = str(self._connection.getinfo(pyodbc.SQL_DBMS_NAME)).split()[0]
        if name == "MySQL" and "MariaDB" in str(self.query("SELECT version()")[0][0]):
            # So it is called by the driver of its elder sister, which itself has no collation that we need.
            name = "MariaDB"
        dialect = self.dialect = dialect_named(name, self.place)
        if dialect.name == MARIADB.name:
            # With UTF-16 its driver fails by chance where much of a text is not ASCII («memory allocation error»), and
            # loses the end of it where it is read.
            self._connection.setencoding(encoding="utf-8")
            for kind in (pyodbc.SQL_CHAR, pyodbc.SQL_WCHAR):
                self._connection.setdecoding(kind, encoding="utf-8", ctype=pyodbc.SQL_CHAR)
        for statement in self._greeting(dialect):
            self._run(statement)
        if (
            dialect.name == POSTGRESQL.name
            and self.query("SELECT current_setting('synchronous_commit')")[0][0] == "off"
        ):
            log.warning(
                "%s: synchronous_commit is off: what it says is committed may be lost with its host", self.place
            )

    def _greeting(self, dialect: Dialect) -> list[str]:
        settings = self._settings
        if dialect.name == POSTGRESQL.name:
            return [
                "SET application_name = 'sofia-node'; "
                f"SET statement_timeout = {settings.statement * 1000:.0f}; SET lock_timeout = {settings.lock * 1000:.0f}; "
                f"SET idle_in_transaction_session_timeout = {settings.silence * 1000:.0f}; SET jit = off; "
                # Rows are to be found by their keys one after the other, as they stand in the batch: plans are made
                # when a table is still empty, and who writes at the same time must meet them in the same order.
                "SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off"
            ]
        if dialect.name == MARIADB.name:
            return [
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                f"SET SESSION innodb_lock_wait_timeout = {max(1, round(settings.lock))}, "
                f"max_statement_time = {settings.statement:g}, idle_transaction_timeout = {max(1, round(settings.silence))}",
                "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
            ]
        return [
            f"PRAGMA busy_timeout = {settings.lock * 1000:.0f}",
            "PRAGMA journal_mode = WAL",
            "PRAGMA synchronous = FULL",
        ]

    # ---- transactions ------------------------------------------------------------------------------------------------

    def begin(self, reading: str = "", *, alone: bool = False) -> list[Row]:
        """Others who write go on beside this one, unless it is `alone`: it changes what they go by."""
        match self.dialect.name:
            case "PostgreSQL":
                return self._begin_postgresql(reading, alone=alone)
            case "MariaDB":
                self._run("START TRANSACTION")
                self._run(
                    f"SELECT epoch FROM sofia_fences WHERE slot = '#' {'FOR UPDATE' if alone else 'LOCK IN SHARE MODE'}"
                )
            case _:
                self._run("BEGIN IMMEDIATE")
        return self.query(reading) if reading else []

    def begin_schema(self) -> None:
        if self.dialect.name != "MariaDB":
            self._begin_schema()
            return
        wait = max(1, round(self._settings.statement))
        if self.query(f"SELECT get_lock(concat('{SCHEMA_LOCK}.', database()), {wait})")[0][0] != 1:
            raise Unavailable(f"{self.place}: others kept its tables locked")
        self._schema_locked = True

    def commit(self, closing: Sequence[Statement] = ()) -> None:
        if self.dialect.name == POSTGRESQL.name:
            self._run("; ".join([*(_with_values(*each) for each in closing), "COMMIT"]))
        else:
            for statement, values in closing:
                self.change(statement, values)
            self._run("COMMIT")
        self._unlock_schema()

    def rollback(self) -> None:
        """Never raises: what broke the transaction is the news."""
        if self._connection is None:
            return
        try:
            self._run("ROLLBACK")
            self._unlock_schema()
        except StoreError:
            self.close()

    def query(self, statement: str, values: Row = ()) -> list[Row]:
        rows: list[Row] = self._execute(statement, values, _rows)
        return rows

    def change(self, statement: str, values: Row = ()) -> int:
        return self._execute(statement, values, _count)

    # ---- below -------------------------------------------------------------------------------------------------------

    def _begin_postgresql(self, reading: str, *, alone: bool) -> list[Row]:
        """What is beside others has little patience with their rows, once it is in: see `SqlStore._transact`."""
        lock = f"SELECT pg_advisory_xact_lock({LOCK})"
        if not alone:
            brief = f"{self._settings.row * 1000:.0f}"
            lock = f"SELECT pg_advisory_xact_lock_shared({LOCK}), set_config('lock_timeout', '{brief}', true)"
        try:
            return self._run(f"BEGIN; {lock}; {reading}" if reading else f"BEGIN; {lock}")
        except Crosswise as error:
            # Whom it waited for is alone.
            raise Busy(str(error)) from None

    def _begin_schema(self) -> None:
        if self.dialect.name == POSTGRESQL.name:
            # Who waits here waits for the making of tables, not for a write.
            self._run(f"BEGIN; SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({LOCK})")
        else:
            self._run("BEGIN IMMEDIATE")

    def _unlock_schema(self) -> None:
        if self._schema_locked:
            self._schema_locked = False
            self.query(f"SELECT release_lock(concat('{SCHEMA_LOCK}.', database()))")

    def _run(self, statements: str) -> list[Row]:
        """Without values, and several in one go perhaps; returns the rows of the last."""
        with self._errors():
            cursor = self._open().cursor()
            try:
                cursor.execute(statements)
                rows = _rows(cursor)
                while cursor.nextset():
                    rows = _rows(cursor)
            finally:
                with suppress(pyodbc.Error):
                    cursor.close()
            return rows

    def _execute(self, statement: str, values: Row, then: Callable[[pyodbc.Cursor], T]) -> T:
        with self._errors():
            cursor, known = self._cursor(statement)
            try:
                cursor.execute(known, values)
                return then(cursor)
            except pyodbc.Error:
                # MariaDB's driver finds the server gone when it runs again what has failed once.
                self._drop_cursor(statement)
                raise

    def _cursor(self, statement: str) -> tuple[pyodbc.Cursor, str]:
        """One for each statement: a cursor prepares again what is not the very string it had before."""
        prepared = self._prepared
        entry = prepared.get(statement)
        if entry is None:
            entry = prepared[statement] = (statement, self._open().cursor())
            if len(prepared) > KEPT:
                _oldest, (_, cursor) = prepared.popitem(last=False)
                cursor.close()
        else:
            prepared.move_to_end(statement)
        return entry[1], entry[0]

    def _drop_cursor(self, statement: str) -> None:
        dropped = self._prepared.pop(statement, None)
        if dropped is not None:
            with suppress(pyodbc.Error):
                dropped[1].close()

    def _open(self) -> pyodbc.Connection:
        if self._connection is None:
            raise Unavailable(f"{self.place}: not open")
        return self._connection

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OverflowError, UnicodeError, TypeError) as error:
            raise Refused(f"{self.place}: {error}") from error
        except pyodbc.Error as error:
            first, second = (*map(str, error.args), "", "")[:2]
            # Some of the driver's complaints come the other way round.
            state, text = (first, second) if len(first) == 5 else (second, first)
            raise refusal(self.place, self.dialect.name, state, self._without_secrets(text)) from None

    def _without_secrets(self, text: str) -> str:
        for name, value in self._target.words.items():
            if value and name.upper() in ("PWD", "PASSWORD"):
                text = text.replace(value, "***").replace(quote(value, safe=","), "***")
        return text


def dialect_named(name: str, place: str) -> Dialect:
    """By what the server calls itself; raises `UnknownStore`, which says why it cannot be used."""
    dialect = DIALECTS.get(name)
    if dialect is None:
        known = f"there are {', '.join(DIALECTS)}{LACKS.get(name, '')}"
        raise UnknownStore(f"{place}: {name} is no database that we can use: {known}")
    return dialect


def _rows(cursor: pyodbc.Cursor) -> list[Row]:
    return list(cursor.fetchall()) if cursor.description else []


def _with_values(statement: str, values: Row) -> str:
    """With its values in it, for PostgreSQL to run it in one go with others."""
    parts = iter(statement.split("?"))
    text = next(parts)
    for value, part in zip(values, parts, strict=True):
        text += _literal(value) + part
    return text


def _literal(value: Value) -> str:
    if isinstance(value, bytes):
        return f"decode('{value.hex()}', 'hex')"
    if isinstance(value, str):
        assert value.isalnum(), "names of ours only"
        return f"'{value}'"
    return str(value)


def _count(cursor: pyodbc.Cursor) -> int:
    return int(cursor.rowcount)


# ---- how to get there ------------------------------------------------------------------------------------------------


def _connected(words: str, patience: int) -> pyodbc.Connection:
    try:
        return pyodbc.connect(words, autocommit=True, timeout=patience)
    except pyodbc.Error as error:
        # A data source may have its own patience, and PostgreSQL's driver takes it only once.
        if "connect_timeout parameter" not in str(error):
            raise
        return pyodbc.connect(words, autocommit=True)


def _driver(word: str) -> str:
    """The installed driver of this database, the one for Unicode where there are two."""
    names: list[str] = sorted(
        (name for name in pyodbc.drivers() if word in name), key=lambda name: "Unicode" not in name
    )
    if not names:
        raise Unavailable(f"no ODBC driver for {word} is installed (Debian: odbc-{word.lower()})")
    return names[0]


def _libpq(words: dict[str, str], settings: OdbcSettings) -> str:
    """A URL, in which libpq takes every word with every character."""
    patience = {
        "application_name": "sofia-node",
        "connect_timeout": f"{max(2, round(settings.connect))}",
        "tcp_user_timeout": f"{settings.network * 1000:.0f}",
        "keepalives_idle": "1",
        "keepalives_interval": "1",
        "keepalives_count": "2",
    }
    if "," in words.get("host", "") + words.get("hostaddr", ""):
        # Of several the one that may write: after a failover of the database that is another one.
        patience["target_session_attrs"] = "read-write"
    return "postgresql://?" + "&".join(f"{name}={quote(value, safe=',')}" for name, value in (patience | words).items())


def _mariadb(settings: OdbcSettings) -> dict[str, str]:
    seconds = str(max(1, round(settings.network)))
    return {"CONN_TIMEOUT": str(max(1, round(settings.connect))), "READ_TIMEOUT": seconds, "WRITE_TIMEOUT": seconds} | {
        "CHARSET": "utf8mb4",
        # It would connect again in the midst of a transaction.
        "AUTO_RECONNECT": "0",
    }


def _by_driver(words: dict[str, str], settings: OdbcSettings) -> dict[str, str]:
    """A data source, or a string as the driver has it: what is left unsaid of patience is added, if it knows the words."""
    driver = words.get("DRIVER") or pyodbc.dataSources().get(words.get("DSN", ""), "")
    if "PostgreSQL" in words.get("DRIVER", "") and "PQOPT" not in words:
        # Not to a data source, whose own it would replace.
        return words | {"PQOPT": _libpq({}, settings)}
    if "MariaDB" in driver:
        return _mariadb(settings) | words
    if "SQLite" in driver:
        # Without it whole numbers lose all but their last 32 bits.
        return {"BIGINT": "1"} | words
    return words


def _joined(words: dict[str, str]) -> str:
    return ";".join(f"{name}={_braced(value)}" for name, value in words.items()) + ";"


def _braced(value: str) -> str:
    """In braces only if it must: not every driver takes them off."""
    if value == value.strip() and not set(value) & set(";{}=,?*!@[]()"):
        return value
    return "{" + value.replace("}", "}}") + "}"


# ---- the driver's socket ---------------------------------------------------------------------------------------------


def _sockets() -> dict[str, int]:
    """This process's sockets by name, each with its number."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith("socket:"):
                found[name] = int(number)
    return found


def _the_new_one(before: dict[str, int]) -> int | None:
    """The connection that was not there before, unless other threads have made some too meanwhile."""
    new = [number for name, number in _sockets().items() if name not in before and _is_connection(number)]
    return os.dup(new[0]) if len(new) == 1 else None


def _is_connection(number: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(number)) as wire:
            wire.getpeername()
            return wire.type == socket.SOCK_STREAM
    except OSError:
        return False
