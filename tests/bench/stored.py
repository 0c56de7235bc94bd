"""PostgreSQL by ODBC alone: refreshes committed by one connection, their log, and the taking over of calls."""

from __future__ import annotations

import random
import time
from pathlib import Path

from store.backends import open_store
from store.interface import ANY_SLOT, Put, Store, opened
from store.sql.store import SqlStore
from tests.bench.figures import Figure
from tests.store.samples import call, registration
from tests.support.postgres import postgres

PHONES, BATCH, CALLS = 10_000, 64, 10_000
ROUNDS = 3


def measure(directory: Path) -> list[Figure]:
    server = postgres()
    with server.fresh() as name, opened(open_store(server.dsn(name))) as store:
        return [*_refreshes(store), _claim(store)]


def _refreshes(store: Store) -> list[Figure]:
    """Each phone once a round, in any order; the first round makes the rows and is not counted."""
    rates, costs = [], []
    for version in range(ROUNDS + 1):
        phones = random.Random(version).sample(range(PHONES), PHONES)
        lots = [[_refresh(user, version) for user in phones[n : n + BATCH]] for n in range(0, PHONES, BATCH)]
        log, began, cpu = _log(store), time.perf_counter(), time.thread_time()
        for lot in lots:
            store.commit(lot)
        rates.append(PHONES / (time.perf_counter() - began))
        costs.append(((time.thread_time() - cpu) / PHONES * 1e6, (_log(store) - log) / PHONES))
    cost, log_each = min(costs[1:])
    note = f"{BATCH} a transaction, one connection, flushed; {cost:.0f} us CPU of ours each"
    return [
        Figure("postgres_refresh", "refreshes/s committed", max(rates[1:]), note=note),
        Figure("postgres_log", "bytes of log per refresh", log_each, note="synchronous_commit on; at most 700"),
    ]


def _refresh(user: int, version: int) -> Put:
    # What a refresh changes: when it ends, and by what it was proven.
    nonce = f"{random.getrandbits(128):032x}"
    return Put(
        registration(
            str(user),
            version=version * 1_000_000 + 1,
            expires=4_000_000_000 + version,
            cseq=version,
            nonce=nonce,
            nonce_count=1,
            user_agent="A phone as there are many 1.2.3.4",
        )
    )


def _log(store: Store) -> int:
    assert isinstance(store, SqlStore)
    return int(store.session.query("SELECT (pg_current_wal_lsn() - '0/0')::bigint")[0][0])


def _claim(store: Store) -> Figure:
    for start in range(0, CALLS, 500):
        store.commit([Put(call(str(n))) for n in range(start, start + 500)])
    best = float("inf")
    for _ in range(ROUNDS):
        epoch = store.raise_fence(ANY_SLOT)
        began = time.perf_counter()
        while store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch):
            pass
        best = min(best, time.perf_counter() - began)
    return Figure("postgres_claim", f"ms to claim {CALLS} calls", best * 1000, note="500 at a time; at most 1000")
