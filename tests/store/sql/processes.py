"""What the processes of `test_sqlite` do: they are started afresh and import this."""

from __future__ import annotations

from multiprocessing.synchronize import Barrier
from typing import Any

from store.backends import open_store
from store.interface import Outcome, Put, opened
from tests.store.samples import call, registration


def write(dsn: str, number: int, start: Barrier, results: Any) -> None:
    """Open, which makes the tables if nobody has; then commit 30 batches of 4 and count the outcomes."""
    start.wait()
    outcomes: list[Outcome] = []
    with opened(open_store(dsn)) as store:
        for n in range(30):
            mine = [Put(registration(f"{number}-{n}-{k}")) for k in range(3)]
            outcomes += store.commit([*mine, Put(call("shared", version=n + 1, epoch=number))])
    results.put((number, [outcome.value for outcome in outcomes]))


def claim(dsn: str, number: int, epoch: int, start: Barrier, results: Any) -> None:
    with opened(open_store(dsn)) as store:
        start.wait()
        got: list[str] = []
        while batch := store.claim(["internal#0"], node=f"node-{number}", slot="internal#0", epoch=epoch, limit=20):
            got += [call.uuid for call in batch]
    results.put((number, got))


def lease(dsn: str, number: int, start: Barrier, results: Any) -> None:
    with opened(open_store(dsn)) as store:
        start.wait()
        lease = store.acquire_lease(f"node-{number}", 60)
    results.put((number, None if lease is None else lease.epoch))
