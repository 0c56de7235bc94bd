"""The active node goes, with calls in every state; the standby has them all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.failover.measure import phones, ringing, talking, told, watching
from tests.support.failover import hundred_answered_twenty_ringing
from tests.support.node import STRETCH, Pair

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


async def fail_over(pair: Pair) -> None:
    """Kill the active node and wait until the other one has taken over."""
    heir = pair.standby
    pair.active.kill()
    await asyncio.to_thread(heir.wait_role, "active")


@pytest.mark.timeout(300)
def test_a_hundred_answered_and_twenty_ringing_calls_survive_the_death_of_the_node(pair: Pair) -> None:
    with watching(pair.sip):
        report = hundred_answered_twenty_ringing(pair.sip, pair.active, pair.standby)
    told(report)
    assert report.failed == 0
    assert report.errors_481_500 == 0


def test_a_call_survives_two_failovers_in_a_row(pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair.sip, of="node killed") as call:
            cseqs = []
            for _ in range(2):
                dead = pair.active
                await fail_over(pair)
                assert (await call.out.reinvite()).status == 200
                cseqs.append(max(m.cseq for _at, m in call.bob.seen if not m.is_response and m.method == "INVITE"))
                dead.start()
                await asyncio.to_thread(dead.wait_ready)
            assert cseqs[0] < cseqs[1]
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)

    asyncio.run(scenario())


def test_a_call_survives_three_kills_of_the_active_in_a_row(pair: Pair) -> None:
    """Alpha, beta, and alpha again, each time taken over by the node that was killed before."""

    async def scenario() -> None:
        async with talking(pair.sip) as call:
            killed = []
            for number in range(3):
                dead = pair.active
                killed.append(dead.name)
                await fail_over(pair)
                await call.heard(20, 10 * STRETCH)
                asking = call.out if number % 2 else call.incoming
                assert (await asking.reinvite()).status == 200
                await call.heard(20, 10 * STRETCH)
                dead.start()
                await asyncio.to_thread(dead.wait_ready, 60.0)
            assert killed == ["alpha", "beta", "alpha"]
            await call.end(call.incoming, 10 * STRETCH)

    asyncio.run(scenario())


def test_a_ringing_call_can_be_cancelled_after_the_failover(pair: Pair) -> None:
    async def scenario() -> None:
        async with ringing(pair.sip) as call:
            await fail_over(pair)
            assert (await call.out.cancel()).status == 487
            async with asyncio.timeout(5):
                await call.incoming.ended.wait()
            assert call.incoming.ended_by == "cancelled"

    asyncio.run(scenario())


def test_registrations_are_reachable_on_the_standby_without_a_new_register(pair: Pair) -> None:
    async def scenario() -> None:
        async with phones(pair.sip) as (alice, bob):
            await fail_over(pair)
            out = await alice.call("1001")
            await bob.answer_next()
            async with asyncio.timeout(10):
                await out.answered.wait()
            assert (await out.hangup()).status == 200

    asyncio.run(scenario())


def test_a_planned_switchover_keeps_the_call(pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair.sip) as call:
            old, heir = pair.active, pair.standby
            await asyncio.to_thread(old.control, "switchover")
            await asyncio.to_thread(heir.wait_role, "active")
            await asyncio.to_thread(old.wait_role, "standby")
            await call.heard(20, 5)
            await call.end(call.incoming)

    asyncio.run(scenario())


def test_a_planned_switchover_keeps_a_call_that_rings(pair: Pair) -> None:
    async def scenario() -> None:
        async with ringing(pair.sip) as call:
            old, heir = pair.active, pair.standby
            await asyncio.to_thread(old.control, "switchover")
            await asyncio.to_thread(heir.wait_role, "active")
            call.incoming.answer()
            async with asyncio.timeout(10):
                await call.out.answered.wait()
            await call.end(call.out)

    asyncio.run(scenario())


def test_a_stop_that_reaches_every_process_hands_the_call_over_in_order(pair: Pair) -> None:
    """As systemd stops a service: SIGTERM to the whole group, not to the supervisor alone."""

    async def scenario() -> None:
        async with talking(pair.sip) as call:
            old, heir = pair.active, pair.standby
            assert old.process is not None
            old.tell("switched over")
            os.killpg(old.process.pid, signal.SIGTERM)
            assert await asyncio.to_thread(old.process.wait, 10) == 0
            await asyncio.to_thread(heir.wait_role, "active")
            assert "ERROR" not in old.output()
            await call.heard(10, 10 * STRETCH)
            await call.end(call.incoming)

    asyncio.run(scenario())
