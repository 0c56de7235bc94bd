"""Three times the rate that the node can carry: it goes on completing what it can, and is itself again at once.

The worker has a part of one core and sipp the other one, or sipp would be overloaded before the worker is. Its best rate
is found by sipp with a fixed number of calls under way, which offers just what is taken. That and the overload take turns on
the same node, each measured within its load, from the second second on; what counts is the median of the pairs, of which
there are more where it does not show yet. By TCP what cannot be taken at once waits with its sender and is lost to nobody:
that load is measured to its end. A rate is counted by the time the worker could have had: what it was kept waiting
for a processor by others on the machine is left out, what it idled is not. `make floods` runs the same for longer and prints
the table.
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
from statistics import median

import pytest

from tests.scenarios.test_floods import resident
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone, Refused
from tests.support.sipp import Sipp, user_rows

SECONDS = float(os.environ.get("SOFIA_OVERLOAD_SECONDS", "2"))
pytestmark = [pytest.mark.real, pytest.mark.peers, pytest.mark.timeout(400 if SECONDS < 10 else 1800)]

WARM = 1.0
"Seconds of each load that are not measured."
TIMES = 3
KEPT = 0.8
"Of the best rate."
BRAKED = 0.8
"Of the time: what the worker waits for its core at most, of which the brake has a part and the node's other processes some."
SIPP_WAITS = 0.25
KEPT_BESIDE_OTHERS = 0.4
"Of it, where in no pair they had the machine for themselves: then sipp neither offers nor hears what it should."
GROWTH = 64 << 20
"Bytes by which the overload may make the worker grow more than its best rate did in the same time."
PAIRS = 2
"Of best rate and overload, at least."
MORE_PAIRS = 12 if SECONDS < 10 else 5
"At most, where the median does not show it yet: a core is worth a fifth more or less from one second to the next."
BEYOND = 2
"Times the best rate that was offered at least, or it was no overload."
NICE = -15
"Before what else runs on the machine, if we may: sipp would neither send what it should nor hear the answers."
BRAKE = """
import os, sys, time
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
except PermissionError:
    pass
while True:
    until = time.monotonic() + float(sys.argv[1])
    while time.monotonic() < until:
        pass
    time.sleep(float(sys.argv[2]))
