"""How many messages a second one running worker can serve with a core, and where its time goes.

A worker process of its own on a real socket, with its store in memory; sipp registers with digest (REGISTER, 401, REGISTER,
200), always so many at once that the worker has something to do. Counted is the CPU time of the worker alone, all its
threads; beside it stands Kamailio under the same load, its locations in memory too.
"""

from __future__ import annotations

from pathlib import Path

from tests.bench import peers, register, shares
from tests.bench.figures import Figure
from tests.node.rig import rig
from tests.support.node import DOMAIN, PASSWORD

AT_ONCE, COUNT, NO_LIMIT = 48, 12_000, 20_000
"Registrations under way, in all, and started a second at most."
SECONDS = 8
"How long the shares are looked at."


def measure(directory: Path) -> list[Figure]:
    own = {"domain": DOMAIN, "default_password": PASSWORD, "core_db_dsn": "memory://bench-worker", "max_recv_rps": "0"}
    with rig(directory, **own) as node:
        pid = node.serve().process.pid
        ours = at_load(pid, node.udp, 16100)
        found = looked_at(pid, node.udp, directory / "looks")
    unit, note = (
        "us CPU per digest REGISTER",
        f"REGISTER, 401, REGISTER, 200, {AT_ONCE} at once; store in memory; the worker alone",
    )
    rows = [
        Figure("worker_messages", "messages received per second of CPU", 2e6 / ours, note=f"as many sent; {note}"),
        *shares.figures("worker", found, ours, "of a digest REGISTER"),
    ]
    try:
        with peers.kamailio(directory, "127.0.0.1", 16900) as peer:
            theirs = at_load(peer, ("127.0.0.1", 16900), 16110)
    except (FileNotFoundError, RuntimeError, AssertionError) as error:
        return [Figure("worker_register", unit, ours, note=f"{note}; no peer: {error}"), *rows]
    return [Figure("worker_register", unit, ours, "kamailio", theirs, f"{note}; the peer in memory too"), *rows]


def at_load(pid: int, server: tuple[str, int], port: int) -> float:
    return register.per_registration(pid, server, port, count=COUNT, rate=NO_LIMIT, at_once=AT_ONCE)


def looked_at(pid: int, server: tuple[str, int], output: Path) -> dict[str, float]:
    """The shares under the same load."""
    sipp = register.started(server, 16104, 100 * COUNT, NO_LIMIT, AT_ONCE)
    watcher = shares.watch(pid, SECONDS, output)
    try:
        watcher.wait(SECONDS + 20)
    finally:
        watcher.kill()
        watcher.wait()
        sipp.stop()
    return shares.shares(output.read_text())
