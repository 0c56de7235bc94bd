"""Replicas, and a failover between them: what counts as stored, and what is offered again to the next server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from store.backends import open_store
from store.errors import StoreError, Unavailable
from store.interface import Factory, Outcome, Put, opened
from tests.store.samples import call, registration
from tests.support.redis import LIMIT, RedisServer, wait_until
from tests.support.sentinel import Guarded
from tests.support.tcpproxy import TcpProxy

STORED, STALE, AT_RISK = Outcome.STORED, Outcome.STALE, Outcome.AT_RISK

T = TypeVar("T")


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "primary", repl_diskless_sync_delay="0")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def between(primary: RedisServer) -> Iterator[TcpProxy]:
    """The network between primary and replica."""
    with TcpProxy(primary.address) as proxy:
        yield proxy


@pytest.fixture
def replica(tmp_path: Path, primary: RedisServer, between: TcpProxy) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "replica", replicaof=f"127.0.0.1 {between.port}")
    server.start()
    wait_until(lambda: _linked(server), "the replica follows")
    yield server
    server.stop()


def _linked(server: RedisServer) -> bool:
    return server.details("replication").get("master_link_status") == "up"


def eventually(work: Callable[[], T]) -> T:
    """Until the store is there again."""
    until = time.monotonic() + 3 * LIMIT
    while True:
        try:
            return work()
        except StoreError:
            assert time.monotonic() < until, "the store does not come back"
            time.sleep(0.05)


# ---- WAIT ----------------------------------------------------------------------------------------------------------


def test_a_call_counts_as_stored_when_a_replica_has_it(
    primary: RedisServer, replica: RedisServer, between: TcpProxy
) -> None:
    with opened(open_store(f"{primary.dsn}?wait=1&wait-timeout=20000")) as store:
        assert store.commit([Put(call()), Put(registration())]) == [STORED, STORED]
    with opened(open_store(f"{primary.dsn}?wait=1&wait-timeout=50")) as store:
        between.freeze()
        assert store.commit([Put(call(version=2)), Put(registration(version=2))]) == [AT_RISK, STORED]
        # Sent again it is on the primary already, and not one bit safer.
        assert store.commit([Put(call(version=2))]) == [AT_RISK]
        assert store.commit([Put(registration(version=3))]) == [STORED]
        with pytest.raises(Unavailable, match="only 0 of 1 replicas"):
            store.raise_fence("external#0")
        between.restore()
        eventually(lambda: store.raise_fence("external#0"))
        wait_until(lambda: store.commit([Put(call(version=2))]) == [STALE], "the replica is in time again")


def test_without_a_wait_nobody_asks_the_replicas(primary: RedisServer, replica: RedisServer, between: TcpProxy) -> None:
    between.freeze()
    with opened(open_store(primary.dsn)) as store:
        assert store.commit([Put(call())]) == [STORED]
        assert store.acquire_lease("a", 60) is not None


# ---- failover ------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path, down_after=500)
    try:
        guarded.start()
        yield guarded
    finally:
        guarded.stop()


def _write_until_it_fails(factory: Factory, guarded: Guarded, fault: Callable[[], None]) -> tuple[set[str], set[str]]:
    """Users and calls whose writes were acknowledged, before the fault and after it."""
    users: set[str] = set()
    calls: set[str] = set()

    def write(n: int) -> None:
        with_number = [Put(registration(str(n))), Put(call(f"call-{n}"))]
        assert eventually(lambda: store.commit(with_number)) in ([STORED, STORED], [STALE, STALE])
        users.add(str(n))
        calls.add(f"call-{n}")

    with opened(factory) as store:
        for n in range(100):
            write(n)
        fault()
        for n in range(100, 150):
            write(n)
    return users, calls


@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_a_failover_loses_nothing_that_was_acknowledged(guarded: Guarded, fault: str) -> None:
    """The replica does not get the last writes before the primary ends; they are offered to it when it is the primary."""
    old = guarded.primary
    (replica,) = (server for server in guarded.servers if server is not old)

    def end() -> None:
        # It is a replica as before, for the sentinels, but what is written from now on does not reach it.
        replica.freeze()
        with opened(factory) as store:
            assert store.commit([Put(registration(f"late-{n}")) for n in range(100)]) == [STORED] * 100
        getattr(old, fault)()
        _drop_what_it_did_not_read(replica)

    factory = open_store(f"{guarded.dsn}?timeout=300")
    started = time.monotonic()
    users, calls = _write_until_it_fails(factory, guarded, end)
    took = time.monotonic() - started
    assert guarded.primary is replica
    users |= {f"late-{n}" for n in range(100)}
    with opened(factory) as store:
        assert {r.sip_user for r in store.registrations()} == users
        assert {c.uuid for c in store.calls()} == calls
    print(
        f"Sentinel failover, {fault}: {len(users) + len(calls)} acknowledged, none lost; the writer went on in {took:.1f} s"
    )


def _drop_what_it_did_not_read(replica: RedisServer) -> None:
    """What waits for the frozen one in its sockets is lost, as it would be in a partition: it starts again."""
    replica.kill()
    replica.start()
