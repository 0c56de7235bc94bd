"""Three times the rate that the node can carry: it goes on completing what it can, and is itself again at once.

The worker has a third of one core and sipp the other one, or sipp would be overloaded before the worker is. Its best rate
is found in the same run, by sipp with a fixed number of calls under way, which offers just what is taken. Both are measured
within the load, from its second second on. `make floods` runs it and prints the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.bench import cpu
from tests.scenarios.test_floods import resident
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone, Refused
from tests.support.sipp import Sipp, user_rows

pytestmark = [pytest.mark.real, pytest.mark.peers, pytest.mark.measured]

SECONDS = float(os.environ.get("SOFIA_OVERLOAD_SECONDS", "4"))
WARM = 1.0
"Seconds of each load that are not measured."
TIMES = 3
KEPT = 0.8
"Of the best rate."
GROWTH = 64 << 20
"Bytes by which the overload may make the worker grow more than its best rate did in the same time."
ATTEMPTS = 3
"Somebody else on the machine may take the core from sipp, which then neither sends what it should nor hears the answers."
NICE = -15
"Before what else runs on the machine, if we may: else not the node is measured, but what the others leave."
BRAKE = """
import os, time
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError:
    pass
while True:
    until = time.monotonic() + 0.004
    while time.monotonic() < until:
        pass
    time.sleep(0.002)
"""
"Takes two thirds of the worker's core, in slices far shorter than a wait that anybody would notice."
CALLEE = "1011"
USERS = [f"10{number:02d}" for number in range(10)]


@dataclass
class Measured:
    """One run of sipp, from its warm second to its last."""

    rate: float
    "Completed a second."
    efficiency: float
    "Completed in a second of the worker's CPU time."
    offered: float
    "Begun a second."
    grown: int
    "Bytes that the worker's memory has grown by, in the end."


@dataclass
class Moment:
    """What had happened when sipp wrote a line."""

    at: float
    begun: int
    completed: int
    used: float
    "Seconds of CPU that the worker had used."


@dataclass
class Load:
    """sipp against a node whose worker has a core to itself."""

    node: Node
    scenario: str
    pause: float
    at_once: tuple[int, ...]
    transport: str = "u1"
    ports: Iterator[int] = field(default_factory=lambda: iter(range(21000, 23000, 4)))

    def __post_init__(self) -> None:
        self.cores = sorted(os.sched_getaffinity(0))
        self.pid = self.node.worker_pid("internal#0")
        for thread in map(int, os.listdir(f"/proc/{self.pid}/task")):
            os.sched_setaffinity(thread, {self.cores[0]})
            with contextlib.suppress(PermissionError):
                os.setpriority(os.PRIO_PROCESS, thread, NICE)

    def sipp(self, scenario: str, calls: int, port: int, **options: object) -> Sipp:
        """On the other core."""
        prefix = ("nice", "-n", str(NICE), "taskset", "-c", str(self.cores[-1]))
        server = self.node.sip
        return Sipp(
            scenario,
            server=server,
            calls=calls,
            port=port,
            media_port=port + 9000,
            trace=False,
            prefix=prefix,
            **options,
        )  # type: ignore[arg-type]

    def run(self, rate: float, at_once: int = 0) -> Measured:
        """Offer so many a second, or as many as are taken with so many under way."""
        before = resident(self.pid)
        rows = user_rows(USERS, PASSWORD, DOMAIN, CALLEE)
        options = {"rate": rate, "at_once": at_once, "pause": self.pause, "rows": rows, "transport": self.transport}
        sipp = self.sipp(self.scenario, int(rate * (WARM + SECONDS + 2)), next(self.ports), **options)
        try:
            first = self.reach(sipp, WARM)
            last = self.reach(sipp, WARM + SECONDS)
            sipp.finish(60 * STRETCH)
        finally:
            sipp.stop()
        completed, seconds = last.completed - first.completed, last.at - first.at
        return Measured(
            rate=completed / seconds,
            efficiency=completed / (last.used - first.used),
            offered=(last.begun - first.begun) / seconds,
            grown=resident(self.pid) - before,
        )

    def reach(self, sipp: Sipp, seconds: float) -> Moment:
        """Wait until sipp has written of this second of its load."""
        until(lambda: elapsed(sipp) >= seconds, seconds + 20, "sipp's load", self.node)
        used = cpu.spent(self.pid)
        at, begun, completed = statistics(sipp)[-1]
        return Moment(at, begun, completed, used)

    def best(self) -> Measured:
        return max((self.run(20_000, at_once) for at_once in self.at_once), key=lambda measured: measured.rate)


def statistics(sipp: Sipp) -> list[tuple[float, int, int]]:
    """Moment, begun and completed, once a second."""
    try:
        with (sipp.directory / "stat.csv").open() as lines:
            rows = list(csv.DictReader(lines, delimiter=";"))
    except FileNotFoundError:
        return []
    return [
        (float(row["CurrentTime"].split("\t")[-1]), int(row["TotalCallCreated"]), int(row["SuccessfulCall(C)"]))
        for row in rows
        if row["SuccessfulCall(C)"]
    ]


def elapsed(sipp: Sipp) -> float:
    """Seconds from the first line to the last."""
    lines = statistics(sipp)
    return lines[-1][0] - lines[0][0] if lines else 0.0


@pytest.fixture(autouse=True)
def brake() -> Iterator[None]:
    core = str(sorted(os.sched_getaffinity(0))[0])
    running = subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", BRAKE])
    try:
        yield
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Without a limit of requests a second: what it can carry is what counts here."""
    settings = shared_settings(loopback_address(), tmp_path / "store.db") | {"max_recv_rps": "0"}
    made = Node("solo", tmp_path / "solo", settings, standalone=True)
    with made.serving():
        yield made


