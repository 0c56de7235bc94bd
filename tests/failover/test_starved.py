"""The machine stands still for a moment, and with it both nodes: nobody loses a role, a worker or a call."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.failover.measure import talking
from tests.support.node import STRETCH, Pair, until

pytestmark = pytest.mark.real


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


async def stand_still(pair: Pair, seconds: float) -> None:
    """Every process of both nodes."""
    groups = [node.process.pid for node in pair.nodes if node.process is not None]
    pair.active.tell("frozen")
    for group in groups:
        os.killpg(group, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    for group in groups:
        os.killpg(group, signal.SIGCONT)


def test_a_call_and_the_roles_outlast_a_machine_that_stands_still(pair: Pair) -> None:
    active, standby = pair.active, pair.standby
    worker = active.worker_pid("internal#0")

    async def scenario() -> None:
        async with talking(pair.sip) as call:
            for seconds in (0.6, 1.5, 2.5):
                await stand_still(pair, seconds)
                answer = await call.alice.register()
                assert answer.status == 200
                assert active.role == "active", active.output()
                assert standby.role == "standby", standby.output()
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)

    asyncio.run(scenario())
    assert active.worker_pid("internal#0") == worker
    assert not active.revived().get("internal#0", {}).get("calls")


def test_a_supervisor_that_sleeps_too_long_loses_its_workers_but_not_its_calls(pair: Pair) -> None:
    """Only the active's supervisor stands still: the other node takes over while the silent workers wait in vain."""
    active, standby = pair.active, pair.standby

    async def scenario() -> None:
        async with talking(pair.sip) as call:
            assert active.process is not None
            active.tell("supervisor frozen")
            os.kill(active.process.pid, signal.SIGSTOP)
            try:
                await asyncio.to_thread(
                    until, lambda: standby.role in ("promoting", "active"), 10, "the takeover", standby
                )
            finally:
                os.kill(active.process.pid, signal.SIGCONT)
            await asyncio.to_thread(standby.wait_role, "active")
            assert (await call.alice.register()).status == 200
            await call.end(call.out)

    asyncio.run(scenario())
    assert active.role == "standby"
