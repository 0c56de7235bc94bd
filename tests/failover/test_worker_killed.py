"""A worker dies at home: its calls go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.failover.measure import ringing, talking
from tests.support.node import STRETCH, Node, until

pytestmark = pytest.mark.real


def kill_worker(node: Node) -> float:
    """SIGKILL the worker of the profile `internal`; returns the moment."""
    pid = node.worker_pid("internal#0")
    node.tell("worker killed")
    os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def test_a_killed_worker_costs_no_audio_and_its_call_can_be_hung_up(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip, of="worker killed") as call:
            await call.heard(50, 5)
            killed = kill_worker(solo)
            answer = await call.alice.register()
            answered = time.monotonic() - killed
            await call.heard(100, 5)
            gap = call.longest_gap(killed)
            print(f"worker killed: SIP answers after {answered * 1000:.0f} ms, longest audio gap {gap * 1000:.0f} ms")
            assert answer.status == 200
            assert gap < 0.1
            assert [audio.missing() for audio in call.audios] == [0, 0]
            await call.end(call.out)

    asyncio.run(scenario())


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_a_call_that_rings_while_its_worker_dies_is_answered_by_the_next(solo: Node, who: str) -> None:
    async def scenario() -> None:
        async with ringing(solo.sip) as call:
            kill_worker(solo)
            call.incoming.answer()
            async with asyncio.timeout(10):
                await call.out.answered.wait()
                await call.incoming.answered.wait()
            await call.heard(10, 5)
            await call.end(call.out if who == "caller" else call.incoming)

    asyncio.run(scenario())


async def lose_workers(node: Node, times: int) -> None:
    """Kill the worker again and again, each as soon as it serves."""
    for _ in range(times):
        victim = node.worker_pid("internal#0")
        kill_worker(node)
        await asyncio.to_thread(
            until, lambda v=victim: node.worker_pid("internal#0") not in (0, v), 10, "a successor", node
        )


def test_a_worker_killed_five_times_in_a_row_keeps_the_call(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip) as call:
            for _ in range(5):
                await lose_workers(solo, 1)
                assert (await call.alice.register()).status == 200
                assert (await call.out.reinvite()).status == 200
            await call.heard(20, 5)
            await call.end(call.incoming)

    asyncio.run(scenario())


def test_a_slot_that_dies_again_and_again_comes_up_without_its_calls_until_it_is_told_to_recover(solo: Node) -> None:
    """One of the records may be what kills it: the profile must serve all the same."""

    async def scenario() -> None:
        async with talking(solo.sip) as call:
            await lose_workers(solo, 6)
            assert "internal#0 crashed 6 times, its calls are not revived this time" in solo.output()
            assert (await call.alice.register()).status == 200
            assert await asyncio.to_thread(solo.api, "sofia recover") == "Recovered 2 call(s)\n"
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)

    asyncio.run(scenario())
