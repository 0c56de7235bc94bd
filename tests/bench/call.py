"""CPU per bridged call: INVITE to BYE on both legs, media anchored, tracked in the store.

At the rate that the peer can keep up with, beside it; and alone, at a load that keeps one core rather busy.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.bench import cpu, peers
from tests.bench.figures import Figure
from tests.bench.node import measured_node
from tests.support.node import DOMAIN, PASSWORD
from tests.support.phone import Phone
from tests.support.sipp import Sipp, user_rows

CALLEE, CALLEE_PORT = "1011", 17000
UNIT = "us CPU per bridged call"
Server = tuple[str, int]
WARM_UP, COUNT, RATE = 150, 2000, 150
PEER_COUNT = 900
LOAD_RATE, LOAD_SHARE, LOAD_SECONDS = 600, 0.7, 10
"Calls a second at most, and no more than would take this share of a core by what they cost at a trickle."
SIPPY_FAILS = 0.1
"So many of its calls may fail: it loses some at any rate."


def measure(directory: Path) -> list[Figure]:
    with measured_node(directory) as node:
        assert node.process is not None
        server = (node.settings["sip_ip"], 5060)
        register_callee(server)
        ours = per_call(node.process.pid, server, COUNT, RATE, "uac_hangs_up")
        loaded = at_load(node.process.pid, server, ours)
    failing = "" if loaded else "; at a higher rate calls failed"
    try:
        with peers.sippy(directory, "127.0.0.1", 17900, ("127.0.0.1", CALLEE_PORT)) as pid:
            theirs = per_call(pid, ("127.0.0.1", 17900), PEER_COUNT, RATE, "uac_plain", SIPPY_FAILS)
    except (FileNotFoundError, RuntimeError, AssertionError) as error:
        return [Figure("call", UNIT, ours, note=f"{RATE}/s; no peer: {error}{failing}"), *loaded]
    note = f"{RATE}/s; ours: digest, anchored media, tracked; the peer: none of the three{failing}"
    return [Figure("call", UNIT, ours, "sippy b2bua", theirs, note), *loaded]


def at_load(pid: int, server: Server, known: float) -> list[Figure]:
    """The cost at a rate that suits what a call is known to cost; nothing if even that is too much just now."""
    rate = round(min(LOAD_RATE, max(RATE, LOAD_SHARE * 1e6 / known)))
    try:
        cost = per_call(pid, server, rate * LOAD_SECONDS, rate, "uac_hangs_up")
    except AssertionError:
        return []
    return [Figure("call_at_load", UNIT, cost, note=f"{rate}/s; digest, anchored media, tracked")]


def per_call(pid: int, server: Server, count: int, rate: float, scenario: str, tolerated: float = 0.0) -> float:
    run_calls(server, WARM_UP, rate, scenario, tolerated)
    before = cpu.spent(pid)
    succeeded = run_calls(server, count, rate, scenario, tolerated)
    return (cpu.spent(pid) - before) / succeeded * 1e6


def run_calls(server: Server, count: int, rate: float, scenario: str, tolerated: float = 0.0) -> int:
    """Run so many calls to their end; returns how many succeeded, at least all but the tolerated share."""
    callee = new_callee(server, count, "uas_plain")
    caller = new_caller(server, count, rate, scenario, pause=0.1)
    try:
        status = caller.wait(180)
        succeeded = caller.count("SuccessfulCall(C)")
        assert succeeded >= count * (1 - tolerated), f"sipp ended with {status}: {caller.errors()}"
        return succeeded
    finally:
        caller.stop()
        callee.stop()


def new_caller(server: Server, count: int, rate: float, scenario: str, pause: float) -> Sipp:
    rows = user_rows([f"10{n:02d}" for n in range(10)], PASSWORD, DOMAIN, CALLEE)
    port, media = CALLEE_PORT + 500, 19000
    return Sipp(
        scenario,
        server=server,
        calls=count,
        port=port,
        media_port=media,
        rate=rate,
        pause=pause,
        rows=rows,
        trace=False,
    )


def new_callee(server: Server, count: int, scenario: str) -> Sipp:
    """Told of more calls than come: it counts a late repetition as one, and must not leave before the last caller."""
    return Sipp(scenario, server=server, calls=2 * count, port=CALLEE_PORT, media_port=18000, trace=False)


def register_callee(server: Server) -> None:
    async def register() -> None:
        async with Phone(CALLEE, PASSWORD, server, domain=DOMAIN) as phone:
            await phone.register(contact=f"sip:{CALLEE}@127.0.0.1:{CALLEE_PORT}")

    asyncio.run(register())
