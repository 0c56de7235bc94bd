"""CPU per digest REGISTER: REGISTER, 401, REGISTER, 200, the binding committed to SQLite before the 200."""

from __future__ import annotations

from pathlib import Path

from tests.bench import cpu, peers
from tests.bench.figures import Figure
from tests.bench.node import measured_node
from tests.support.node import DOMAIN, PASSWORD
from tests.support.sipp import Sipp, user_rows

USERS = [f"10{n:02d}" for n in range(20)]
WARM_UP, COUNT, RATE = 400, 8000, 1200
AT_ONCE = 60
"Under way at most: where others have the processor, that rate would be an overload, which is refused."


def measure(directory: Path) -> list[Figure]:
    with measured_node(directory) as node:
        assert node.process is not None
        ours = per_registration(node.process.pid, (node.settings["sip_ip"], 5060), 16000, at_once=AT_ONCE)
    unit = "us CPU per digest REGISTER"
    try:
        with peers.kamailio(directory, "127.0.0.1", 16900, storage=peers.in_sqlite(directory)) as pid:
            theirs = per_registration(pid, ("127.0.0.1", 16900), 16010, at_once=AT_ONCE)
    except (FileNotFoundError, RuntimeError, AssertionError) as error:
        return [Figure("register", unit, ours, note=f"no peer: {error}")]
    note = f"{RATE}/s at most; SQLite, committed before the 200; the peer writes through to SQLite too"
    return [Figure("register", unit, ours, "kamailio", theirs, note)]


def per_registration(
    pid: int, server: tuple[str, int], port: int, *, count: int = COUNT, rate: int = RATE, at_once: int = 0
) -> float:
    """Microseconds of CPU of the process and its children for each of `count` registrations."""
    load(server, port, WARM_UP, rate, at_once)
    before = cpu.spent(pid)
    load(server, port + 2, count, rate, at_once)
    return (cpu.spent(pid) - before) / count * 1e6


def load(server: tuple[str, int], port: int, count: int, rate: int, at_once: int = 0) -> None:
    """Register so often; `at_once`: so many are under way, and each that ends is followed by another."""
    sipp = started(server, port, count, rate, at_once)
    try:
        status = sipp.wait(120)
        assert status == 0, f"sipp ended with {status}: {sipp.errors()}"
    finally:
        sipp.stop()


def started(server: tuple[str, int], port: int, count: int, rate: int, at_once: int) -> Sipp:
    rows = user_rows(USERS, PASSWORD, DOMAIN)
    return Sipp(
        "register",
        server=server,
        calls=count,
        port=port,
        media_port=port + 1000,
        rate=rate,
        rows=rows,
        trace=False,
        at_once=at_once,
    )
