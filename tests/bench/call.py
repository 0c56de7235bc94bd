"""CPU per bridged call: INVITE to BYE on both legs, media anchored, tracked in the store."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench import cpu, peers
from tests.bench.figures import Figure
from tests.support.node import DOMAIN, PASSWORD, Node, until
from tests.support.phone import Phone
from tests.support.sipp import Sipp, user_rows

CALLEE = "1011"
WARM_UP, COUNT, RATE = 100, 2000, 150
PEER_COUNT, PEER_RATE = 600, 100
HELD = 500


def measure(node: Node, directory: Path) -> list[Figure]:
    assert node.process is not None
    server = (node.settings["sip_ip"], 5060)
    asyncio.run(_register(server, 17000))
    run_calls(server, WARM_UP, RATE, "uac_hangs_up")
    before, memory = cpu.spent(node.process.pid), _memory(node)
    run_calls(server, COUNT, RATE, "uac_hangs_up")
    ours = (cpu.spent(node.process.pid) - before) / COUNT * 1e6
    held = run_held(node, server)
    figures = [Figure("call_memory", "KiB per held call, all processes", max(0.0, (held - memory) / HELD / 1024))]
    try:
        with peers.sippy(directory, "127.0.0.1", 17900, ("127.0.0.1", 17000)) as pid:
            run_calls(("127.0.0.1", 17900), WARM_UP, PEER_RATE, "uac_plain", tolerated=0.1)
            start = cpu.spent(pid)
            done = run_calls(("127.0.0.1", 17900), PEER_COUNT, PEER_RATE, "uac_plain", tolerated=0.1)
            theirs = (cpu.spent(pid) - start) / done * 1e6
    except (FileNotFoundError, RuntimeError, AssertionError) as error:
        return [Figure("call", "us CPU per bridged call", ours, note=f"no peer: {error}"), *figures]
    note = "ours: digest, anchored media, tracked; the peer: none of the three"
    return [Figure("call", "us CPU per bridged call", ours, "sippy b2bua", theirs, note), *figures]


def run_held(node: Node, server: tuple[str, int]) -> float:
    """Memory with so many calls up."""
    callee = Sipp("uas_is_hung_up", server=server, calls=HELD, port=17000, media_port=18000, trace=False)
    caller = _caller(server, HELD, RATE, "uac_hangs_up", pause=6.0)
    try:
        until(lambda: node.api("show channels count").startswith(str(2 * HELD)), 20, "the calls to be up", node)
        memory = _memory(node)
        assert caller.wait(60) == 0, caller.errors()
        return memory
    finally:
        caller.stop()
        callee.stop()


def run_calls(server: tuple[str, int], count: int, rate: float, scenario: str, tolerated: float = 0.0) -> int:
    """Run so many calls to their end; returns how many succeeded, at least all but the tolerated share."""
    callee = Sipp("uas_plain", server=server, calls=count, port=17000, media_port=18000, trace=False)
    caller = _caller(server, count, rate, scenario, pause=0.1)
    try:
        status = caller.wait(180)
        succeeded = caller.count("SuccessfulCall(C)")
        assert succeeded >= count * (1 - tolerated), f"sipp ended with {status}: {caller.errors()}"
        return succeeded
    finally:
        caller.stop()
        callee.stop()


def _caller(server: tuple[str, int], count: int, rate: float, scenario: str, pause: float) -> Sipp:
    rows = user_rows([f"10{n:02d}" for n in range(10)], PASSWORD, DOMAIN, CALLEE)
    return Sipp(
        scenario,
        server=server,
        calls=count,
        port=17500,
        media_port=19000,
        rate=rate,
        pause=pause,
        rows=rows,
        trace=False,
    )


async def _register(server: tuple[str, int], port: int) -> None:
    async with Phone(CALLEE, PASSWORD, server, domain=DOMAIN) as phone:
        await phone.register(contact=f"sip:{CALLEE}@127.0.0.1:{port}")


def _memory(node: Node) -> float:
    assert node.process is not None
    return float(sum(cpu.resident(pid) for pid in cpu.family(node.process.pid)))
