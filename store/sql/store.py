"""The store in a SQL database: the questions and rules all databases share, over a session of one of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec

from store.errors import Crosswise, Fenced, LeaseLost, Unavailable
from store.interface import ANY_SLOT, RULER, Changes, Description, Heritage, Outcome, Put, Write
from store.records import CallRecord, Lease, Registration, storable
from store.sql.batch import Batch, Session, Uneven
from store.sql.feed import FOLLOWED, Account, Follower
from store.sql.migration import Tables
from store.sql.rows import CALL_COLUMNS, Rows, call_of
from store.sql.statements import CALLS, Dialect, Row, places

log = logging.getLogger(__name__)

T = TypeVar("T")

EPOCHS, FLUSHES = "#", "#flush"
"Counters that stand among the fences: they are read with them, and no slot has such a name."

LOT = 200
"Rows deleted in one transaction: others wait for its lock."


class SqlStore:
    def __init__(self, session: Session, said: set[int] | None = None) -> None:
        """`said`: see `Tables`."""
        self.session = session
        self._said = set() if said is None else said
        self._abandoned = False
        self._flushes = 0
        "How often calls had been flushed, by anybody, when their Call-IDs were noted."

    def open(self) -> None:
        self._abandoned = False
        self.session.connect()
        # The dialect is what the server says it is.
        self._rows = Rows(self.session.dialect)
        self._batch = Batch(self.session, self._rows)
        self._account = Account(self.session)
        self._follower = Follower(self.session, self._rows, self._batch, self._bindings)
        self._reads_fences = _reading_fences(self.session.dialect)
        tables = Tables(self.session, self._said)
        if tables.version() < tables.wanted:
            tables.bring()

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
            if self.session.dialect.optimistic:
                return self._transact(lambda fences: self._noted(writes, self._batch.write(writes, fences), fences))
        except Uneven:
            pass
        return self._transact(lambda fences: self._noted(writes, self._batch.judge(writes, fences), fences))

    def registrations(
        self, *, profile: str | None = None, user: str | None = None, host: str | None = None
    ) -> list[Registration]:
        conditions = [f"(expires = 0 OR expires > {self.session.dialect.clock})"]
        values = []
        for column, value in (("sip_user", user), ("sip_host", host), ("profile_name", profile)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(storable(value))
        columns = self._rows.registration_columns
        rows = self.session.query(f"SELECT {columns} FROM sip_registrations WHERE {' AND '.join(conditions)}", values)
        return self._bindings(rows)

    def expire_registrations(self, profile: str) -> list[Registration]:
        dialect = self.session.dialect
        table = dialect.registrations
        past = f"expires > 0 AND expires <= {dialect.clock}"
        key = ", ".join(table.key)
        # Looked for without a lock, because that reads the whole table; then deleted by key.
        due = self.session.query(f"SELECT {key} FROM {table.name} WHERE profile_name = ? AND {past}", (profile,))
        statement = f"SELECT {self._rows.registration_columns}, {key} FROM {table.name} WHERE {past} AND "

        def remove(keys: Sequence[Row], fences: dict[str, int]) -> list[Registration]:
            rows: list[Row] = []
            for among, values in self._batch.lots(table.key, keys):
                rows += self.session.query(statement + among + dialect.in_order(table) + dialect.lock_rows, values)
            self._batch.delete(table, [row[-len(table.key) :] for row in rows])
            gone = self._bindings(rows)
            if fences.get(FOLLOWED):
                self._account.note(self._rows.change(record, gone=True) for record in gone)
            return gone

        gone: list[Registration] = []
        for keys in _in_lots(due):
            gone += self._transact(partial(remove, keys))
        return gone

    def calls(self, *, slots: Sequence[str] | None = None) -> list[CallRecord]:
        if slots is None:
            rows = self.session.query(f"SELECT {CALL_COLUMNS} FROM recovery WHERE state <> 'ended'")
        elif slots:
            statement = f"SELECT {CALL_COLUMNS} FROM recovery WHERE slot IN {places(len(slots))} AND state <> 'ended'"
            rows = self.session.query(statement, slots)
        else:
            rows = []
        return self._decoded(rows, call_of)

    def call_by_call_id(self, call_id: str) -> CallRecord | None:
        columns = ", ".join(f"recovery.{column}" for column in CALL_COLUMNS.split(", "))
        rows = self.session.query(
            f"SELECT {columns} FROM sofia_call_ids JOIN recovery ON recovery.uuid = sofia_call_ids.uuid "
            f"WHERE call_id = ? AND (state <> 'ended' OR expires > {self.session.dialect.clock}) "
            "ORDER BY CASE state WHEN 'ended' THEN 1 ELSE 0 END LIMIT 1",
            (self._rows.call_id(call_id),),
        )
        calls = self._decoded(rows, call_of)
        return calls[0] if calls else None

    def sweep_calls(self) -> int:
        dialect = self.session.dialect
        past = f"state = 'ended' AND expires <= {dialect.clock}"
        due = self.session.query(f"SELECT uuid FROM recovery WHERE {past}")
        statement = f"SELECT uuid FROM recovery WHERE {past} AND "

        def drop(keys: Sequence[Row], _fences: dict[str, int]) -> int:
            gone: list[Row] = []
            for among, values in self._batch.lots(CALLS.key, keys):
                gone += self.session.query(statement + among + dialect.in_order(CALLS) + dialect.lock_rows, values)
            self._batch.delete(CALLS, gone)
            return len(gone)

        return sum(self._transact(partial(drop, keys)) for keys in _in_lots(due))

    def call_slots(self) -> dict[str, int]:
        rows: Any = self.session.query("SELECT slot, count(*) FROM recovery WHERE state <> 'ended' GROUP BY slot")
        return dict(rows)

    def claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int = 500) -> list[CallRecord]:
        if not slots:
            return []
        claim = partial(self._claim, slots=slots, node=node, slot=slot, epoch=epoch, limit=limit)
        return self._transact(claim, alone=True)

    def flush_calls(self, profile: str | None) -> int:
        where, values = ("profile_name = ?", (profile,)) if profile is not None else ("1 = 1", ())

        def flush(fences: dict[str, int]) -> int:
            self._lift_fences(fences, [FLUSHES], fences.get(FLUSHES, 0) + 1)
            self.session.change(
                f"DELETE FROM sofia_call_ids WHERE uuid IN (SELECT uuid FROM recovery WHERE {where})", values
            )
            return self.session.change(f"DELETE FROM recovery WHERE {where}", values)

        return self._transact(flush, alone=True)

    # ---- fences, lease, secrets --------------------------------------------------------------------------------------

    def raise_fence(self, slot: str, lease: Lease | None = None) -> int:
        def fence(fences: dict[str, int]) -> int:
            if lease is not None:
                held, _now = self._lease(self.session.dialect.lock_rows)
                if (held.holder, held.epoch) != (lease.holder, lease.epoch):
                    raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
            return self._raise_fence(fences, slot)

        return self._transact(fence, alone=True)

    def acquire_lease(self, holder: str, ttl: float) -> Lease | None:
        def acquire(fences: dict[str, int]) -> Lease | None:
            held, now = self._lease(self.session.dialect.lock_rows)
            if held.holder not in ("", holder) and held.until > now:
                return None
            epoch = self._raise_fence(fences, ANY_SLOT)
            self._lift_fences(fences, [RULER + holder], epoch)
            statement = "UPDATE sofia_lease SET holder = ?, epoch = ?, until = ? WHERE name = 'active'"
            self.session.change(statement, (holder, epoch, now + ttl))
            return Lease(holder=holder, epoch=epoch, until=now + ttl, now=now)

        return self._transact(acquire, alone=True)

    def renew_lease(self, lease: Lease, ttl: float) -> Lease:
        until = f"UPDATE sofia_lease SET until = {self.session.dialect.clock} + ? "

        def renew(_fences: dict[str, int]) -> Lease:
            mine = (ttl, lease.holder, lease.epoch)
            if not self.session.change(f"{until} WHERE name = 'active' AND holder = ? AND epoch = ?", mine):
                raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
            return self._lease()[0]

        return self._transact(renew)

    def release_lease(self, lease: Lease) -> None:
        statement = "UPDATE sofia_lease SET holder = '', until = 0 WHERE name = 'active' AND holder = ? AND epoch = ?"
        self._transact(lambda _fences: self.session.change(statement, (lease.holder, lease.epoch)))

    def read_lease(self) -> Lease | None:
        held, _ = self._lease()
        return held if held.holder else None

    def secret(self, name: str) -> bytes:
        def make(_fences: dict[str, int]) -> bytes:
            rows = self.session.query("SELECT secret FROM sofia_secrets WHERE name = ?", (name,))
            if rows:
                return bytes(rows[0][0])
            fresh = os.urandom(32)
            self.session.change("INSERT INTO sofia_secrets (name, secret) VALUES (?, ?)", (name, fresh))
            return fresh

        return self._transact(make, alone=True)

    def changes(self, since: str) -> Changes | None:
        if since:
            return self._follower.since(since)
        return self._follower.begin(lambda work: self._transact(lambda _fences: work(), alone=True))

    # ---- for operators -----------------------------------------------------------------------------------------------

    def describe(self) -> Description:
        self.session.connect()
        dialect, tables = self.session.dialect, Tables(self.session, self._said)
        version = tables.version()
        return Description(
            server=f"{dialect.name} {self.session.query(dialect.asks_version)[0][0]}",
            version=version,
            wanted=tables.wanted,
            steps=tuple(" ".join(each.split()) for each in tables.missing(version)) if version < tables.wanted else (),
        )

    def heritage(self) -> Heritage:
        rows = self.session.query("SELECT name, secret FROM sofia_secrets")
        epoch = self.session.query("SELECT epoch FROM sofia_fences WHERE slot = ?", (EPOCHS,))[0][0]
        return Heritage(int(epoch), {name: bytes(secret) for name, secret in rows})

    def inherit(self, heritage: Heritage) -> None:
        def take(fences: dict[str, int]) -> None:
            if fences[EPOCHS] < heritage.epoch:
                self._lift_fences(fences, [EPOCHS], heritage.epoch)
            for name, secret in heritage.secrets.items():
                if not self.session.change("UPDATE sofia_secrets SET secret = ? WHERE name = ?", (secret, name)):
                    self.session.change("INSERT INTO sofia_secrets (name, secret) VALUES (?, ?)", (name, secret))

        self._transact(take, alone=True)

    # ---- inside a transaction ----------------------------------------------------------------------------------------

    def _transact(self, work: Callable[[dict[str, int]], T], *, alone: bool = False) -> T:
        """Run it in a transaction, given the fences as they stand until its end; `alone`, it may change them."""
        try:
            return self._transact_once(work, alone=alone)
        except Crosswise as error:
            if alone:
                raise
            # Rows are locked in order; but who inserts one that another holds already, behind one of his own, may meet
            # him crosswise all the same. The server has undone it, and while nobody else writes it cannot happen again.
            # No pause: they take turns by the lock for that.
            log.debug("%s; once more, while nobody else writes", error)
            return self._transact_once(work, alone=True)

    def _transact_once(self, work: Callable[[dict[str, int]], T], *, alone: bool) -> T:
        try:
            result = work(self._fences(self.session.begin(self._reads_fences, alone=alone)))
            if self._abandoned:
                raise Unavailable(f"{self.session.place}: given up, for it took too long")
            self.session.commit(self._account.closing())
        except BaseException:
            self._batch.forget()
            self._account.broken()
            self.session.rollback()
            raise
        self._account.committed()
        return result

    def _noted(self, writes: Sequence[Write], outcomes: list[Outcome], fences: dict[str, int]) -> list[Outcome]:
        """The outcomes; what they changed is told to who follows."""
        if fences.get(FOLLOWED):
            self._account.note(
                self._rows.change(write.record, gone=not isinstance(write, Put))
                for write, outcome in zip(writes, outcomes, strict=True)
                if outcome is Outcome.STORED and isinstance(write.record, Registration)
            )
        return outcomes

    def _fences(self, rows: Any) -> dict[str, int]:
        fences: dict[str, int] = dict(rows)
        if fences.get(FLUSHES, 0) != self._flushes:
            self._flushes = fences.get(FLUSHES, 0)
            self._batch.forget()
        return fences

    def _claim(
        self, fences: dict[str, int], slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int
    ) -> list[CallRecord]:
        if epoch < max(fences.get(slot, 0), fences.get(ANY_SLOT, 0)):
            raise Fenced(slot, epoch)
        self._lift_fences(fences, [name for name in (EPOCHS, *slots) if fences.get(name, 0) < epoch], epoch)
        # No lock on the rows: nobody else is in a transaction that writes.
        rows = self.session.query(
            f"SELECT {CALL_COLUMNS}, uuid FROM recovery WHERE slot IN {places(len(slots))} AND epoch < ? "
            f"AND state <> 'ended' LIMIT {limit:d}",
            (*slots, epoch),
        )
        # The blob stays as it is. One that cannot be read gets the epoch too: nobody can revive it, but whoever claims
        # until nothing is left must come to an end.
        self._own(sorted((str(row[-1]),) for row in rows), (f"{node}/{slot}", node, slot, epoch))
        taken = self._decoded(rows, call_of)
        for call in taken:
            call.node, call.slot, call.epoch, call.version = node, slot, epoch, call.version + 1
        return taken

    def _own(self, keys: Sequence[Row], owner: Row) -> None:
        owned = "UPDATE recovery SET runtime_uuid = ?, hostname = ?, slot = ?, epoch = ?, version = version + 1 WHERE "
        for among, values in self._batch.lots(CALLS.key, keys):
            self.session.change(owned + among, (*owner, *values))

    def _raise_fence(self, fences: dict[str, int], slot: str) -> int:
        """The next epoch; never below the store's clock in milliseconds, so that a store set back gives none out twice."""
        epoch = max(fences[EPOCHS] + 1, int(self.clock() * 1000))
        self._lift_fences(fences, [EPOCHS, slot], epoch)
        return epoch

    def _lift_fences(self, fences: dict[str, int], slots: Sequence[str], epoch: int) -> None:
        for slot in slots:
            if slot in fences:
                self.session.change("UPDATE sofia_fences SET epoch = ? WHERE slot = ?", (epoch, slot))
            else:
                self.session.change("INSERT INTO sofia_fences (slot, epoch) VALUES (?, ?)", (slot, epoch))
            fences[slot] = epoch

    def _lease(self, lock: str = "") -> tuple[Lease, float]:
        clock = self.session.dialect.clock
        rows = self.session.query(f"SELECT holder, epoch, until, {clock} FROM sofia_lease WHERE name = 'active'{lock}")
        holder, epoch, until, now = rows[0]
        return Lease(holder=holder, epoch=epoch, until=until, now=now), now

    # ---- decoding ----------------------------------------------------------------------------------------------------

    def _bindings(self, rows: Sequence[Row]) -> list[Registration]:
        return self._decoded(rows, self._rows.registration)

    def _decoded(self, rows: Sequence[Row], decode: Callable[[Row], T]) -> list[T]:
        return [record for row in rows if (record := self._decode(row, decode)) is not None]

    def _decode(self, row: Row, decode: Callable[[Row], T]) -> T | None:
        try:
            return decode(row)
        except msgspec.MsgspecError as error:
            log.warning("%s: passed over a record that cannot be read: %s", self.session.place, error)
            return None


def _reading_fences(dialect: Dialect) -> str:
    """Until when somebody follows is nobody's business once that is over."""
    over = f"slot = '{FOLLOWED}' AND epoch < {dialect.clock}"
    return f"SELECT slot, CASE WHEN {over} THEN 0 ELSE epoch END FROM sofia_fences"


def _in_lots(due: Sequence[Row]) -> list[Sequence[Row]]:
    """In the order of their keys, as all who lock rows go by it."""
    due = sorted(map(tuple, due))
    return [due[start : start + LOT] for start in range(0, len(due), LOT)]
