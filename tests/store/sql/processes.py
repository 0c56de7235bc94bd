"""What the processes of `test_sqlite` do: they are started afresh and import this."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

from store.backends import open_store
from store.interface import Outcome, Put, opened
from store.settings import SqliteSettings
from tests.store.samples import call, registration

# What is tested is who gets what, not how soon: on a machine that has better to do a lock may be held for long.
PATIENT = SqliteSettings(wait=60)


def run(work: Callable[..., Any], number: int, results: Any, *arguments: Any) -> None:
    """Do it in this process, and put its result, or how it broke."""
    try:
        results.put((number, work(number, *arguments)))
    except Exception:
        results.put((number, traceback.format_exc()))
        raise


def write(number: int, start: Barrier, dsn: str) -> list[str]:
    """Open, which makes the tables if nobody has; then commit 30 batches of 4 and count the outcomes."""
    start.wait()
    outcomes: list[Outcome] = []
    with opened(open_store(dsn, sqlite=PATIENT)) as store:
        for n in range(30):
            mine = [Put(registration(f"{number}-{n}-{k}")) for k in range(3)]
            outcomes += store.commit([*mine, Put(call("shared", version=n + 1, epoch=number))])
    return [outcome.value for outcome in outcomes]


def claim(number: int, start: Barrier, dsn: str, epoch: int) -> list[str]:
    with opened(open_store(dsn, sqlite=PATIENT)) as store:
        start.wait()
        got: list[str] = []
        while batch := store.claim(["internal#0"], node=f"node-{number}", slot="internal#0", epoch=epoch, limit=20):
            got += [call.uuid for call in batch]
    return got


def claim_timed(number: int, start: Barrier, dsn: str, epoch: int) -> tuple[list[str], float]:
    """As many at a time as the node takes; and how long it took."""
    with opened(open_store(dsn)) as store:
        start.wait()
        began = time.monotonic()
        got: list[str] = []
        while batch := store.claim(["internal#0"], node=f"node-{number}", slot="internal#0", epoch=epoch):
            got += [call.uuid for call in batch]
        return got, time.monotonic() - began


def lease(number: int, start: Barrier, dsn: str) -> int | None:
    with opened(open_store(dsn, sqlite=PATIENT)) as store:
        start.wait()
        lease = store.acquire_lease(f"node-{number}", 60)
    return None if lease is None else lease.epoch
