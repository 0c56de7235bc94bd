"""Processes that use one Redis at the same moment."""

from __future__ import annotations

import threading

import pytest

from store.backends import open_store
from store.errors import StoreError
from store.interface import Put, opened
from tests.store.redis.stores import server
from tests.store.samples import call
from tests.store.sql import processes
from tests.store.sql.together import together


@pytest.fixture
def dsn() -> str:
    with server().client() as client:
        client.flushall()
    return server().dsn


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
