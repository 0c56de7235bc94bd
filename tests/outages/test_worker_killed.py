"""Two faults at once: the store is gone, and the worker dies whose journal is all there is of its calls."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.outage import Victim, redis_victim
from tests.support.swarm import Swarm
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.real


def test_calls_of_a_worker_that_died_during_an_outage_are_back_when_the_store_is(tmp_path: Path) -> None:
    with redis_victim(tmp_path) as victim:
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            assert victim.proxy is not None
            lost = asyncio.run(_two_faults(node, victim.proxy))
    assert lost == 0


async def _two_faults(node: Node, network: TcpProxy) -> int:
    async with Swarm(node.sip, DOMAIN, PASSWORD) as swarm:
        calls = await swarm.place(5, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 10 * STRETCH)
        network.cut()
        during = await swarm.place(10, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in during), 10 * STRETCH)
        await asyncio.to_thread(until, lambda: ask(node, "stats")["store_open"], 10, "the outage to be noticed", node)
        worker = node.worker_pid("internal#0")
        os.kill(worker, signal.SIGKILL)
        await asyncio.to_thread(until, lambda: node.worker_pid("internal#0") not in (0, worker), 10, "the next", node)
        network.restore()
        calls += during
        await asyncio.to_thread(until, lambda: _live(node) == len(calls), 30, "the calls to be back", node)
        for call in calls:
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
        await swarm.until(lambda: all(call.hangup == 200 for call in calls), 15 * STRETCH)
        print(f"{len(calls)} calls, {len(during)} of them only in the journal of the worker that died: all hung up")
        return sum(call.hangup != 200 for call in calls)


@pytest.mark.parametrize("after", [0.3, 1.0])
def test_calls_of_a_worker_that_died_before_it_knew_that_the_store_hangs_are_back_when_it_does_not(
    after: float, tmp_path: Path
) -> None:
    """A frozen store is only given up after two seconds; whose 200 has reached the caller by then is in the journal."""
    with redis_victim(tmp_path) as victim:
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            answered, hung_up = asyncio.run(_killed_in_the_ice(node, victim, after))
    print(f"store frozen, worker killed after {after:g} s: {answered} calls answered, {hung_up} hung up")
    assert answered > 5
    assert hung_up == answered


async def _killed_in_the_ice(node: Node, victim: Victim, after: float) -> tuple[int, int]:
    async with Swarm(node.sip, DOMAIN, PASSWORD) as swarm:
        calls = await swarm.place(5, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 10 * STRETCH)
        with victim.faults["frozen"]():
            ends = time.monotonic() + after
            while time.monotonic() < ends:
                calls += await swarm.place(1, 20)
            # These are answered at risk, and nothing of them is in the store.
            assert await swarm.until(lambda: sum(call.state == "answered" for call in calls) > 5, 10 * STRETCH)
            worker = node.worker_pid("internal#0")
            os.kill(worker, signal.SIGKILL)
            answered = [call for call in calls if call.state == "answered"]
            await asyncio.to_thread(
                until, lambda: node.worker_pid("internal#0") not in (0, worker), 10, "the next", node
            )
        await asyncio.to_thread(until, lambda: _live(node) >= len(answered), 30, "the calls to be back", node)
        for call in answered:
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
        await swarm.until(lambda: all(call.hangup == 200 for call in answered), 15 * STRETCH)
        return len(answered), sum(call.hangup == 200 for call in answered)


def test_calls_of_a_node_that_died_during_an_outage_are_back_when_it_is_started_again(tmp_path: Path) -> None:
    with redis_victim(tmp_path) as victim:
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            assert victim.proxy is not None
            answered, hung_up = asyncio.run(_all_killed(node, victim.proxy))
    print(f"store cut off, all processes of the node killed: {answered} calls answered, {hung_up} hung up")
    assert hung_up == answered == 15


async def _all_killed(node: Node, network: TcpProxy) -> tuple[int, int]:
    async with Swarm(node.sip, DOMAIN, PASSWORD) as swarm:
        calls = await swarm.place(5, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 10 * STRETCH)
        network.cut()
        calls += await swarm.place(10, 20)
        assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 10 * STRETCH)
        await asyncio.to_thread(node.kill)
        network.restore()
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(node.wait_role, "active")
        await asyncio.to_thread(until, lambda: _live(node) == len(calls), 30, "the calls to be back", node)
        for call in calls:
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
        await swarm.until(lambda: all(call.hangup == 200 for call in calls), 15 * STRETCH)
        return len(calls), sum(call.hangup == 200 for call in calls)


def _live(node: Node) -> int:
    """A call has two channels."""
    return int(node.api("show channels count").split()[0]) // 2
