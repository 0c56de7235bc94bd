"""Processes that use one store at the same moment, on each server there is; files are in `sql/test_sqlite.py`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import ANY_SLOT, Put, opened
from tests.store.backends import BACKENDS, Backend
from tests.store.samples import call
from tests.store.sql import processes
from tests.store.sql.together import together

SERVERS = [backend for backend in BACKENDS if backend.name in ("postgresql", "mariadb", "redis")]


@pytest.fixture(params=SERVERS, ids=lambda backend: backend.name)
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def dsn(backend: Backend, tmp_path: Path) -> Iterator[str]:
    with backend.empty(tmp_path) as dsn:
        yield dsn


def test_processes_that_write_at_once_lose_nothing(dsn: str) -> None:
    got = together(4, processes.write, dsn)
    with opened(open_store(dsn)) as store:
        assert len(store.registrations()) == 4 * 30 * 3
        assert [(c.epoch, c.version) for c in store.calls()] == [(3, 30)]
    assert got[3] == ["stored"] * 120


def test_two_who_claim_ten_thousand_calls_get_each_once_and_soon(backend: Backend, dsn: str) -> None:
    """In rounds; the time is printed, for how fast this machine is nobody knows."""
    with opened(open_store(dsn)) as store:
        for start in range(0, 10_000, 500):
            store.commit([Put(call(str(n))) for n in range(start, start + 500)])
        for _round in range(2):
            epoch = store.raise_fence(ANY_SLOT)
            got = together(2, processes.claim_timed, dsn, epoch)
            claimed = sorted(int(uuid) for uuids, _ in got.values() for uuid in uuids)
            assert claimed == list(range(10_000))
            seconds = max(seconds for _, seconds in got.values())
            print(f"claim: backend={backend.name} records=10000 claimers=2 seconds={seconds:.2f}")
