"""Durable digest REGISTERs a second: each 200 goes out after the store has the binding, and the store has it on disk.

Redis flushes its append-only file at each commit (`appendfsync always`), PostgreSQL its log (`synchronous_commit on`).
sipp runs on the same cores. Beside PostgreSQL stands Kamailio, which writes each binding through to the same server
(`db_mode 1`): a child waits for each of its commits, so it has as many as keep the server busy.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import cpu, peers
from tests.bench.figures import Figure
from tests.support.node import DOMAIN, PASSWORD, Node, loopback_address, shared_settings
from tests.support.postgres import postgres, program
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
CHILDREN = 8
PEER = ("127.0.0.1", 16900)

Address = tuple[str, int]


@dataclass(frozen=True)
class Top:
    """The best that was reached."""

    rate: float
    "Registrations a second."
    offered: int
    "The rate at which it did not keep up any more, or the last."
    late: float
    "Seconds: the 99th percentile of what a phone waited at its best rate."
    spent: Mapping[str, float]
    "Microseconds of CPU a registration, by process."

    def __str__(self) -> str:
        share = ", ".join(f"{name} {used:.0f} us" for name, used in self.spent.items())
        return f"p99 of a phone beside it {self.late * 1000:.0f} ms, CPU each: {share}"


def measure(directory: Path) -> list[Figure]:
    with _redis(directory / "redis") as (dsn, pid), _node(directory / "redis", dsn) as node:
        assert node.process is not None
        found = _top(node.sip, {"node": node.process.pid, "redis": pid})
    return [_figure("redis", found), _beside_kamailio(directory)]


def _beside_kamailio(directory: Path) -> Figure:
    server = postgres()
    with server.fresh() as name, _node(directory / "postgres", server.dsn(name)) as node:
        assert node.process is not None
        ours = _top(node.sip, {"node": node.process.pid, "postgres": server.leader})
    try:
        storage = peers.in_postgres(server.port, program("psql"))
        with peers.kamailio(directory, *PEER, storage=storage, children=CHILDREN) as pid:
            theirs = _top(PEER, {"kamailio": pid, "postgres": server.leader})
    except (FileNotFoundError, RuntimeError, AssertionError, OSError) as error:
        return _figure("postgres", ours, f"; no peer: {error}")
    peer = f"; the peer, with {CHILDREN} children: {theirs}"
    return _figure("postgres", ours, peer, theirs)


def _figure(store: str, ours: Top, more: str = "", theirs: Top | None = None) -> Figure:
    unit, note = "digest REGISTER/s", f"{ours.offered}/s offered at the end; {ours}{more}"
    name = f"durable_register_{store}"
    if theirs is None:
        return Figure(name, unit, ours.rate, note=note, rate=True)
    return Figure(name, unit, ours.rate, "kamailio", theirs.rate, note, rate=True)


def _top(server: Address, pids: Mapping[str, int]) -> Top:
    """More and more is offered, until it does not keep up."""
    top = Top(0.0, 0, 0.0, {})
    for rate in RATES:
        before = {name: cpu.spent(pid) for name, pid in pids.items()}
        served, kept, late = _offer(server, rate)
        if kept > top.rate:
            spent = {name: (cpu.spent(pid) - before[name]) / served * 1e6 for name, pid in pids.items()}
            top = Top(kept, rate, late, spent)
        top = replace(top, offered=rate)
        if kept < KEPT_UP * rate:
            break
    return top


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
def _node(directory: Path, dsn: str) -> Iterator[Node]:
    settings = shared_settings(loopback_address(), directory) | {
        "core_db_dsn": dsn,
        "max_recv_rps": "0",
        "workers": "2",
    }
    node = Node("bench", directory / "node", settings, standalone=True)
    with node.serving():
        yield node


def _offer(server: Address, rate: int) -> tuple[int, float, float]:
    """REGISTERs served, how many a second, and the 99th percentile of what a single phone waited meanwhile."""
    rows = user_rows(CROWD, PASSWORD, DOMAIN)
    sipps = [
        Sipp(
            "register",
            server=server,
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
        took = asyncio.run(_probe(server, SECONDS))
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


async def _probe(server: Address, seconds: float) -> list[float]:
    async with Registrants(server, DOMAIN, PASSWORD, PROBES) as phones:
        await phones.refresh(40, seconds)
        return phones.took
