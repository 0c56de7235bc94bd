"""A pair whose store is a Redis, or one behind Sentinel: failover of the node, failover of the store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.backends import open_store
from store.interface import opened
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, ROOT, STRETCH, Node, Pair, until
from tests.support.phone import Phone
from tests.support.redis import RedisServer
from tests.support.sentinel import Guarded
from tests.support.swarm import Swarm

pytestmark = pytest.mark.real


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    guarded = Guarded(tmp_path / "sentinel", down_after=500)
    try:
        guarded.start()
        yield guarded
    finally:
        guarded.stop()


def spares(node: Node) -> list[dict[str, Any]]:
    children = node.status()["children"]
    assert isinstance(children, list)
    return [child for child in children if "lag" in child]


def test_the_standby_follows_and_finds_the_phone_when_the_active_node_dies(redis: RedisServer) -> None:
    with Pair(core_db_dsn=redis.dsn) as pair:
        active, standby = pair.active, pair.standby

        async def run() -> None:
            async with Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as phone:
                await phone.register()
                await asyncio.to_thread(until, lambda: _known(standby, 1), 20, "the standby to know it", standby)

        asyncio.run(run())
        words = [sys.executable, "-m", "ha", "status", "--run-dir", str(standby.run_dir)]
        said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert "follows 1 registrations, " in said
        lag = max(child["lag"] for child in spares(standby))
        print(f"the standby's lag behind Redis: {lag:.2f} s")
        assert lag < 5.0 * STRETCH
        active.kill()
        standby.wait_role("active")
        until(lambda: ask(standby, "stats")["registrations_known"] == 1, 10, "the successor to know it", standby)


def _known(node: Node, count: int) -> bool:
    told = spares(node)
    return bool(told) and all(child["registrations"] == count for child in told)


def test_calls_survive_the_node_after_the_store_has_failed_over(guarded: Guarded) -> None:
    """First the primary of the store dies under load, then the node that wrote to it: its peer has every call."""
    dsn = f"{guarded.dsn}?wait=1;wait-timeout=100;timeout=300"
    with Pair(core_db_dsn=dsn) as pair:
        answered, hung_up = asyncio.run(_store_then_node(pair, guarded))
    print(f"{answered} calls answered around the failover of the store, {hung_up} hung up on the other node")
    assert answered >= 30
    assert hung_up == answered


async def _store_then_node(pair: Pair, guarded: Guarded) -> tuple[int, int]:
    active, standby = pair.active, pair.standby
    async with Swarm(pair.sip, DOMAIN, PASSWORD) as swarm:
        calls = await swarm.place(10, 20)
        old = await asyncio.to_thread(lambda: guarded.primary)
        old.kill()
        calls += await swarm.place(20, 10)
        await asyncio.to_thread(guarded.wait_for_another, old)
        await asyncio.to_thread(old.start)
        calls += await swarm.place(5, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 20 * STRETCH), swarm.states()
        await asyncio.to_thread(_all_on_record, active, guarded, len(calls))
        active.kill()
        await asyncio.to_thread(standby.wait_role, "active")
        for call in calls:
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
        await swarm.until(lambda: all(call.hangup == 200 for call in calls), 30 * STRETCH)
        return len(calls), sum(call.hangup == 200 for call in calls)


def _all_on_record(node: Node, guarded: Guarded, count: int) -> None:
    """The store that came after the failover has all of it, what was written to its predecessor too."""

    def there() -> bool:
        stats = ask(node, "stats")
        if stats["store_open"] or stats["store_behind"] or stats["store_queued"]:
            return False
        with opened(open_store(guarded.dsn)) as store:
            calls = store.calls()
        return len(calls) == count and all(leg.state == "answered" for call in calls for leg in call.legs)

    until(there, 40, f"{count} calls in the store", node)
