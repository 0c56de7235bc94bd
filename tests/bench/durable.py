"""Durable digest REGISTERs a second: each 200 goes out after the store has the binding, and the store has it on disk.

Redis flushes its append-only file at each commit (`appendfsync always`), PostgreSQL its log (`synchronous_commit on`).
sipp runs on the same cores.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.bench import cpu
from tests.bench.figures import Figure
from tests.support.node import DOMAIN, PASSWORD, Node, loopback_address, shared_settings
from tests.support.postgres import postgres
from tests.support.redis import RedisServer
from tests.support.registrants import Registrants
from tests.support.sipp import Sipp, user_rows

CROWD = [f"10{n:02d}" for n in range(18)]
PROBES = ["1018", "1019"]
"Users whose answers are timed while the crowd is at work."
SIPPS = 2
SECONDS = 4
RATES = (1000, 2000, 3000, 4000, 6000, 8000, 10_000, 12_000)
KEPT_UP = 0.75
"Share of what was offered that must have been served for the next rate to be tried."


def measure(directory: Path) -> list[Figure]:
    figures = []
    for name, store in STORES.items():
        with store(directory / name) as (dsn, pid), _node(directory / name, dsn) as node:
            figures.append(_top(node, name, pid))
    return figures


def _top(node: Node, store: str, pid: int) -> Figure:
    """More and more is offered, until it does not keep up."""
    assert node.process is not None
    pids = {"node": node.process.pid, store: pid}
    top, rate, spent, late = 0.0, 0, dict.fromkeys(pids, 0.0), 0.0
    for rate in RATES:
        before = {name: cpu.spent(pid) for name, pid in pids.items()}
        served, kept, slow = _offer(node, rate)
        if kept > top:
            top, late = kept, slow
            spent = {name: (cpu.spent(pid) - before[name]) / served * 1e6 for name, pid in pids.items()}
        if kept < KEPT_UP * rate:
            break
    share = ", ".join(f"{name} {used:.0f} us" for name, used in spent.items())
    note = f"{rate}/s offered at the end; p99 of a phone beside it {late * 1000:.0f} ms; CPU each: {share}"
    return Figure(f"durable_register_{store}", "digest REGISTER/s", top, note=note)


@contextmanager
def _redis(directory: Path) -> Iterator[tuple[str, int]]:
    server = RedisServer(directory)
    server.start()
    try:
        assert server.process is not None
        yield server.dsn, server.process.pid
    finally:
        server.stop()


@contextmanager
def _postgres(directory: Path) -> Iterator[tuple[str, int]]:
    server = postgres()
    with server.fresh() as name:
        yield server.dsn(name), server.leader


STORES: dict[str, Callable[[Path], AbstractContextManager[tuple[str, int]]]] = {"redis": _redis, "postgres": _postgres}


@contextmanager
def _node(directory: Path, dsn: str) -> Iterator[Node]:
    settings = shared_settings(loopback_address(), directory) | {
        "core_db_dsn": dsn,
        "max_recv_rps": "0",
        "workers": "2",
    }
    node = Node("bench", directory / "node", settings, standalone=True)
    with node.serving():
        yield node


def _offer(node: Node, rate: int) -> tuple[int, float, float]:
    """REGISTERs served, how many a second, and the 99th percentile of what a single phone waited meanwhile."""
    rows = user_rows(CROWD, PASSWORD, DOMAIN)
    sipps = [
        Sipp(
            "register",
            server=node.sip,
            calls=rate * SECONDS // SIPPS,
            port=17000 + n,
            media_port=17100 + 10 * n,
            rate=rate // SIPPS,
            rows=rows,
            trace=False,
            at_once=5000,
            timeout=60,
        )
        for n in range(SIPPS)
    ]
    try:
        took = asyncio.run(_probe(node, SECONDS))
        for sipp in sipps:
            sipp.wait(90)
        kept = sum(map(_a_second, sipps))
        served = sum(sipp.count("SuccessfulCall(C)") for sipp in sipps)
    finally:
        for sipp in sipps:
            sipp.stop()
    return served, kept, sorted(took)[int(0.99 * (len(took) - 1))]


def _a_second(sipp: Sipp) -> float:
    """Registrations a second, from sipp's first second to the last in which it began some: afterwards it only lingers."""
    with (sipp.directory / "stat.csv").open() as lines:
        rows = [
            (float(row["CurrentTime"].split("\t")[-1]), int(row["SuccessfulCall(C)"]))
            for row in csv.DictReader(lines, delimiter=";")
        ]
    assert len(rows) > 1, f"sipp: {sipp.errors()}"
    during = [row for row in rows if 1 <= row[0] - rows[0][0] <= SECONDS]
    (first, done_first), (last, done_last) = during[0], during[-1]
    return (done_last - done_first) / (last - first) if last > first else 0.0


async def _probe(node: Node, seconds: float) -> list[float]:
    async with Registrants(node.sip, DOMAIN, PASSWORD, PROBES) as phones:
        await phones.refresh(40, seconds)
        return phones.took
