"""Who locks many rows locks them in the order of their keys; and who meets another crosswise all the same tries again."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from store.backends import open_store
from store.interface import Outcome, Put, Remove, Store, Write, opened
from store.settings import OdbcSettings
from store.sql.dsn import target
from store.sql.odbc import OdbcSession
from store.sql.rows import digest
from store.sql.store import SqlStore
from tests.store.faults import SOON
from tests.store.samples import FAR, call, registration
from tests.support.database import Database
from tests.support.node import STRETCH
from tests.support.postgres import Postgres

KEYS = [f"{n:03d}" for n in range(200)]
ROUNDS = 40
PATIENT = OdbcSettings(lock=60, row=60, silence=60)
"For who waits for what another one does, on whatever machine."


def deadlocks(server: Database) -> int:
    """How many the server has counted. PostgreSQL's sessions tell it when they end, at the latest."""
    if isinstance(server, Postgres):
        return int(server.query("SELECT sum(deadlocks) FROM pg_stat_database"))
    return int(server.query("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'").split("|")[1])


def waiting(server: Database) -> bool:
    """Does anybody wait for a row?"""
    if isinstance(server, Postgres):
        return server.query("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'") in ("1", "True")
    return server.query("SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'").split("|")[1] != "0"


def patient(dsn: str) -> SqlStore:
    return SqlStore(OdbcSession(target(dsn), PATIENT))


def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + SOON
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Side(threading.Thread):
    """Does something in a session of its own, beside others; `end` brings back what went wrong."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work
        self.result: Any = None
        self._failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self._failure = error

    def end(self) -> Any:
        self.join(6 * SOON)
        assert not self.is_alive()
        if self._failure is not None:
            raise self._failure
        return self.result


# ---- many rounds -----------------------------------------------------------------------------------------------------


def test_two_who_write_expire_and_sweep_the_same_keys_never_wait_for_each_other(server: Database, dsn: str) -> None:
    """In opposite orders, each with a phone of its own kind: what the one wrote the other writes anew."""
    before = deadlocks(server)
    ended = {"state": "ended", "expires": 1.0}
    rounds = dict.fromkeys("ab", 0)

    def write(name: str, keys: list[str]) -> None:
        with opened(lambda: patient(dsn)) as store:
            for number in range(ROUNDS):
                version = 2 * number + ord(name) % 2
                phones = [registration(key, version=version, user_agent=name, expires=1) for key in keys]
                store.commit([Put(phone) for phone in phones])
                store.commit([Put(call(key, version=version, **ended)) for key in keys])
                if number % 2:
                    store.expire_registrations("internal")
                    store.sweep_calls()
                rounds[name] += 1

    sides = [Side(lambda: write("a", KEYS)), Side(lambda: write("b", KEYS[::-1]))]
    for side in sides:
        side.end()
    assert rounds == {"a": ROUNDS, "b": ROUNDS}
    print(f"{type(server).__name__}: {2 * ROUNDS} rounds of 400 rows each, {deadlocks(server) - before} deadlocks")
    assert deadlocks(server) == before


class Crowd:
    """Sessions that write random batches of all kinds to the same few rows, and how long each took."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._versions = itertools.count(1)
        self._lock = threading.Lock()
        self.took: list[float] = []
        self.put: dict[str, int] = {}
        "By key: the newest version of what is never removed."

    def write(self, seed: int, seconds: float) -> None:
        chance = random.Random(seed)
        ends = time.monotonic() + seconds
        with opened(open_store(self._dsn)) as store:
            while time.monotonic() < ends:
                work = chance.choice([self._batch] * 12 + [self._sweep])
                began = time.monotonic()
                work(store, chance)
                self.took.append(time.monotonic() - began)

    def _sweep(self, store: Store, chance: random.Random) -> None:
        store.expire_registrations("internal")
        store.sweep_calls()

    def _batch(self, store: Store, chance: random.Random) -> None:
        writes: list[Write] = [self._one(chance) for _ in range(chance.randint(1, 64))]
        outcomes = store.commit(writes)
        assert set(outcomes) <= {Outcome.STORED, Outcome.STALE}
        with self._lock:
            for record in (write.record for write in writes):
                self.put[record.key] = max(self.put.get(record.key, 0), record.version)

    def _one(self, chance: random.Random) -> Write:
        key, version = chance.choice(KEYS), next(self._versions)
        phone = lambda name, **more: registration(name, version=version, user_agent=chance.choice("abc"), **more)  # noqa: E731
        match chance.randrange(6):
            case 0:
                return Put(phone(f"stays-{key}"))
            case 1:
                return Put(call(f"stays-{key}", version=version))
            case 2:
                return Put(phone(key, expires=chance.choice([1, FAR])))
            case 3:
                return Put(call(key, version=version, state=chance.choice(["ended", "answered"]), expires=1.0))
            case 4:
                return Remove(phone(key))
            case _:
                return Remove(call(key, version=version))


