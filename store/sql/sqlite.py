"""A session with a SQLite file, shared by the processes of this host: write-ahead log, flushed at every commit.

One may write at a time. A transaction of ours takes well under a millisecond, while SQLite's own way of waiting sleeps
up to 100 ms between two looks; so we wait ourselves, in short sleeps of chance length.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from store.errors import Busy, Damaged, Full, ReadOnly, Refused, StoreError, Unavailable
from store.retry import Backoff
from store.settings import SqliteSettings
from store.sql.dialects import SQLITE
from store.sql.statements import Row, Statement

T = TypeVar("T")

BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
# Who has waited long looks more often, so that nobody is passed by for ever; but not so often that on a host without a
# core to spare the looking takes the holder's time.
WAITING = Backoff(first=0.002, longest=0.002, shortest=0.0007, factor=0.85, spread=0.6)

ERRORS: dict[int, tuple[type[StoreError], str]] = {
    **dict.fromkeys(BUSY, (Busy, "others kept it locked")),
    sqlite3.SQLITE_READONLY: (ReadOnly, "it is read-only"),
    sqlite3.SQLITE_PERM: (ReadOnly, "it may not be opened for writing"),
    sqlite3.SQLITE_FULL: (Full, "the disk is full"),
    sqlite3.SQLITE_CORRUPT: (Damaged, "the file is damaged"),
    sqlite3.SQLITE_NOTADB: (Damaged, "the file is no SQLite database"),
    sqlite3.SQLITE_CANTOPEN: (Unavailable, "it cannot be opened"),
    sqlite3.SQLITE_IOERR: (Unavailable, "its disk fails"),
    sqlite3.SQLITE_CONSTRAINT: (Refused, "not acceptable"),
    sqlite3.SQLITE_TOOBIG: (Refused, "too big"),
    sqlite3.SQLITE_MISMATCH: (Refused, "of the wrong type"),
    sqlite3.SQLITE_RANGE: (Refused, "out of range"),
}


class SqliteSession:
    dialect = SQLITE

    def __init__(self, path: Path, settings: SqliteSettings) -> None:
        self.place = str(path)
        self._path = path
        self._settings = settings
        self._connection: sqlite3.Connection | None = None
        self._opened = 0
        "Inode of the file that is open."

    def connect(self) -> None:
        self.close()
        try:
            self._make_file()
            self._connection = sqlite3.connect(
                self._path,
                timeout=0,
                isolation_level=None,
                # One thread uses it; another may only interrupt.
                check_same_thread=False,
                cached_statements=64,
            )
        except (OSError, sqlite3.Error) as error:
            raise self._ours(error) from error
        self._opened = self._inode()
        self._patiently("PRAGMA journal_mode = WAL")
        self._patiently(f"PRAGMA synchronous = {self._settings.synchronous}")
        self._patiently(f"PRAGMA wal_autocheckpoint = {self._settings.checkpoint}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                raise self._ours(error) from error

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):
                # Its own thread has closed it meanwhile.
                connection.interrupt()

    def begin(self, reading: str = "", *, alone: bool = False) -> list[Row]:
        """Whoever may write is alone here."""
        if self._connection is not None and self._inode() != self._opened:
            # SQLite would go on writing into the file that no longer has a name.
            raise Unavailable(f"{self.place}: the file was taken away or replaced")
        self._patiently("BEGIN IMMEDIATE")
        try:
            return self.query(reading) if reading else []
        except BaseException:
            self.rollback()
            raise

    def begin_schema(self) -> None:
        self.begin()

    def commit(self, closing: Sequence[Statement] = ()) -> None:
        for statement, values in closing:
            self._patiently(statement, values)
        self._patiently("COMMIT")

    def rollback(self) -> None:
        """Never raises: what broke the transaction is the news, and SQLite may have rolled it back by itself."""
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._connection = None

    def query(self, statement: str, values: Row = ()) -> list[Row]:
        rows: list[Row] = self._patiently(statement, values, sqlite3.Cursor.fetchall)
        return rows

    def change(self, statement: str, values: Row = ()) -> int:
        count: int = self._patiently(statement, values, lambda cursor: cursor.rowcount)
        return count

    # ---- below -------------------------------------------------------------------------------------------------------

    def _make_file(self) -> None:
        """It holds secrets and who is reachable where: for this user only."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))

    def _inode(self) -> int:
        try:
            return os.stat(self._path).st_ino
        except OSError:
            return 0

    def _patiently(self, statement: str, values: Row = (), then: Callable[[sqlite3.Cursor], Any] | None = None) -> Any:
        """Run it; while others hold the lock, again and again, as long as the settings say."""
        connection = self._connection
        if connection is None:
            raise Unavailable(f"{self.place}: not open")
        attempt = 0
        give_up = None
        while True:
            try:
                cursor = connection.execute(statement, values)
                return then(cursor) if then is not None else None
            except (sqlite3.Error, UnicodeError, OverflowError) as error:
                ours = self._ours(error)
                now = time.monotonic()
                give_up = give_up or now + self._settings.wait
                if not isinstance(ours, Busy) or now > give_up:
                    raise ours from error
                time.sleep(WAITING.pause(attempt))
                attempt += 1

    def _ours(self, error: Exception) -> StoreError:
        if isinstance(error, UnicodeError | OverflowError | sqlite3.InterfaceError | sqlite3.ProgrammingError):
            return Refused(f"{self.place}: {error}")
        code = getattr(error, "sqlite_errorcode", None)
        kind, text = ERRORS.get((code or 0) & 0xFF, (Unavailable, ""))
        return kind(f"{self.place}: {text + ' ' if text else ''}({error})")
