"""A worker dies at home: its calls go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.support.conversation import ringing, talking
from tests.support.node import Node, until

pytestmark = pytest.mark.real


def kill_worker(node: Node) -> float:
    """SIGKILL the worker of the profile `internal`; returns the moment."""
    os.kill(node.worker_pid("internal#0"), signal.SIGKILL)
    return time.monotonic()


def test_a_killed_worker_costs_no_audio_and_its_call_can_be_hung_up(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip) as call:
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


def test_a_worker_killed_five_times_in_a_row_keeps_the_call(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip) as call:
            for _ in range(5):
                victim = solo.worker_pid("internal#0")
                kill_worker(solo)
                await asyncio.to_thread(
                    until, lambda v=victim: solo.worker_pid("internal#0") not in (0, v), 10, "a successor", solo
                )
                assert (await call.alice.register()).status == 200
                assert (await call.out.reinvite()).status == 200
            await call.end(call.incoming)

    asyncio.run(scenario())