FIGURES: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    print(
        f"\n\n{'load':<24}{'best':>8}{'offered':>9}{'completed':>11}{'kept':>6}{'by CPU':>8}{'memory':>9}{'normal again':>14}"
    )
    print("\n".join(FIGURES))


def test_registrations_at_three_times_the_best_rate(node: Node) -> None:
    holds_its_rate(Load(node, "register", 0.0, (200, 400)))


def test_registrations_by_tcp_at_three_times_the_best_rate(node: Node) -> None:
    holds_its_rate(Load(node, "register", 0.0, (200, 400), transport="t1"))


def test_calls_at_three_times_the_best_rate(node: Node) -> None:
    load = Load(node, "uac_hangs_up", 0.1, (60, 120))
    port = 20500
    asyncio.run(register_callee(node, port))
    callee = load.sipp("uas_plain", 1_000_000, port, timeout=600)
    try:
        holds_its_rate(load)
    finally:
        callee.stop()


def holds_its_rate(load: Load) -> None:
    node = load.node
    load.run(100)
    kept = 0.0
    for _attempt in range(ATTEMPTS):
        best = load.best()
        counted = ask(node, "stats")
        over = load.run(TIMES * best.rate)
        after = asyncio.run(back_to_normal(node))
        counts = ask(node, "stats")
        # On a machine that others use too, the time they took from the worker is not its fault.
        kept = max(kept, over.rate / best.rate, over.efficiency / best.efficiency)
        told(load, best, over, after)
        said = ("overload_refused", "overload_dropped", "dropped_by_kernel")
        print(f"\n{FIGURES[-1]}; " + ", ".join(f"{name} {counts[name] - counted[name]}" for name in said))
        assert over.grown < max(best.grown, 0) + GROWTH
        assert after < 5 * STRETCH
        if kept >= KEPT and counts["overloads"]:
            break
    assert kept >= KEPT
    assert counts["overloads"] > 0, "it was no overload"
    until(lambda: ask(node, "stats")["waiting"] == 0, 5, "the queue to be empty", node)
    until(lambda: "overload is over" in node.output(), 10, "the end of the overload to be told", node)
    assert ask(node, "stats")["registers_read_percent"] == 100
    assert "Traceback" not in node.output()


def told(load: Load, best: Measured, over: Measured, after: float) -> None:
    """A row of the table."""
    FIGURES.append(
        f"{load.scenario + ' ' + load.transport:<24}{best.rate:>6.0f}/s{over.offered:>7.0f}/s{over.rate:>9.0f}/s"
        f"{over.rate / best.rate:>6.0%}{over.efficiency / best.efficiency:>8.0%}"
        f"{resident(load.pid) >> 20:>5} MiB{after * 1000:>11.0f} ms"
    )


async def back_to_normal(node: Node) -> float:
    """Seconds until twenty registrations in a row are answered at once, none refused."""
    began = time.monotonic()
    async with Phone("1015", PASSWORD, node.sip, domain=DOMAIN, host="127.0.0.9") as phone:
        good = 0
        while good < 20:
            asked = time.monotonic()
            try:
                answer = await phone.register()
            except Refused:
                good = 0
                continue
            good = good + 1 if answer.status == 200 and time.monotonic() - asked < 0.2 * STRETCH else 0
    return time.monotonic() - began


async def register_callee(node: Node, port: int) -> None:
    async with Phone(CALLEE, PASSWORD, node.sip, domain=DOMAIN) as phone:
        await phone.register(contact=f"sip:{CALLEE}@127.0.0.1:{port}")
