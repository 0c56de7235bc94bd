"""What a relayed packet costs: the media process under load, its CPU read from the kernel.

    python -m tests.bench.rtp [CALLS] [SECONDS]

A call is two streams of 50 packets a second, each forwarded to the other side. rtpengine gets the same load in the same
minute; and so does a loop that does nothing but `recv` and `send`: what Python and the kernel take in any case, however
busy the machine is.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from tests.bench import cpu, peers
from tests.bench.figures import Figure
from tests.bench.ng import Rtpengine
from tests.bench.streams import HOST, Endpoint, close, load
from tests.node.media.stage import Process, Worker

CALLS, SECONDS = 200, 8.0
WARM_UP = 4.0
"Seconds until all peers are known: rtpengine goes on learning addresses for three."
CONTROL, PORTS = 16922, (42000, 47998)

Relay = Callable[[Path, Sequence[Endpoint]], AbstractContextManager[int]]
"Relays between endpoints 0 and 1, 2 and 3 ... while it is entered; yields the process id."


@dataclass(frozen=True)
class Cost:
    """What one relay came to."""

    us_per_packet: float
    packets: int
    lost: int
    core_busy: float
    packets_per_wake_up: float


def measure(directory: Path) -> list[Figure]:
    ours, bare = cost(our_media, directory), cost(bare_loop, directory)
    note = f"{CALLS} calls, {ours.lost} of {ours.packets} lost; a bare recv/send loop: {bare.us_per_packet:.2f} us"
    unit = "us CPU per relayed packet"
    try:
        theirs = cost(rtpengine, directory)
    except (FileNotFoundError, RuntimeError, AssertionError, TimeoutError) as error:
        return [Figure("rtp_packet", unit, ours.us_per_packet, note=f"{note}; no peer: {error}")]
    note += f"; the peer: in user space, one thread, {theirs.lost} of {theirs.packets} lost"
    return [Figure("rtp_packet", unit, ours.us_per_packet, "rtpengine", theirs.us_per_packet, note)]


def cost(relay: Relay, directory: Path, calls: int = CALLS, seconds: float = SECONDS) -> Cost:
    """What a relay uses of the CPU under this load."""
    endpoints = [Endpoint() for _ in range(2 * calls)]
    try:
        with relay(directory, endpoints) as pid:
            load(endpoints, WARM_UP)
            used, wakes = cpu.spent(pid), _wakes(pid)
            sent, came, lasted = load(endpoints, seconds)
            used, wakes = cpu.spent(pid) - used, _wakes(pid) - wakes
    finally:
        close(endpoints)
    assert came > sent / 2, f"only {came} of {sent} packets came through"
    return Cost(round(used / came * 1e6, 3), sent, sent - came, round(used / lasted, 3), round(came / max(1, wakes), 1))


# ---- the relays -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def our_media(directory: Path, endpoints: Sequence[Endpoint]) -> Iterator[int]:
    """Our media process, with a client that sets the calls up as a worker does."""
    with TemporaryDirectory(prefix="media-", dir=directory) as folder:
        process = Process(Path(folder))
        worker = Worker(process.path)
        try:
            _set_up(worker, endpoints)
            yield process.pid
        finally:
            worker.client.shut()
            process.kill()


def _set_up(worker: Worker, endpoints: Sequence[Endpoint]) -> None:
    ports: dict[str, object] = {}
    for number in range(len(endpoints)):
        worker.client.open(
            f"leg{number}",
            address=HOST,
            first=16384,
            last=32767,
            then=lambda outcome, leg=f"leg{number}": ports.__setitem__(leg, outcome),  # type: ignore[misc]
        )
    worker.loop.until(lambda: len(ports) == len(endpoints), within=20)
    for number, endpoint in enumerate(endpoints):
        port = ports[f"leg{number}"]
        assert isinstance(port, int), f"no port: {port}"
        endpoint.aim(port)
        worker.client.remote(f"leg{number}", HOST, endpoint.port, rtcp_port=endpoint.port + 1)
    for number in range(0, len(endpoints), 2):
        worker.client.join(f"leg{number}", f"leg{number + 1}")
    worker.counters("leg0")


@contextlib.contextmanager
def rtpengine(directory: Path, endpoints: Sequence[Endpoint]) -> Iterator[int]:
    """rtpengine, told of each call by offer and answer."""
    with peers.rtpengine(directory, HOST, CONTROL, PORTS) as pid:
        engine = Rtpengine(HOST, CONTROL)
        try:
            for number in range(0, len(endpoints), 2):
                caller, callee = endpoints[number : number + 2]
                for_caller, for_callee = engine.call(f"call{number}", caller.port, callee.port)
                caller.aim(for_caller)
                callee.aim(for_callee)
            yield pid
        finally:
            engine.close()


@contextlib.contextmanager
def bare_loop(_directory: Path, endpoints: Sequence[Endpoint]) -> Iterator[int]:
    """The least that any relay in Python must do."""
    inner = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in endpoints]
    for sock, endpoint in zip(inner, endpoints, strict=True):
        sock.bind((HOST, 0))
        endpoint.aim(sock.getsockname()[1])
        sock.connect((HOST, endpoint.port))
    pid = os.fork()
    if pid == 0:
        _relay_barely(inner)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        for sock in inner:
            sock.close()


def _relay_barely(socks: list[socket.socket]) -> NoReturn:
    epoll = select.epoll()
    ways = {sock.fileno(): (sock.recv, socks[number ^ 1].send) for number, sock in enumerate(socks)}
    for descriptor in ways:
        epoll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in epoll.poll(-1, 512):
            receive, send = ways[descriptor]
            send(receive(2048))


def _wakes(pid: int) -> int:
    """How often the threads of the process went to sleep."""
    threads = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(int(line.split()[1]) for path in threads for line in path.open() if line.startswith("voluntary_"))


def main(calls: int, seconds: float) -> None:
    relays: tuple[tuple[str, Relay], ...] = (("ours", our_media), ("bare", bare_loop), ("rtpengine", rtpengine))
    with TemporaryDirectory(prefix="bench-") as folder:
        found = {name: asdict(cost(relay, Path(folder), calls, seconds)) for name, relay in relays}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    words = [*sys.argv[1:], "", ""]
    main(int(words[0] or CALLS), float(words[1] or SECONDS))
