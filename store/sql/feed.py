"""An account of what becomes of registrations, for those who follow them; written only while somebody does.

Each session that writes keeps an account of its own: an entry a commit, numbered without a gap, with the keys that it
changed, and a head with the last number. Numbers of all writers together would show themselves in another order than
they were given out, for who got the first may commit last; those of one writer cannot. So a watermark is a number for
each writer, nothing has to be waited for, and an idle look is one query of the heads: a few rows.

The row `#followed` among the fences says until when somebody follows; a writer reads it with them. Once it has passed
the account has a hole, and who follows after that begins a new one (the number of the head `#`), which makes all older
watermarks worthless. A watermark that nobody has asked with for long is worth nothing either.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from store.interface import Changes
from store.records import Registration, original
from store.sql.batch import Batch, Session
from store.sql.rows import Rows
from store.sql.statements import HEADS, Row, Statement, Value

FOLLOWED = "#followed"
"Among the fences: the second, by the store's clock, until which the account is kept."
ACCOUNT = "#"
"Among the heads: which account it is."

LIFE = 300
"Seconds that an account is kept after the last who follows said so."
SAY_SO = 60
"Seconds between two times that one who follows says so."
MARGIN = 60
"Seconds before its end after which an account is not prolonged: a writer may have seen it end already."
WORTHLESS = 120
"Seconds after which a watermark is not taken any more."
FORGOTTEN = 3600
"Seconds after which the account of a writer that writes no more is dropped."
KEPT = 8192
"Entries that each writer keeps."
PRUNING = 256
"Entries after which the oldest are dropped."
ENTRIES = 50
"Entries that one look reads at most."

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[Any]).decode


@dataclass(frozen=True, slots=True)
class Watermark:
    """How far somebody has seen the account."""

    account: int
    asked: float
    "When it was asked with last, by the store's clock."
    said: float
    "When its owner said last that he follows."
    seen: dict[str, int] = field(default_factory=dict)
    "The last number, by writer."

    @classmethod
    def parse(cls, text: str) -> Watermark | None:
        """None: it is of some other store, or none at all."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError:
            return None

    def __str__(self) -> str:
        return msgspec.json.encode(self).decode()


@dataclass(frozen=True, slots=True)
class Heads:
    """How far the accounts of all writers are, and the store's clock."""

    account: int
    now: float
    last: dict[str, int]
    moment: float
    "When the last entry of all was written."


