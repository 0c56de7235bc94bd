"""Nodes whose store is a database server: what holds with a file holds there."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.failover.measure import talking
from tests.support.chronicle import Chronicle
from tests.support.database import Database
from tests.support.node import STRETCH, Node, Pair, loopback_address, shared_settings, until
from tests.support.postgres import postgres
from tests.support.redis import RedisServer

pytestmark = pytest.mark.real


@contextmanager
def pair_on(server: Database) -> Iterator[Pair]:
    """Two nodes that share one new database."""
    with server.fresh() as database, Pair(core_db_dsn=server.dsn(database)) as pair:
        yield pair


async def kill_active(pair: Pair) -> float:
    """Returns how long it took until the other one was active."""
    heir = pair.standby
    killed = pair.active.kill()
    await asyncio.to_thread(heir.wait_role, "active")
    return time.monotonic() - killed


def test_a_call_outlives_its_worker_on_postgresql(tmp_path: Path) -> None:
    server = postgres()
    with server.fresh() as database:
        settings = shared_settings(loopback_address(), tmp_path / "none") | {"core_db_dsn": server.dsn(database)}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            asyncio.run(_lose_the_worker(node))
            until(
                lambda: server.query("select count(*) from recovery where state <> 'ended'", database) == "0",
                10,
                "the call's end",
                node,
            )
            assert server.query("select count(*) from sip_registrations where sip_user = '1000'", database) == "1"


async def _lose_the_worker(node: Node) -> None:
    async with talking(node.sip) as call:
        pid = node.worker_pid("internal#0")
        node.tell("worker killed")
        os.kill(pid, signal.SIGKILL)
        assert (await call.alice.register()).status == 200
        assert (await call.out.reinvite()).status == 200
        await call.heard(10, 10 * STRETCH)
        await call.end(call.out)


def test_a_call_outlives_a_node_and_a_switchover_on_redis_and_one_acts_at_a_time(
    tmp_path: Path, chronicle: Chronicle
) -> None:
    async def scenario(pair: Pair) -> None:
        async with talking(pair.sip) as call:
            dead = pair.active
            await kill_active(pair)
            assert (await call.out.reinvite()).status == 200
            await call.heard(10, 10 * STRETCH)
            dead.start()
            await asyncio.to_thread(dead.wait_ready, 60.0)
            assert (await asyncio.to_thread(pair.active.control, "switchover"))["ok"]
            await asyncio.to_thread(dead.wait_role, "active")
            assert (await call.incoming.reinvite()).status == 200
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)
            await asyncio.to_thread(chronicle.note, dead)

    server = RedisServer(tmp_path / "redis")
    server.start()
    try:
        with Pair(core_db_dsn=server.dsn) as pair:
            asyncio.run(scenario(pair))
        reigns = chronicle.reigns()
    finally:
        server.stop()
    assert [reign.node for reign in reigns[:3]] == ["alpha", "beta", "alpha"]
    assert all(reign.writes > 0 and reign.answers > 0 for reign in reigns[:3])


def test_who_talks_and_who_registered_outlive_a_node_on_a_postgresql_that_both_share() -> None:
    async def scenario(pair: Pair) -> None:
        async with talking(pair.sip) as call:
            seconds = await kill_active(pair)
            print(f"failover on PostgreSQL: active after {seconds * 1000:.0f} ms")
            assert (await call.out.reinvite()).status == 200
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)
            # Nobody has registered since.
            again = await call.alice.call("1001")
            await call.bob.answer_next()
            async with asyncio.timeout(10):
                await again.answered.wait()
            assert (await again.hangup()).status == 200

    with pair_on(postgres()) as pair:
        asyncio.run(scenario(pair))