def test_four_who_write_at_random_to_the_same_rows_do_not_keep_each_other_waiting(server: Database, dsn: str) -> None:
    """Puts and removals of both kinds, sweeps between them; PostgreSQL would look for a deadlock after a second only."""
    before, crowd = deadlocks(server), Crowd(dsn)
    with opened(open_store(dsn)):
        pass
    for side in [Side(partial(crowd.write, seed, 4.0)) for seed in range(4)]:
        side.end()
    took, crossed = sorted(crowd.took), deadlocks(server) - before
    print(
        f"{type(server).__name__}: {len(took)} batches, {crossed} deadlocks; half within {took[len(took) // 2] * 1000:.0f} ms, "
        f"99 % within {took[len(took) * 99 // 100] * 1000:.0f} ms, all within {took[-1] * 1000:.0f} ms"
    )
    assert took[-1] < 2 * STRETCH
    assert crossed == 0 or not isinstance(server, Postgres)
    with opened(open_store(dsn)) as store:
        there = {each.key: each.version for each in (*store.registrations(), *store.calls())}
    lasting = {key: version for key, version in crowd.put.items() if "stays-" in key}
    assert len(lasting) == 2 * len(KEYS)
    assert {key: there[key] for key in lasting} == lasting


# ---- one lock after the other ----------------------------------------------------------------------------------------


@pytest.fixture
def store(dsn: str) -> Iterator[SqlStore]:
    with opened(lambda: patient(dsn)) as store:
        assert isinstance(store, SqlStore)
        yield store


@pytest.fixture
def other(store: SqlStore, dsn: str) -> Iterator[OdbcSession]:
    """Another one's session, to lock rows by hand."""
    session = OdbcSession(target(dsn), PATIENT)
    session.connect()
    yield session
    session.close()


def lies_backwards(store: Store) -> tuple[list[Any], list[str]]:
    """Bindings and calls past due, which lie in the tables against the order of their keys; returns these, in order."""
    phones = sorted((registration(key, expires=1) for key in KEYS), key=lambda phone: digest(phone.key))
    for phone in reversed(phones):
        store.commit([Put(phone)])
    for key in reversed(KEYS):
        store.commit([Put(call(key, state="ended", expires=1.0))])
    return [digest(phone.key) for phone in phones], KEYS


SWEEPS: dict[str, Callable[[Store], int]] = {
    "sip_registrations": lambda store: len(store.expire_registrations("internal")),
    "recovery": lambda store: store.sweep_calls(),
}


@pytest.mark.parametrize("table", SWEEPS)
def test_who_waits_for_the_first_key_has_no_other_locked(
    server: Database, store: SqlStore, other: OdbcSession, table: str
) -> None:
    """Whatever plan the server makes: one that looks through the whole table would take the last key first."""
    column = "binding" if table == "sip_registrations" else "uuid"
    lock = f"SELECT {column} FROM {table} WHERE {column} = ? FOR UPDATE"
    keys = lies_backwards(store)[table == "recovery"]
    if isinstance(server, Postgres):
        store.session.change("SET enable_indexscan = off")
    other.begin()
    other.query(lock, (keys[0],))
    side = Side(lambda: SWEEPS[table](store))
    until(lambda: waiting(server))
    # It comes at once, and so nobody has it: else this would be a deadlock.
    assert len(other.query(lock, (keys[-1],))) == 1
    other.commit()
    assert side.end() == len(KEYS)


def test_who_meets_another_crosswise_tries_again_while_nobody_else_writes(
    server: Database, store: SqlStore, other: OdbcSession
) -> None:
    before = deadlocks(server)
    first, last = sorted((registration("1"), registration("2")), key=lambda phone: digest(phone.key))
    assert store.commit([Put(first), Put(last)]) == [Outcome.STORED] * 2
    first.version = last.version = 2
    if isinstance(server, Postgres):
        # Each looks once, when it has waited for so long: the store shall be the one that finds it.
        store.session.change(f"SET deadlock_timeout = '{2 * STRETCH:g}s'")
        other.change("SET deadlock_timeout = '60s'")
    other.begin()
    for name in KEYS:
        # MariaDB gives up the one that has done less.
        other.change("INSERT INTO sofia_secrets (name, secret) VALUES (?, ?)", (name, b""))
    touch = "UPDATE sip_registrations SET ping_status = ? WHERE binding = ?"
    other.change(touch, ("x", digest(last.key)))
    # Judged, for there is a removal among them: it locks the first, then waits for the last.
    side = Side(lambda: store.commit([Put(first), Remove(last)]))
    until(lambda: waiting(server))
    other.change(touch, ("x", digest(first.key)))
    other.commit()
    assert side.end() == [Outcome.STORED] * 2
    assert store.registrations() == [first]
    store.close()
    until(lambda: deadlocks(server) == before + 1)
