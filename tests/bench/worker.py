"""How many messages a second one running worker can serve with a core, and where its time goes.

A worker process of its own on a real socket, with its store in memory; sipp registers with digest: REGISTER, 401, REGISTER,
200. Counted is the CPU time of the worker alone, all its threads, so nothing of sipp, the supervisor, or a database.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench import register, shares
from tests.bench.figures import Figure
from tests.node.rig import rig
from tests.support.node import DOMAIN, PASSWORD

RATE, SECONDS = 1000, 6
"Registrations a second, and for how long."


def measure(directory: Path) -> list[Figure]:
    own = {"domain": DOMAIN, "default_password": PASSWORD, "core_db_dsn": "memory://bench-worker", "max_recv_rps": "0"}
    with rig(directory, **own) as node:
        pid = node.serve().process.pid
        cost = register.per_registration(pid, node.udp, 16100, count=RATE * SECONDS, rate=RATE)
        found = looked_at(pid, node.udp, directory / "looks")
    note = f"REGISTER, 401, REGISTER, 200 at {RATE}/s; store in memory; the worker alone"
    return [
        Figure("worker_register", "us CPU per digest REGISTER", cost, note=note),
        Figure("worker_messages", "messages received per second of CPU", 2e6 / cost, note=f"as many sent; {note}"),
        *shares.figures("worker", found, cost, "of a digest REGISTER"),
    ]


def looked_at(pid: int, server: tuple[str, int], output: Path) -> dict[str, float]:
    """The shares under the same load."""
    watcher = shares.watch(pid, SECONDS, output)
    try:
        register.load(server, 16104, RATE * (SECONDS + 2), RATE)
        watcher.wait(SECONDS + 20)
    finally:
        watcher.kill()
        watcher.wait()
    return shares.shares(output.read_text())