class Account:
    """What this session writes into it."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.dialect.clock
        self._overwriting = session.dialect.overwriting(HEADS)
        self._noted: list[Any] = []
        self._begin()

    def note(self, changed: Iterable[Any]) -> None:
        """These bindings, as `Rows` names them, are changed by the transaction that is under way."""
        self._noted += changed

    def closing(self) -> list[Statement]:
        """What is to be written at the end of the transaction."""
        if not self._noted:
            return []
        self._number += 1
        changed, self._noted, self._written = _pack(self._noted), [], True
        statements: list[Statement] = [
            (
                f"INSERT INTO sofia_feed (writer, number, moment, changed) VALUES (?, ?, {self._clock}, ?)",
                (self._writer, self._number, changed),
            ),
            (
                f"INSERT INTO sofia_feed_heads (writer, number, moment) VALUES (?, ?, {self._clock}){self._overwriting}",
                (self._writer, self._number),
            ),
        ]
        if self._number % PRUNING == 0:
            oldest = (self._writer, self._number - KEPT)
            statements.append(("DELETE FROM sofia_feed WHERE writer = ? AND number <= ?", oldest))
        if self._number == 1:
            statements += self._forgotten()
        return statements

    def committed(self) -> None:
        self._written = False

    def broken(self) -> None:
        """The transaction is gone, or nobody knows; then its number must not be given out again."""
        self._noted.clear()
        if self._written:
            self._begin()

    def _begin(self) -> None:
        self._writer = os.urandom(6).hex()
        self._number = 0
        self._written = False

    def _forgotten(self) -> list[Statement]:
        """A writer that comes cleans up behind those that went long ago.

        They are looked for without a lock: MariaDB's DELETE would wait for each row that it comes by, and who writes
        one of them perhaps for ours.
        """
        old = f"moment < {self._clock} - {FORGOTTEN}"
        gone = self._session.query(
            f"SELECT writer FROM sofia_feed_heads WHERE writer <> '{ACCOUNT}' AND {old} ORDER BY writer"
        )
        statements: list[Statement] = []
        for (writer,) in gone:
            statements.append(("DELETE FROM sofia_feed WHERE writer = ?", (writer,)))
            statements.append((f"DELETE FROM sofia_feed_heads WHERE writer = ? AND {old}", (writer,)))
        return statements


class Follower:
    """Who reads it."""

    def __init__(
        self, session: Session, rows: Rows, batch: Batch, decoded: Callable[[Sequence[Row]], list[Registration]]
    ) -> None:
        """`decoded` makes bindings of rows, and passes over what cannot be read."""
        self._session, self._rows, self._batch, self._decoded = session, rows, batch, decoded

    def begin(self, alone: Callable[[Callable[[], None]], None]) -> Changes:
        """The watermark of now. `alone` runs something in a transaction while nobody else writes."""
        if not self._prolong():
            alone(self._begin_account)
        heads = self._heads()
        return Changes(str(Watermark(heads.account, heads.now, heads.now, heads.last)))

    def since(self, text: str) -> Changes | None:
        heads = self._heads()
        mark = Watermark.parse(text)
        if mark is None or mark.account != heads.account or heads.now - mark.asked > WORTHLESS:
            return None
        mark = replace(mark, asked=heads.now)
        if heads.now - mark.said > SAY_SO:
            if not self._prolong():
                return None
            mark = replace(mark, said=heads.now)
        return self._news(mark, heads)

    # ---- below -------------------------------------------------------------------------------------------------------

    def _heads(self) -> Heads:
        clock = self._session.dialect.clock
        rows = self._session.query(f"SELECT writer, number, moment, {clock} FROM sofia_feed_heads")
        last = {str(writer): int(number) for writer, number, _moment, _now in rows}
        newest = max(float(row[2]) for row in rows)
        return Heads(last.pop(ACCOUNT), float(rows[0][3]), last, newest)

    def _prolong(self) -> bool:
        """False: it has ended, or is about to."""
        clock = self._session.dialect.clock
        return bool(
            self._session.change(
                f"UPDATE sofia_fences SET epoch = {clock} + {LIFE} "
                f"WHERE slot = '{FOLLOWED}' AND epoch >= {clock} + {MARGIN}"
            )
        )

    def _begin_account(self) -> None:
        clock = self._session.dialect.clock
        self._session.change(f"UPDATE sofia_fences SET epoch = {clock} + {LIFE} WHERE slot = '{FOLLOWED}'")
        self._session.change(f"UPDATE sofia_feed_heads SET number = number + 1 WHERE writer = '{ACCOUNT}'")

    def _news(self, mark: Watermark, heads: Heads) -> Changes | None:
        # Of writers that are gone nothing more comes.
        seen = {writer: number for writer, number in mark.seen.items() if writer in heads.last}
        changed: list[Any] = []
        moment, left = heads.moment, ENTRIES
        for writer in sorted(heads.last):
            if left and seen.get(writer, 0) < heads.last[writer]:
                entries = self._entries(writer, seen.get(writer, 0), left)
                if entries is None:
                    return None
                left -= len(entries)
                seen[writer], moment = int(entries[-1][0]), float(entries[-1][1])
                for entry in entries:
                    changed += _unpack(bytes(entry[2]))
        more = any(seen.get(writer, 0) < number for writer, number in heads.last.items())
        there, gone = self._bindings(changed)
        lag = max(0.0, heads.moment - moment) if more else 0.0
        return Changes(str(replace(mark, seen=seen)), there, gone, lag=lag, more=more)

    def _entries(self, writer: str, after: int, most: int) -> list[Row] | None:
        """The next of one writer, which has some; None if they are not kept any more."""
        entries = self._session.query(
            f"SELECT number, moment, changed FROM sofia_feed WHERE writer = ? AND number > ? ORDER BY number LIMIT {most:d}",
            (writer, after),
        )
        return entries if entries and entries[0][0] == after + 1 else None

    def _bindings(self, changed: Sequence[Any]) -> tuple[list[Registration], list[str]]:
        """As they are now, whatever the entries were about; and the keys of those that are no more."""
        names: dict[tuple[Value, ...], str] = {}
        for key, name in map(self._rows.changed, changed):
            # One writer's entry of a put may come behind another's of the removal that followed it.
            names[key] = name or names.get(key, "")
        table = self._session.dialect.registrations
        statement = f"SELECT {self._rows.registration_columns}, {', '.join(table.key)} FROM {table.name} WHERE "
        rows: list[Row] = []
        for among, values in self._batch.lots(table.key, sorted(names)):
            rows += self._session.query(statement + among, values)
        for row in rows:
            names.pop(tuple(row[-len(table.key) :]), None)
        # One that was put and is no more has been removed since: the entry of that has its name.
        return self._decoded(rows), [original(name) for name in names.values() if name]
