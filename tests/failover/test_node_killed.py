"""The active node dies with calls in every state; the standby has them all."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.failover import hundred_answered_twenty_ringing
from tests.support.node import DOMAIN, PASSWORD, Pair
from tests.support.phone import Phone

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.mark.timeout(300)
def test_a_hundred_answered_and_twenty_ringing_calls_survive_the_death_of_the_node(pair: Pair) -> None:
    report = hundred_answered_twenty_ringing(pair.sip, pair.active, pair.standby)
    print(report)
    assert report.failed == 0
    assert report.errors_481_500 == 0


def test_a_call_survives_two_failovers_in_a_row(pair: Pair) -> None:
    async def scenario() -> None:
        async with (
            Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5):
                await out.answered.wait()
            cseqs = []
            for _ in range(2):
                dead, heir = pair.active, pair.standby
                dead.kill()
                await asyncio.to_thread(heir.wait_role, "active")
                assert (await out.reinvite()).status == 200
                cseqs.append(max(m.cseq for _at, m in bob.seen if not m.is_response and m.method == "INVITE"))
                dead.start()
                await asyncio.to_thread(dead.wait_ready)
            assert cseqs[0] < cseqs[1]
            assert (await incoming.hangup()).status == 200
            async with asyncio.timeout(5):
                await out.ended.wait()
            assert not {481, 500} & set(alice.statuses() + bob.statuses())

    asyncio.run(scenario())


def test_a_ringing_call_can_be_cancelled_after_the_failover(pair: Pair) -> None:
    async def scenario() -> None:
        async with (
            Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.next_line()
            async with asyncio.timeout(5):
                await out.ringing.wait()
            heir = pair.standby
            pair.active.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            assert (await out.cancel()).status == 487
            async with asyncio.timeout(5):
                await incoming.ended.wait()
            assert incoming.ended_by == "cancelled"

    asyncio.run(scenario())


def test_registrations_are_reachable_on_the_standby_without_a_new_register(pair: Pair) -> None:
    async def scenario() -> None:
        async with (
            Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
        ):
            await bob.register()
            heir = pair.standby
            pair.active.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            out = await alice.call("1001")
            await bob.answer_next()
            async with asyncio.timeout(10):
                await out.answered.wait()
            assert (await out.hangup()).status == 200

    asyncio.run(scenario())


def test_a_planned_switchover_keeps_the_call(pair: Pair) -> None:
    async def scenario() -> None:
        async with (
            Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5):
                await out.answered.wait()
            old, heir = pair.active, pair.standby
            await asyncio.to_thread(old.control, "switchover")
            await asyncio.to_thread(heir.wait_role, "active")
            await asyncio.to_thread(old.wait_role, "standby")
            assert out.audio is not None
            await out.audio.heard(20, 5)
            assert (await incoming.hangup()).status == 200
            async with asyncio.timeout(5):
                await out.ended.wait()

    asyncio.run(scenario())


def test_a_stop_that_reaches_every_process_hands_the_call_over_in_order(pair: Pair) -> None:
    """As systemd stops a service: SIGTERM to the whole group, not to the supervisor alone."""

    async def scenario() -> None:
        async with (
            Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
            Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
        ):
            await bob.register()
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5):
                await out.answered.wait()
            old, heir = pair.active, pair.standby
            assert old.process is not None
            os.killpg(old.process.pid, signal.SIGTERM)
            assert await asyncio.to_thread(old.process.wait, 10) == 0
            await asyncio.to_thread(heir.wait_role, "active")
            assert "ERROR" not in old.output()
            assert (await incoming.hangup()).status == 200
            async with asyncio.timeout(5):
                await out.ended.wait()

    asyncio.run(scenario())
