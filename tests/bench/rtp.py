"""What a relayed packet costs: the media process under load, its CPU read from the kernel.

    python -m tests.bench.rtp [CALLS] [SECONDS]

A call is two streams of 50 packets a second, each forwarded to the other side. All endpoints are sockets of this
process, sent from in slots of one millisecond. Beside it, under the same load in the same minute, a loop that does
nothing but `recv` and `send`: what Python and the kernel take in any case, however busy the machine is.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from node.media.rtp import header
from tests.node.media.stage import Loop, Process, Worker

SLOTS = 20
"Of one millisecond: the packets of 20 ms are spread over them."


def measure(calls: int = 200, seconds: float = 5.0) -> dict[str, float]:
    """CPU microseconds of the media process for each packet it relayed, the loss, and the same for the bare loop."""
    found = _measure_ours(calls, seconds)
    found["bare_loop_us_per_packet"] = _measure_bare(calls, seconds)
    return found


def _measure_ours(calls: int, seconds: float) -> dict[str, float]:
    with TemporaryDirectory(prefix="media-") as folder:
        process = Process(Path(folder))
        worker = Worker(process.path)
        try:
            pairs = _connect(worker, calls)
            _load(pairs, 0.5)  # until all peers are known
            before, cpu, wakes = _received(pairs), _cpu(process.pid), _switches(process.pid)
            sent, lasted = _load(pairs, seconds)
            relayed, cpu = _received(pairs) - before, _cpu(process.pid) - cpu
            wakes = _switches(process.pid) - wakes
        finally:
            worker.client.shut()
            process.kill()
    return {
        "calls": calls,
        "seconds": round(lasted, 2),
        "packets": relayed,
        "lost": sent - relayed,
        "cpu_us_per_packet": round(cpu / max(1, relayed) / 1000, 2),
        "packets_per_wake_up": round(relayed / max(1, wakes), 1),
        "core_busy": round(cpu / 1e9 / lasted, 3),
        "calls_per_core": int(calls * lasted * 1e9 / max(1, cpu)),
    }


def _measure_bare(calls: int, seconds: float) -> float:
    inner = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) for _ in range(2 * calls)]
    for sock in inner:
        sock.bind(("127.0.0.1", 0))
    endpoints = [_Endpoint(sock.getsockname()[1]) for sock in inner]
    for sock, endpoint in zip(inner, endpoints, strict=True):
        sock.connect(endpoint.socket.getsockname())
    pid = os.fork()
    if pid == 0:
        _relay_barely(inner)
    try:
        _load(endpoints, 0.5)
        before, cpu = _received(endpoints), _cpu(pid)
        _load(endpoints, seconds)
        return round((_cpu(pid) - cpu) / max(1, _received(endpoints) - before) / 1000, 2)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _relay_barely(socks: list[socket.socket]) -> NoReturn:
    epoll = select.epoll()
    ways = {sock.fileno(): (sock.recv, socks[number ^ 1].send) for number, sock in enumerate(socks)}
    for descriptor in ways:
        epoll.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, _ in epoll.poll(-1, 512):
            receive, send = ways[descriptor]
            send(receive(2048))


class _Endpoint:
    """One phone, as cheap as can be."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(("127.0.0.1", port))
        self.packet = header(0, 1, 160, port) + b"\xff" * 160
        self.received = 0


def _connect(worker: Worker, calls: int) -> list[_Endpoint]:
    ports: dict[str, int] = {}
    loop: Loop = worker.loop
    for number in range(calls):
        for side in "ab":
            leg = f"{number}{side}"
            worker.client.open(
                leg,
                address="127.0.0.1",
                first=16384,
                last=32767,
                then=lambda outcome, leg=leg: ports.__setitem__(leg, outcome),  # type: ignore[misc]
            )
    loop.until(lambda: len(ports) == 2 * calls, within=20)
    endpoints = []
    for leg, port in ports.items():
        endpoint = _Endpoint(port)
        endpoints.append(endpoint)
        worker.client.remote(leg, *endpoint.socket.getsockname(), rtcp_port=endpoint.socket.getsockname()[1] + 1)
    for number in range(calls):
        worker.client.join(f"{number}a", f"{number}b")
    worker.counters("0a")
    return endpoints


def _load(endpoints: list[_Endpoint], seconds: float) -> tuple[int, float]:
    """Send for so long, taking in what comes; packets sent, and how long it lasted."""
    slots = [endpoints[slot::SLOTS] for slot in range(SLOTS)]
    began = time.monotonic()
    sent = 0
    for tick in range(int(seconds * 1000)):
        for endpoint in slots[tick % SLOTS]:
            endpoint.socket.send(endpoint.packet)
            sent += 1
        for endpoint in slots[(tick + SLOTS // 2) % SLOTS]:
            _take(endpoint)
        due = began + (tick + 1) / 1000 - time.monotonic()
        if due > 0:
            time.sleep(due)
    lasted = time.monotonic() - began
    time.sleep(0.1)
    for endpoint in endpoints:
        while _take(endpoint):
            pass
    return sent, lasted


def _take(endpoint: _Endpoint) -> bool:
    try:
        endpoint.socket.recv(2048)
    except BlockingIOError:
        return False
    endpoint.received += 1
    return True


def _received(endpoints: list[_Endpoint]) -> int:
    return sum(endpoint.received for endpoint in endpoints)


def _cpu(pid: int) -> int:
    """Nanoseconds on a CPU, all threads together."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _switches(pid: int) -> int:
    """How often the process went to sleep."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


if __name__ == "__main__":
    words = [*sys.argv[1:], "", ""]
    print(json.dumps(measure(int(words[0] or 200), float(words[1] or 5.0)), indent=2))
