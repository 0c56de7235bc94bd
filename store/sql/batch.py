"""One batch of writes, inside a transaction: many rows a statement, and each with its outcome.

Ordinary writes, each newer than what is stored, go in one statement that says how many it took. If that is not all of
them, or the batch is not so simple, what is stored is read under a lock, each write is judged by that, and what is left
of them at the end is written. Rows are always touched in the order of their keys, so that two who write at once wait
for each other at the first that they share, and never crosswise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from store.interface import Outcome, Put, Write, is_fenced, judge
from store.records import CallRecord, Record
from store.sql.rows import Rows
from store.sql.statements import CALL_IDS, CALLS, Dialect, Row, Statement, Table, Value

NOTED = 50_000
"Call-IDs to remember at most."


class Session(Protocol):
    """One connection to one database; it turns the driver's errors into ours."""

    dialect: Dialect
    "Known at the latest when connected."
    place: str
    "The database, as an operator knows it."

    def connect(self) -> None: ...
    def close(self) -> None: ...

    def interrupt(self) -> None:
        """From another thread: end the statement that is running, if the driver can."""

    def begin(self, reading: str = "", *, alone: bool = False) -> list[Row]:
        """Begin a transaction that may write; `alone`, while no other is in one. Then answer the query."""

    def begin_schema(self) -> None:
        """Begin to change the tables; nobody else does meanwhile, even where there is none yet. Ended by `commit`."""

    def commit(self, closing: Sequence[Statement] = ()) -> None:
        """Run these, then end the transaction: at once, where the driver can."""

    def rollback(self) -> None: ...
    def query(self, statement: str, values: Row = ()) -> list[Row]: ...

    def change(self, statement: str, values: Row = ()) -> int:
        """Run it; returns how many rows it has changed."""


class Uneven(Exception):
    """Not every row of a batch was newer than what is stored: they have to be judged."""


