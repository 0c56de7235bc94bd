"""CPU and time that a takeover costs: 500 answered calls held, the active node killed, the other one revives them.

The CPU is that of all processes of the new active node from the kill on, less what a takeover without any call needs in
the same span: what is left is claim and revival of the legs. The time is the new node's own, from the order to be active
until the last leg answers. Then every call is hung up, from either side in turn: one that is not answered 200 is lost.

FreeSWITCH does the same with `sofia recover`. It is not measured beside us, its published figure stands in the note.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from tests.bench import cpu
from tests.bench.figures import Figure
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, Pair, until
from tests.support.swarm import Swarm

CALLS, RATE = 500, 80
SPAN = 4.0 * STRETCH
"Seconds after the kill over which CPU is counted, with calls and without."
FREESWITCH = "FreeSWITCH, as published: 7.4 s for 500 calls"


@dataclass(frozen=True)
class Takeover:
    """What one takeover came to."""

    cpu: float
    legs: int
    failed: int
    reviving: float
    "Seconds from the order to be active to the last leg, of the slot that took longest."
    since_kill: float


def measure(directory: Path) -> list[Figure]:
    with Pair(directory / "recovery", max_recv_rps="0") as pair:
        empty = take_over(pair)
        full, lost = asyncio.run(take_over_calls(pair))
    assert full.legs, "no leg was revived"
    each = max(0.0, full.cpu - empty.cpu) / full.legs * 1e6
    told = f"{CALLS} calls, {full.legs} legs revived, {full.failed} failed, {lost} calls lost"
    told += f"; less {empty.cpu * 1000:.0f} ms of a takeover without calls"
    took = f"{CALLS} calls, all their legs; {full.since_kill:.2f} s since the kill; {FREESWITCH}"
    return [
        Figure("recovered_leg", "us CPU per recovered leg", each, note=f"{told}; {FREESWITCH}"),
        Figure("recovery_time", "s from promotion to the last leg", full.reviving, note=took),
    ]


async def take_over_calls(pair: Pair) -> tuple[Takeover, int]:
    """A takeover with calls up, and how many of them could not be hung up afterwards."""
    async with Swarm(pair.sip, DOMAIN, PASSWORD) as swarm:
        await swarm.place(CALLS, RATE)
        up = await swarm.until(lambda: swarm.states()["answered"] == CALLS, 20 * STRETCH)
        assert up, f"not all calls were answered: {swarm.states()}, {swarm.statuses}"
        takeover = await asyncio.to_thread(take_over, pair)
        calls = list(swarm.calls.values())
        for call in calls:
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
            await asyncio.sleep(1 / (4 * RATE))
        await swarm.until(lambda: all(call.hangup for call in calls), 20 * STRETCH)
        return takeover, sum(call.hangup != 200 for call in calls)


def take_over(pair: Pair) -> Takeover:
    """Kill the active node, see what the standby makes of it, and start the dead one again."""
    dead, heir = pair.active, pair.standby
    assert heir.process is not None
    before = cpu.spent(heir.process.pid)
    killed = dead.kill()
    until(lambda: _settled(heir), 60, "the standby to take over", heir)
    settled = time.monotonic()
    assert settled < killed + SPAN, "the takeover lasted longer than its CPU is counted"
    time.sleep(killed + SPAN - settled)
    used = cpu.spent(heir.process.pid) - before
    revived = heir.revived().values()
    dead.start()
    dead.wait_ready()
    return Takeover(
        cpu=used,
        legs=sum(counts["legs"] for counts in revived),
        failed=sum(counts["failed"] for counts in revived),
        reviving=max((float(counts["seconds"]) for counts in revived), default=0.0),
        since_kill=settled - killed,
    )


def _settled(node: Node) -> bool:
    """Active, and each profile has gone through its claim."""
    status = node.status()
    profiles = status["profiles"]
    assert isinstance(profiles, dict)
    return status["role"] == "active" and all(p.get("revived") for p in profiles.values())
