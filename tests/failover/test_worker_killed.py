"""A worker dies at home: its calls go on as if nothing had happened."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from tests.support.node import DOMAIN, PASSWORD, Node, until
from tests.support.phone import Phone

pytestmark = pytest.mark.real


def test_a_killed_worker_costs_no_audio_and_its_call_can_be_hung_up(solo: Node) -> None:
    async def scenario() -> None:
        server = (solo.settings["sip_ip"], 5060)
        async with (
            Phone("1000", PASSWORD, server, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, server, domain=DOMAIN) as bob,
        ):
            await alice.register()
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5):
                await out.answered.wait()
            assert out.audio is not None
            assert incoming.audio is not None
            await asyncio.gather(out.audio.heard(50, 5), incoming.audio.heard(50, 5))
            killed = time.monotonic()
            os.kill(solo.worker_pid("internal#0"), signal.SIGKILL)
            answer = await alice.register()
            answered = time.monotonic() - killed
            await asyncio.gather(out.audio.heard(100, 5), incoming.audio.heard(100, 5))
            gap = max(out.audio.longest_gap(killed), incoming.audio.longest_gap(killed))
            print(f"worker killed: SIP answers after {answered * 1000:.0f} ms, longest audio gap {gap * 1000:.0f} ms")
            assert answer.status == 200
            assert gap < 0.1
            assert out.audio.missing() == incoming.audio.missing() == 0
            assert (await out.hangup()).status == 200
            async with asyncio.timeout(5):
                await incoming.ended.wait()
            assert incoming.ended_by == "them"
            assert not {481, 500} & set(alice.statuses() + bob.statuses())

    asyncio.run(scenario())


@pytest.mark.parametrize("who", ["caller", "callee"])
def test_a_call_that_rings_while_its_worker_dies_is_answered_by_the_next(solo: Node, who: str) -> None:
    async def scenario() -> None:
        server = (solo.settings["sip_ip"], 5060)
        async with (
            Phone("1000", PASSWORD, server, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, server, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.next_line()
            async with asyncio.timeout(5):
                await out.ringing.wait()
            os.kill(solo.worker_pid("internal#0"), signal.SIGKILL)
            incoming.answer()
            async with asyncio.timeout(10):
                await out.answered.wait()
                await incoming.answered.wait()
            assert out.audio is not None
            await out.audio.heard(10, 5)
            ends, other = (out, incoming) if who == "caller" else (incoming, out)
            assert (await ends.hangup()).status == 200
            async with asyncio.timeout(5):
                await other.ended.wait()
            assert other.ended_by == "them"

    asyncio.run(scenario())


def test_a_worker_killed_five_times_in_a_row_keeps_the_call(solo: Node) -> None:
    async def scenario() -> None:
        server = (solo.settings["sip_ip"], 5060)
        async with (
            Phone("1000", PASSWORD, server, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, server, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5):
                await out.answered.wait()
            for _ in range(5):
                victim = solo.worker_pid("internal#0")
                os.kill(victim, signal.SIGKILL)
                await asyncio.to_thread(
                    until, lambda v=victim: solo.worker_pid("internal#0") not in (0, v), 10, "a successor", solo
                )
                assert (await alice.register()).status == 200
                assert (await out.reinvite()).status == 200
            assert (await incoming.hangup()).status == 200
            async with asyncio.timeout(5):
                await out.ended.wait()

    asyncio.run(scenario())
