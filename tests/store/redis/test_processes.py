"""Processes that use one Redis at the same moment."""

from __future__ import annotations

import threading

import pytest

from store.backends import open_store
from store.errors import StoreError
from store.interface import ANY_SLOT, Put, opened
from tests.store.redis.stores import server
from tests.store.samples import call
from tests.store.sql import processes
from tests.store.sql.together import together


@pytest.fixture
def dsn() -> str:
    with server().client() as client:
        client.flushall()
    return server().dsn


def test_processes_that_write_at_once_lose_nothing(dsn: str) -> None:
    got = together(4, processes.write, dsn)
    with opened(open_store(dsn)) as store:
        assert len(store.registrations()) == 4 * 30 * 3
        assert [(c.epoch, c.version) for c in store.calls()] == [(3, 30)]
    assert got[3] == ["stored"] * 120


def test_two_who_claim_ten_thousand_calls_get_each_once_and_soon(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        for start in range(0, 10_000, 500):
            store.commit([Put(call(str(n))) for n in range(start, start + 500)])
        for _round in range(3):
            epoch = store.raise_fence(ANY_SLOT)
            got = together(2, processes.claim_timed, dsn, epoch)
            claimed = sorted(int(uuid) for uuids, _ in got.values() for uuid in uuids)
            assert claimed == list(range(10_000))
            seconds = max(seconds for _, seconds in got.values())
            print(f"claim: backend=redis records=10000 claimers=2 seconds={seconds:.2f}")


def test_of_processes_that_want_the_lease_at_once_one_gets_it(dsn: str) -> None:
    got = together(4, processes.lease, dsn)
    assert len([epoch for epoch in got.values() if epoch is not None]) == 1


def test_both_nodes_may_start_on_an_empty_server_at_the_same_moment(dsn: str) -> None:
    for _ in range(20):
        with server().client() as client:
            client.flushall()
        start, broken = threading.Barrier(2), []

        def run(start: threading.Barrier = start, broken: list[StoreError] = broken) -> None:
            start.wait()
            try:
                with opened(open_store(dsn)) as store:
                    store.commit([Put(call(threading.current_thread().name))])
            except StoreError as error:
                broken.append(error)

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert broken == []
        with opened(open_store(dsn)) as store:
            assert len(store.calls()) == 2
