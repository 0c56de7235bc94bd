"""A Redis store at work is overheard right, and what must not have been accepted is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import Outcome, Put, opened
from store.records import CallRecord, Registration
from tests.support.chronicle import Chronicle
from tests.support.node import Node
from tests.support.overheard import Overheard
from tests.support.redis import RedisServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        yield server
    finally:
        server.stop()


def reign(server: RedisServer, node: str) -> int:
    """Take the lease, write a call and a binding, give the lease back; the epoch."""
    with opened(open_store(server.dsn)) as store:
        lease = store.acquire_lease(node, 5.0)
        assert lease is not None
        epoch = lease.epoch
        call = CallRecord(uuid=f"call-{node}", node=node, slot="internal#0", epoch=epoch, version=1, state="active")
        binding = Registration(
            call_id=f"reg-{node}",
            sip_user="1000",
            sip_host="a.test",
            contact=f"<sip:{node}@a>",
            profile_name="internal",
            epoch=epoch,
            version=1,
        )
        assert set(store.commit([Put(call), Put(binding)])) == {Outcome.STORED}
        store.release_lease(lease)
        return epoch


def test_leases_calls_and_bindings_are_overheard_in_order(server: RedisServer) -> None:
    overheard = Overheard(server.address)
    before = time.time()
    alpha, beta = reign(server, "alpha"), reign(server, "beta")
    assert overheard.caught_up() >= before
    assert [(what, node, epoch) for _number, _at, what, node, _slot, epoch, _item in overheard.rows] == [
        ("lease", "alpha", alpha),
        ("call", "alpha", alpha),
        ("binding", "", alpha),
        ("lease", "", 0),
        ("lease", "beta", beta),
        ("call", "beta", beta),
        ("binding", "", beta),
        ("lease", "", 0),
    ]
    assert all(before - 1 < at < time.time() + 1 for _number, at, *_ in overheard.rows)
    server.kill()
    assert overheard.caught_up() == 0.0
    overheard.close()


def test_a_write_that_redis_should_have_refused_is_a_violation(server: RedisServer, tmp_path: Path) -> None:
    node = Node("alpha", tmp_path, {"core_db_dsn": server.dsn, "sip_ip": "127.0.0.1"})
    with Chronicle() as chronicle:
        chronicle.hear(node)
        old = reign(server, "alpha")
        with server.client() as client:
            value = client.get("sofia:c:call-alpha")
        reign(server, "beta")
        chronicle.note(node)
        assert chronicle.verdict() == []
        with server.client() as client:
            client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "sofia:c:call-alpha", value)
        chronicle.note(node)
        (wrong,) = [text for text in chronicle.verdict() if "while" in text]
        assert f"alpha has a write accepted under epoch {old}" in wrong
