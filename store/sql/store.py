"""The store in a SQL database: the questions and rules all databases share, over a session of one of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec

from store.errors import Fenced, LeaseLost, SchemaTooNew, Unavailable
from store.interface import ANY_SLOT, Outcome, Put, Write, fence_of, judge
from store.records import (
    CallRecord,
    Lease,
    Record,
    Registration,
    decode_call,
    decode_registration,
    encode,
    storable,
)
from store.sql import schema
from store.sql import statements as sql
from store.sql.statements import CALLS, Dialect, Row

log = logging.getLogger(__name__)

T = TypeVar("T")

EPOCHS, FLUSHES = "#", "#flush"
"Counters that stand among the fences: they are read with them, and no slot has such a name."

LOT = 200
"Rows deleted in one transaction: others wait for its lock."
NOTED = 50_000
"Call-IDs to remember at most."


class Session(Protocol):
    """One connection to one database; it turns the driver's errors into ours."""

    dialect: Dialect
    place: str
    "The database, as an operator knows it."

    def connect(self) -> None: ...
    def close(self) -> None: ...

    def interrupt(self) -> None:
        """From another thread: end the statement that is running, if the driver can."""

    def begin(self) -> None:
        """Begin a transaction that may write."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def query(self, statement: str, values: Row = ()) -> list[Row]: ...

    def change(self, statement: str, values: Row = ()) -> int:
        """Run it; returns how many rows it has changed."""


class Uneven(Exception):
    """Not every row of a batch was newer than what is stored: each has to be looked at by itself."""


class SqlStore:
    def __init__(self, session: Session) -> None:
        self.session = session
        self._abandoned = False
        self._noted: set[tuple[str, str]] = set()
        "Call-IDs, with their calls, that are known to be in their table: most writes of a call bring no new one."
        self._flushes = 0
        "How often calls had been flushed, by anybody, when we noted them."

    def open(self) -> None:
        self._abandoned = False
        self.session.connect()
        if self._version() != schema.VERSION:
            self._transact(self._migrate)

    def close(self) -> None:
        self.session.close()

    def abandon(self) -> None:
        self._abandoned = True
        self.session.interrupt()

    def clock(self) -> float:
        return float(self.session.query(f"SELECT {self.session.dialect.clock}")[0][0])

    # ---- records ---------------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        try:
            return self._transact(lambda: self._write_in_lots(writes))
        except Uneven:
            return self._transact(lambda: self._write_one_by_one(writes))

    def registrations(
        self, *, profile: str | None = None, user: str | None = None, host: str | None = None
    ) -> list[Registration]:
        conditions = [f"(expires = 0 OR expires > {self.session.dialect.clock})"]
        values = []
        for column, value in (("sip_user", user), ("sip_host", host), ("profile_name", profile)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(storable(value))
        rows = self.session.query(f"SELECT record FROM sip_registrations WHERE {' AND '.join(conditions)}", values)
        return self._decoded(rows, decode_registration)

    def expire_registrations(self, profile: str) -> list[Registration]:
        past = f"expires > 0 AND expires <= {self.session.dialect.clock}"
        key = ", ".join(sql.REGISTRATION_KEY)
        # Looked for without the lock, because that reads the whole table; then deleted by key.
        due = self.session.query(f"SELECT {key} FROM sip_registrations WHERE profile_name = ? AND {past}", (profile,))
        statement = f"DELETE FROM sip_registrations WHERE {sql.REGISTRATIONS.by_key} AND {past} RETURNING record"

        def remove(keys: Sequence[Row]) -> list[Row]:
            return [row for key in keys for row in self.session.query(statement, key)]

        gone: list[Row] = []
        for start in range(0, len(due), LOT):
            gone += self._transact(partial(remove, due[start : start + LOT]))
        return self._decoded(gone, decode_registration)

    def calls(self, *, slots: Sequence[str] | None = None) -> list[CallRecord]:
        if slots is None:
            rows = self.session.query("SELECT record FROM recovery WHERE state <> 'ended'")
        else:
            statement = f"SELECT record FROM recovery WHERE slot IN {_places(slots)} AND state <> 'ended'"
            rows = self.session.query(statement, slots)
        return self._decoded(rows, decode_call)

    def call_by_call_id(self, call_id: str) -> CallRecord | None:
        rows = self.session.query(
            "SELECT recovery.record FROM sofia_call_ids JOIN recovery ON recovery.uuid = sofia_call_ids.uuid "
            f"WHERE call_id = ? AND (state <> 'ended' OR expires > {self.session.dialect.clock}) "
            "ORDER BY CASE state WHEN 'ended' THEN 1 ELSE 0 END LIMIT 1",
            (storable(call_id),),
        )
        calls = self._decoded(rows, decode_call)
        return calls[0] if calls else None

    def sweep_calls(self) -> int:
        past = f"state = 'ended' AND expires <= {self.session.dialect.clock}"
        due = self.session.query(f"SELECT uuid FROM recovery WHERE {past}")
        return sum(self._drop_calls(due[start : start + LOT], past) for start in range(0, len(due), LOT))

    def call_slots(self) -> dict[str, int]:
        rows: Any = self.session.query("SELECT slot, count(*) FROM recovery WHERE state <> 'ended' GROUP BY slot")
        return dict(rows)

    def claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int = 500) -> list[CallRecord]:
        if not slots:
            return []
        return self._transact(lambda: self._claim(slots, node=node, slot=slot, epoch=epoch, limit=limit))

    def flush_calls(self, profile: str | None) -> int:
        where, values = ("profile_name = ?", (profile,)) if profile is not None else ("1 = 1", ())

        def flush() -> int:
            self._lift_fences([FLUSHES], self._fences().get(FLUSHES, 0) + 1)
            self.session.change(
                f"DELETE FROM sofia_call_ids WHERE uuid IN (SELECT uuid FROM recovery WHERE {where})", values
            )
            return self.session.change(f"DELETE FROM recovery WHERE {where}", values)

        return self._transact(flush)

    # ---- fences, lease, secrets --------------------------------------------------------------------------------------

    def raise_fence(self, slot: str) -> int:
        return self._transact(lambda: self._raise_fence(slot))

    def acquire_lease(self, holder: str, ttl: float) -> Lease | None:
        def acquire() -> Lease | None:
            held, now = self._lease()
            if held.holder not in ("", holder) and held.until > now:
                return None
            return self._write_lease(holder, self._raise_fence(ANY_SLOT), now + ttl, now)

        return self._transact(acquire)

    def renew_lease(self, lease: Lease, ttl: float) -> Lease:
        def renew() -> Lease:
            held, now = self._lease()
            if (held.holder, held.epoch) != (lease.holder, lease.epoch):
                raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
            return self._write_lease(lease.holder, lease.epoch, now + ttl, now)

        return self._transact(renew)

    def release_lease(self, lease: Lease) -> None:
        statement = "UPDATE sofia_lease SET holder = '', until = 0 WHERE name = 'active' AND holder = ? AND epoch = ?"
        self._transact(lambda: self.session.change(statement, (lease.holder, lease.epoch)))

    def read_lease(self) -> Lease | None:
        held, _ = self._lease()
        return held if held.holder else None

    def secret(self, name: str) -> bytes:
        def make() -> bytes:
            rows = self.session.query("SELECT secret FROM sofia_secrets WHERE name = ?", (name,))
            if rows:
                return bytes(rows[0][0])
            fresh = os.urandom(32)
            self.session.change("INSERT INTO sofia_secrets (name, secret) VALUES (?, ?)", (name, fresh))
            return fresh

        return self._transact(make)

    # ---- inside a transaction ----------------------------------------------------------------------------------------

    def _transact(self, work: Callable[[], T]) -> T:
        self.session.begin()
        try:
            result = work()
            if self._abandoned:
                raise Unavailable(f"{self.session.place}: given up, for it took too long")
            self.session.commit()
        except BaseException:
            self._noted.clear()
            self.session.rollback()
            raise
        return result

    def _write_in_lots(self, writes: Sequence[Write]) -> list[Outcome]:
        """Many rows a statement, in the hope that all are newer than what is stored."""
        fences = self._fences()
        outcomes = [
            Outcome.FENCED if write.record.epoch < fence_of(fences, write.record) else Outcome.STORED
            for write in writes
        ]
        for kind in (Registration, CallRecord):
            mine = [
                write
                for write, outcome in zip(writes, outcomes, strict=True)
                if outcome is Outcome.STORED and isinstance(write.record, kind)
            ]
            if mine:
                self._put_lots(mine)
        return outcomes

    def _put_lots(self, writes: list[Write]) -> None:
        latest: dict[Row, Write] = {}
        for write in writes:
            key = sql.key_of(write)
            older = latest.get(key)
            if not isinstance(write, Put) or (older is not None and not _follows(write.record, older.record)):
                raise Uneven
            latest[key] = write
        table = sql.table_of(type(writes[0].record))
        # Of several versions of one record the last is written: nobody can tell it from all of them in one transaction.
        rows = list(latest.values())
        start = 0
        for count in sql.lots(len(rows)):
            lot = rows[start : start + count]
            values = [value for write in lot for value in sql.row_of(write)]
            if self.session.change(sql.put_newer(table, count), values) != count:
                raise Uneven
            start += count
        self._note_call_ids(writes)

    def _write_one_by_one(self, writes: Sequence[Write]) -> list[Outcome]:
        fences = self._fences()
        return [self._write(write, fences) for write in writes]

    def _write(self, write: Write, fences: dict[str, int]) -> Outcome:
        table = sql.table_of(type(write.record))
        key = sql.key_of(write)
        rows = self.session.query(
            f"SELECT epoch, version FROM {table.name} WHERE {table.by_key}{self.session.dialect.lock_rows}", key
        )
        outcome = judge(write, fences, (rows[0][0], rows[0][1]) if rows else None)
        if outcome is not Outcome.STORED:
            return outcome
        if isinstance(write, Put):
            self.session.change(sql.put_always(table), sql.row_of(write))
            self._note_call_ids([write])
        elif rows:
            self.session.change(f"DELETE FROM {table.name} WHERE {table.by_key}", key)
            if table is CALLS:
                self.session.change("DELETE FROM sofia_call_ids WHERE uuid = ?", key)
                self._noted.clear()
        return outcome

    def _note_call_ids(self, writes: Sequence[Write]) -> None:
        new = {
            (write.record.uuid, call_id)
            for write in writes
            if isinstance(write.record, CallRecord)
            for call_id in write.record.call_ids
        } - self._noted
        values = [value for pair in new for value in pair]
        start = 0
        for count in sql.lots(len(new)):
            self.session.change(sql.add_call_ids(count), values[start : start + 2 * count])
            start += 2 * count
        if len(self._noted) > NOTED:
            self._noted.clear()
        self._noted |= new

    def _drop_calls(self, due: Sequence[Row], past: str) -> int:
        def drop() -> int:
            dropped = 0
            for key in due:
                if self.session.change(f"DELETE FROM recovery WHERE uuid = ? AND {past}", key):
                    self.session.change("DELETE FROM sofia_call_ids WHERE uuid = ?", key)
                    dropped += 1
            self._noted.clear()
            return dropped

        return self._transact(drop)

    def _claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int) -> list[CallRecord]:
        fences = self._fences()
        if epoch < max(fences.get(slot, 0), fences.get(ANY_SLOT, 0)):
            raise Fenced(slot, epoch)
        self._lift_fences([name for name in (EPOCHS, *slots) if fences.get(name, 0) < epoch], epoch)
        rows = self.session.query(
            f"SELECT uuid, record FROM recovery WHERE slot IN {_places(slots)} AND epoch < ? AND state <> 'ended' "
            f"LIMIT ?{self.session.dialect.lock_rows}",
            (*slots, epoch, limit),
        )
        taken = []
        statement = (
            "UPDATE recovery SET runtime_uuid = ?, hostname = ?, slot = ?, epoch = ?, version = ?, record = ? "
            "WHERE uuid = ?"
        )
        for uuid, data in rows:
            call = self._decode(data, decode_call)
            if call is None:
                # Nobody can revive it, but whoever claims until nothing is left must come to an end.
                self.session.change("UPDATE recovery SET epoch = ? WHERE uuid = ?", (epoch, uuid))
                continue
            call.node, call.slot, call.epoch, call.version = node, slot, epoch, call.version + 1
            values = (f"{node}/{slot}", node, slot, epoch, call.version, encode(call), uuid)
            self.session.change(statement, values)
            taken.append(call)
        return taken

    def _raise_fence(self, slot: str) -> int:
        self.session.change("UPDATE sofia_fences SET epoch = epoch + 1 WHERE slot = ?", (EPOCHS,))
        epoch = int(self.session.query("SELECT epoch FROM sofia_fences WHERE slot = ?", (EPOCHS,))[0][0])
        self._lift_fences([slot], epoch)
        return epoch

    def _lift_fences(self, slots: Sequence[str], epoch: int) -> None:
        for slot in slots:
            if not self.session.change("UPDATE sofia_fences SET epoch = ? WHERE slot = ?", (epoch, slot)):
                self.session.change("INSERT INTO sofia_fences (slot, epoch) VALUES (?, ?)", (slot, epoch))

    def _fences(self) -> dict[str, int]:
        rows: Any = self.session.query(f"SELECT slot, epoch FROM sofia_fences{self.session.dialect.lock_rows}")
        fences = dict(rows)
        if fences.get(FLUSHES, 0) != self._flushes:
            self._flushes = fences.get(FLUSHES, 0)
            self._noted.clear()
        return fences

    def _lease(self) -> tuple[Lease, float]:
        statement = f"SELECT holder, epoch, until, {self.session.dialect.clock} FROM sofia_lease WHERE name = 'active'"
        holder, epoch, until, now = self.session.query(statement)[0]
        return Lease(holder=holder, epoch=epoch, until=until, now=now), now

    def _write_lease(self, holder: str, epoch: int, until: float, now: float) -> Lease:
        statement = "UPDATE sofia_lease SET holder = ?, epoch = ?, until = ? WHERE name = 'active'"
        self.session.change(statement, (holder, epoch, until))
        return Lease(holder=holder, epoch=epoch, until=until, now=now)

    # ---- schema and decoding -----------------------------------------------------------------------------------------

    def _version(self) -> int:
        self.session.change(schema.CREATE_VERSION.format_map(self.session.dialect.types))
        version = int(self.session.query(schema.READ_VERSION)[0][0] or 0)
        if version > schema.VERSION:
            raise SchemaTooNew(
                f"{self.session.place}: its tables have version {version}, this release knows {schema.VERSION}"
            )
        return version

    def _migrate(self) -> None:
        # Read again under the lock: the other node may have done it meanwhile.
        version = self._version()
        for number, step in enumerate(schema.steps_from(version), version + 1):
            for statement in step:
                self.session.change(statement.format_map(self.session.dialect.types))
            self.session.change(schema.WRITE_VERSION, (number,))

    def _decoded(self, rows: Sequence[Row], decode: Callable[[bytes], T]) -> list[T]:
        return [record for row in rows if (record := self._decode(row[0], decode)) is not None]

    def _decode(self, data: bytes, decode: Callable[[bytes], T]) -> T | None:
        try:
            return decode(bytes(data))
        except msgspec.MsgspecError as error:
            log.warning("%s: passed over a record that cannot be read: %s", self.session.place, error)
            return None


def _follows(record: Record, older: Record) -> bool:
    """Is it a later version by the same owner?"""
    return record.slot == older.slot and record.epoch == older.epoch and record.version > older.version


def _places(values: Sequence[object]) -> str:
    return sql.places(len(values))