"""
"Takes a share of the worker's core, in slices far shorter than a wait that anybody would notice."
CALLEE = "1011"
USERS = [f"10{number:02d}" for number in range(10)]


@dataclass
class Measured:
    """One run of sipp, from its warm second to its last."""

    rate: float
    "Completed in a second that the worker could have had."
    by_wall: float
    "Completed in a second."
    offered: float
    "Begun in a second."
    grown: int
    "Bytes that the worker's memory has grown by, in the end."
    alone: bool
    "Had worker and sipp the machine for themselves?"


@dataclass
class Moment:
    """What had happened when sipp wrote a line."""

    at: float
    begun: int
    completed: int
    kept_waiting: float
    "Seconds for which the worker had wanted a processor and not got it."
    sipp_waiting: float
    "And sipp."


@dataclass
class Load:
    """sipp against a node whose worker has a core to itself."""

    node: Node
    scenario: str
    pause: float
    at_once: int
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
            offered = (last.begun - first.begun) / (last.at - first.at)
            sipp.finish(60 * STRETCH)
            if self.transport == "t1":
                last = Moment(*statistics(sipp)[-1], kept_waiting(self.pid), last.sipp_waiting)
        finally:
            sipp.stop()
        completed, seconds = last.completed - first.completed, last.at - first.at
        waiting, sipp_waiting = last.kept_waiting - first.kept_waiting, last.sipp_waiting - first.sipp_waiting
        return Measured(
            rate=completed / max(seconds - waiting, seconds / 20),
            alone=waiting < BRAKED * seconds and sipp_waiting < SIPP_WAITS * SECONDS,
            by_wall=completed / seconds,
            offered=offered,
            grown=resident(self.pid) - before,
        )

    def reach(self, sipp: Sipp, seconds: float) -> Moment:
        """Wait until sipp has written of this second of its load."""
        until(lambda: elapsed(sipp) >= seconds, seconds + 20, "sipp's load", self.node)
        waited = kept_waiting(self.pid), kept_waiting(sipp.pid)
        at, begun, completed = statistics(sipp)[-1]
        return Moment(at, begun, completed, *waited)

    def best(self) -> Measured:
        return self.run(20_000, self.at_once)


def kept_waiting(pid: int) -> float:
    """Seconds for which the loop of a process has waited for a processor, by the scheduler's own count."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[1]) / 1e9


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


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Without a limit of requests a second: what it can carry is what counts here."""
    settings = shared_settings(loopback_address(), tmp_path / "store.db") | {"max_recv_rps": "0"}
    made = Node("solo", tmp_path / "solo", settings, standalone=True)
    with made.serving():
        yield made


@contextlib.contextmanager
def brake(busy: float, idle: float) -> Iterator[None]:
    """Once the node is up: whoever else runs on the machine leaves little enough to start it with.

    No more than sipp needs: who waits for a core and not for his turn asks again, and that is another load.
    """
    core = str(sorted(os.sched_getaffinity(0))[0])
    running = subprocess.Popen(["taskset", "-c", core, sys.executable, "-c", BRAKE, str(busy), str(idle)])
    try:
        yield
    finally:
        running.kill()
        running.wait()


FIGURES: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    yield
    heads = ("load", "best", "offered", "completed", "kept", "by the wall", "memory", "normal again")
    print("\n\n{:<22}{:>9}{:>10}{:>11}{:>7}{:>13}{:>9}{:>14}".format(*heads))
    print("\n".join(FIGURES))


def test_registrations_at_three_times_the_best_rate(node: Node) -> None:
    with brake(0.003, 0.003):
        holds_its_rate(Load(node, "register", 0.0, 200))


def test_registrations_by_tcp_at_three_times_the_best_rate(node: Node) -> None:
    with brake(0.003, 0.003):
        holds_its_rate(Load(node, "register", 0.0, 200, transport="t1"))


def test_calls_at_three_times_the_best_rate(node: Node) -> None:
    load = Load(node, "uac_hangs_up", 0.1, 60)
    port = 20500
    asyncio.run(register_callee(node, port))
    callee = load.sipp("uas_plain", 1_000_000, port, timeout=600)
    try:
        with brake(0.002, 0.004):
            holds_its_rate(load)
    finally:
        callee.stop()


def holds_its_rate(load: Load) -> None:
    node = load.node
    load.run(100)
    counted = ask(node, "stats")
    best: list[Measured] = []
    over: list[Measured] = []
    after: list[float] = []
    while len(best) < PAIRS or (len(best) < MORE_PAIRS and kept(best, over) < KEPT):
        best.append(load.best())
        over.append(load.run(TIMES * best[-1].by_wall))
        after.append(asyncio.run(back_to_normal(node)))
    counts = ask(node, "stats")
    told(load, best, over, max(after))
    said = ("overload_refused", "overload_dropped", "overload_copies", "dropped_by_kernel")
    print(f"\n{FIGURES[-1]}; " + ", ".join(f"{name} {counts[name] - counted[name]}" for name in said))
    print("best/s ", *(f"{each.rate:7.0f}{' ' if each.alone else '*'}" for each in best))
    print("over/s ", *(f"{each.rate:7.0f}{' ' if each.alone else '*'}" for each in over), " (*: beside others)")
    alone = [pair for pair in zip(best, over, strict=True) if all(each.alone for each in pair)]
    if alone:
        best, over = [list(each) for each in zip(*alone, strict=True)]
    assert kept(best, over) >= (KEPT if alone else KEPT_BESIDE_OTHERS)
    offered = median(there.offered / here.by_wall for here, there in zip(best, over, strict=True))
    assert offered > BEYOND, "it was no overload"
    # Who has one connection is held up by its window as well, and so are his requests before any has to be refused.
    assert counts["overloads"] > 0 or load.transport == "t1"
    assert max(each.grown for each in over) < max(0, *(each.grown for each in best)) + GROWTH
    assert max(after) < 5 * STRETCH
    until(lambda: ask(node, "stats")["waiting"] == 0, 5, "the queue to be empty", node)
    if counts["overloads"]:
        until(lambda: "overload is over" in node.output(), 10, "the end of the overload to be told", node)
    assert ask(node, "stats")["registers_read_percent"] == 100
    assert "Traceback" not in node.output()


def kept(best: list[Measured], over: list[Measured]) -> float:
    """Of the best rate: the median of the pairs, for what a second of a processor is worth changes with the others' load."""
    return median(there.rate / here.rate for here, there in zip(best, over, strict=True))


def told(load: Load, best: list[Measured], over: list[Measured], after: float) -> None:
    """A row of the table."""
    wall = median(there.by_wall / here.by_wall for here, there in zip(best, over, strict=True))
    FIGURES.append(
        f"{load.scenario + ' ' + load.transport:<22}{median(each.by_wall for each in best):>7.0f}/s"
        f"{median(each.offered for each in over):>8.0f}/s{median(each.by_wall for each in over):>9.0f}/s"
        f"{kept(best, over):>7.0%}{wall:>13.0%}{resident(load.pid) >> 20:>5} MiB{after * 1000:>11.0f} ms"
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