class Batch:
    """Writes batches over one session, and remembers which Call-IDs are in their table."""

    def __init__(self, session: Session, rows: Rows) -> None:
        self._session = session
        self._dialect = session.dialect
        self._rows = rows
        self._noted: set[tuple[Value, ...]] = set()
        "Call-IDs, with their calls, that are known to be in their table: most writes of a call bring no new one."

    def forget(self) -> None:
        """What was noted may not be there, or not any more."""
        self._noted.clear()

    def write(self, writes: Sequence[Write], fences: dict[str, int]) -> list[Outcome]:
        """In the hope that all are newer than what is stored; raises `Uneven`. For an optimistic dialect only."""
        outcomes = [Outcome.FENCED if is_fenced(write, fences) else Outcome.STORED for write in writes]
        mine = [write for write, outcome in zip(writes, outcomes, strict=True) if outcome is Outcome.STORED]
        latest: Latest = {}
        for write in mine:
            place = self._place(write)
            older = latest.get(place)
            if not isinstance(write, Put) or (older is not None and not _follows(write.record, older.record)):
                raise Uneven
            # Of several versions of one record the last is written: nobody can tell it from all, in one transaction.
            latest[place] = write
        self._put(latest, newer=True)
        self._note_call_ids(mine)
        return outcomes

    def judge(self, writes: Sequence[Write], fences: dict[str, int]) -> list[Outcome]:
        """Each by what is stored, read under a lock, and by those before it. One table is done before the next is touched."""
        by_table: dict[Table, dict[int, Place]] = {}
        for number, write in enumerate(writes):
            place = self._place(write)
            by_table.setdefault(place[0], {})[number] = place
        outcomes: dict[int, Outcome] = {}
        for table in _in_order(by_table):
            outcomes |= self._judge(writes, by_table[table], fences)
        return [outcomes[number] for number in range(len(writes))]

    def _judge(
        self, writes: Sequence[Write], places: Mapping[int, Place], fences: dict[str, int]
    ) -> dict[int, Outcome]:
        """The outcomes by number in the batch: of those in one table, by their places there."""
        stored = self._stored(set(places.values()))
        outcomes = {}
        gone: set[Place] = set()
        latest: Latest = {}
        for number, place in places.items():
            write = writes[number]
            outcomes[number] = outcome = judge(write, fences, stored.get(place))
            if outcome is not Outcome.STORED:
                continue
            if isinstance(write, Put):
                latest[place] = write
                stored[place] = (write.record.epoch, write.record.version)
            elif stored.pop(place, None) is not None:
                latest.pop(place, None)
                gone.add(place)
        self._delete(gone)
        self._put(latest, newer=False)
        self._note_call_ids(list(latest.values()))
        return outcomes

    def delete(self, table: Table, keys: Sequence[Row]) -> None:
        self._delete({(table, tuple(key)) for key in keys})

    def lots(self, columns: tuple[str, ...], keys: Sequence[Row]) -> Iterator[Statement]:
        """Conditions that together are true of the rows with these keys."""
        start = 0
        for count in self._dialect.lots(len(keys)):
            yield self._dialect.among(columns, keys[start : start + count])
            start += count

    # ---- below -------------------------------------------------------------------------------------------------------

    def _place(self, write: Write) -> Place:
        return self._rows.table(write), tuple(self._rows.key(write))

    def _put(self, latest: Latest, *, newer: bool) -> None:
        for table, keys in _sorted(latest):
            ending = self._dialect.replacing(table, newer=newer)
            rows = [self._rows.row(latest[table, key], key) for key in keys]
            refresh = self._dialect.refresh(table, rows) if newer else None
            fresh = len(rows) - (self._session.change(*refresh) if refresh else 0)
            # Those that were refreshed are in the batch still: they are not newer any more.
            if fresh and self._insert(table, rows, ending) != fresh and newer:
                raise Uneven

    def _insert(self, table: Table, rows: Sequence[Row], ending: str) -> int:
        changed = start = 0
        for count in self._dialect.lots(len(rows)):
            source, values = self._dialect.source(table, rows[start : start + count])
            changed += self._session.change(self._dialect.insert(table) + source + ending, values)
            start += count
        return changed

    def _stored(self, places: Collection[Place]) -> dict[Place, tuple[int, int]]:
        stored: dict[Place, tuple[int, int]] = {}
        for table, keys in _sorted(places):
            columns = ", ".join((*table.key, "epoch", "version"))
            # Without an order they would be locked as they lie.
            ending = self._dialect.in_order(table) + self._dialect.lock_rows
            for among, values in self.lots(table.key, keys):
                statement = f"SELECT {columns} FROM {table.name} WHERE {among}{ending}"
                for row in self._session.query(statement, values):
                    stored[table, tuple(row[:-2])] = (row[-2], row[-1])
        return stored

    def _delete(self, places: Collection[Place]) -> None:
        for table, keys in _sorted(places):
            for among, values in self.lots(table.key, keys):
                self._session.change(f"DELETE FROM {table.name} WHERE {among}", values)
                if table is CALLS:
                    self._session.change(f"DELETE FROM {CALL_IDS.name} WHERE {among}", values)
                    self._noted.clear()

    def _note_call_ids(self, writes: Sequence[Write]) -> None:
        new = {
            (*self._rows.key(write), self._rows.call_id(call_id))
            for write in writes
            if isinstance(write.record, CallRecord)
            for call_id in write.record.call_ids
        } - self._noted
        self._insert(CALL_IDS, sorted(new), self._dialect.adding(CALL_IDS))
        if len(self._noted) > NOTED:
            self._noted.clear()
        self._noted |= new


Place = tuple[Table, tuple[Value, ...]]
"A record's table, and its key there."
Latest = dict[Place, Write]


def _sorted(places: Collection[Place]) -> list[tuple[Table, list[tuple[Value, ...]]]]:
    """The keys by table, in the one order that all who write keep to."""
    keys: dict[Table, list[tuple[Value, ...]]] = {}
    for table, key in places:
        keys.setdefault(table, []).append(key)
    return [(table, sorted(keys[table])) for table in _in_order(keys)]


def _in_order(tables: Collection[Table]) -> list[Table]:
    return sorted(tables, key=lambda table: table.name, reverse=True)


def _follows(record: Record, older: Record) -> bool:
    """Is it a later version by the same owner?"""
    return record.slot == older.slot and record.epoch == older.epoch and record.version > older.version
