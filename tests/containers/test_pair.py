"""A pair from the shipped image, and what can befall a host by the engine's own means: the call goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.containers.stage import Inside, Stage
from tests.support.node import DOMAIN, PASSWORD, STRETCH, until
from tests.support.phone import Line, Phone

pytestmark = [pytest.mark.containers, pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as stage:
        yield stage


@dataclass
class Talk:
    """A call that is answered, and heard on both sides."""

    caller: Line
    callee: Line

    async def is_heard(self) -> None:
        audio = [line.audio for line in (self.caller, self.callee)]
        await asyncio.gather(*(each.heard(50, 20 * STRETCH) for each in audio if each is not None))

    async def is_held_and_resumed(self) -> None:
        """By each side: requests within it arrive on the right leg, with the right CSeq."""
        for line in (self.caller, self.callee):
            for direction in ("sendonly", "sendrecv"):
                assert (await line.reinvite(direction)).status == 200

    async def ends(self) -> None:
        answer = await self.caller.hangup()
        assert answer.status == 200
        async with asyncio.timeout(10 * STRETCH):
            await self.callee.ended.wait()
        assert self.callee.ended_by == "them"


@contextlib.asynccontextmanager
async def talk(stage: Stage, address: str = "") -> AsyncIterator[Talk]:
    sip = (address or stage.address, 5060)
    async with (
        Phone("1000", PASSWORD, sip, domain=DOMAIN, host=stage.phones) as alice,
        Phone("1001", PASSWORD, sip, domain=DOMAIN, host=stage.phones) as bob,
    ):
        await alice.register()
        await bob.register()
        out = await alice.call("1001")
        incoming = await bob.answer_next(10 * STRETCH)
        async with asyncio.timeout(10 * STRETCH):
            await out.answered.wait()
            await incoming.answered.wait()
        call = Talk(out, incoming)
        await call.is_heard()
        yield call
        assert not {481, 500} & {*alice.statuses(), *bob.statuses()}


async def survives(stage: Stage, fault: Callable[[Inside], object], then: Callable[[Inside], object]) -> None:
    """What befalls the active node: the other takes its place, and the call goes on and ends as it should."""
    active = stage.active
    heir = stage.other(active)
    async with talk(stage) as call:
        await asyncio.to_thread(fault, active)
        await asyncio.to_thread(heir.wait_role, "active", 60)
        await call.is_heard()
        await call.is_held_and_resumed()
        await asyncio.to_thread(then, active)
        await call.is_heard()
        await call.ends()
    await asyncio.to_thread(stage.wait_pair)
    assert heir.role == "active"


def test_a_container_is_killed_and_the_call_goes_on_and_again_when_the_heir_is_killed_too(stage: Stage) -> None:
    for _ in range(2):
        asyncio.run(survives(stage, Inside.kill, Inside.start))


def test_a_paused_container_gives_way_and_knows_it_when_it_wakes(stage: Stage) -> None:
    def wakes(node: Inside) -> None:
        node.there.unpause()
        node.wait_role("standby", 60)

    asyncio.run(survives(stage, lambda node: node.there.pause(), wakes))


def test_a_container_that_is_stopped_hands_over_and_ends_well(stage: Stage) -> None:
    stopped: list[int] = []
    asyncio.run(survives(stage, lambda node: stopped.append(node.stop()), Inside.start))
    assert stopped == [0]


@pytest.mark.long
def test_a_container_is_started_again_at_once(stage: Stage) -> None:
    """So soon that it may find its own lease: whoever is active then, the call goes on."""

    async def restarts() -> None:
        async with talk(stage) as call:
            await asyncio.to_thread(stage.active.there.restart, timeout=10)
            await call.is_heard()
            await call.ends()

    asyncio.run(restarts())
    stage.wait_pair()


@pytest.mark.long
def test_packets_to_a_container_vanish(stage: Stage) -> None:
    """It has its address still: it must give it up by itself."""
    asyncio.run(survives(stage, Inside.cut, Inside.mend))


@pytest.mark.long
def test_a_container_is_taken_off_the_network_and_put_back(stage: Stage) -> None:
    def comes_back(node: Inside) -> None:
        # Its interface has another name then, as after a cold start of a host: so it is started anew.
        stage.network.connect(node.there, ipv4_address=node.address)
        node.there.restart(timeout=10)

    asyncio.run(survives(stage, lambda node: stage.network.disconnect(node.there), comes_back))


@pytest.mark.long
def test_the_store_is_killed_and_started_again(stage: Stage) -> None:
    async def goes_on() -> None:
        active = stage.active
        async with talk(stage) as call:
            await asyncio.to_thread(stage.store.kill)
            await call.is_heard()
            await asyncio.to_thread(stage.store.start)
            await call.is_heard()
            await call.ends()
        assert active.role == "active"

    asyncio.run(goes_on())
    stage.wait_pair()


@pytest.mark.long
def test_nodes_on_redis_with_addresses_of_their_own_ask_the_phones_to_the_new_one() -> None:
    """Nobody moves an address: the heir re-INVITEs, and the phones send to it from then on."""
    with Stage("redis", shared=False) as stage:
        active = stage.active
        heir = stage.other(active)

        async def moves() -> None:
            async with talk(stage, active.address) as call:
                await asyncio.to_thread(active.kill)
                await asyncio.to_thread(heir.wait_role, "active", 60)
                await call.is_heard()
                await call.ends()

        asyncio.run(moves())


def test_the_processes_of_a_container_leave_no_zombie_behind(stage: Stage) -> None:
    active = stage.active
    pid = active.worker_pid("internal#0")
    active.run("python3", "-c", f"import os; os.kill({pid}, 9)")
    until(lambda: active.worker_pid("internal#0") not in (0, pid), 30, "another worker", active)
    states = active.run("sh", "-c", "cat /proc/[0-9]*/stat")
    assert ") Z " not in states
