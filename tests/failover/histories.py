"""Faults drawn by chance, one after the other, on a pair with a call; each is over before the next one comes."""

from __future__ import annotations

import asyncio
import os
import random
import signal

from tests.failover.faults import Wired, in_a_call, supervisor_frozen
from tests.failover.report import mark
from tests.support.node import Node, until

FAULTS = (
    "node killed",
    "supervisor killed",
    "worker killed",
    "supervisor frozen",
    "link cut",
    "store cut",
    "isolated",
    "switchover",
)


async def live_through(cables: Wired, seed: int, faults: int) -> None:
    """The call is heard again after each of them, and hung up in the end."""
    chance = random.Random(seed)
    async with in_a_call(cables.pair.sip) as scene:
        for _ in range(faults):
            name, seconds = chance.choice(FAULTS), chance.choice([0.3, 0.8, 1.5, 3.0])
            print(f"{name}, {seconds} s")
            scene.begin(name)
            await befall(cables, name, seconds)
            await settle(cables)
            mark("over", "fault")
            await scene.goes_on()


async def befall(cables: Wired, name: str, seconds: float) -> None:
    active = cables.pair.active
    match name:
        case "node killed":
            active.kill()
            await asyncio.sleep(seconds)
            active.start()
        case "supervisor killed":
            assert active.process is not None
            os.kill(active.process.pid, signal.SIGKILL)
            await asyncio.to_thread(active.process.wait)
            await asyncio.sleep(seconds)
            active.start()
        case "worker killed":
            os.kill(active.worker_pid("internal#0"), signal.SIGKILL)
        case "supervisor frozen":
            with supervisor_frozen(active):
                await asyncio.sleep(seconds)
        case "link cut":
            cables.cut_link()
            await asyncio.sleep(seconds)
            cables.mend_link()
        case "store cut":
            cables.cut_store(active)
            await asyncio.sleep(seconds)
            cables.mend_store(active)
        case "isolated":
            cables.cut_link()
            cables.cut_store(active)
            await asyncio.sleep(seconds)
            cables.mend_link()
            cables.mend_store(active)
        case "switchover":
            answer = await asyncio.to_thread(active.control, "switchover")
            assert answer["ok"], answer


async def settle(cables: Wired) -> None:
    """One is active, the other one ready."""
    nodes = cables.pair.nodes
    await asyncio.to_thread(until, lambda: settled(nodes), 60, "one active and one ready standby", *nodes)


def settled(nodes: list[Node]) -> bool:
    if sorted(node.role for node in nodes) != ["active", "standby"]:
        return False
    try:
        return all(node.role == "active" or bool(node.status()["ready"]) for node in nodes)
    except (OSError, ValueError):
        return False
