"""Calls whose phones know how long each answer took: from the moment it was asked for to the moment it reached their host.

The arrival is the kernel's time of the datagram, so that a phone that is late to look does not count. What others on the
machine took of it is told apart: the time for which the node's worker could have run and no processor was free (its own
clock stood still), and an echo beside them, by a process that does nothing but send back what it gets.
"""

from __future__ import annotations

import contextlib
import heapq
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.support.node import DOMAIN, PASSWORD
from tests.support.sipmessage import Sip
from tests.support.swarm import Swarm, SwarmCall

SO_TIMESTAMPNS = 35
STAMP = struct.Struct("@ll")
ECHO = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, source = sock.recvfrom(2048)
    sock.sendto(data, source)
"""


def at(share: float, figures: list[float]) -> float:
    """0 if there are none: in a short outage a machine that is slow ends no call."""
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class TimedSwarm(Swarm):
    """Times by method, in seconds; and of the echo."""

    def __init__(self, server: tuple[str, int], worker: int) -> None:
        """`worker`: the process that answers."""
        super().__init__(server, DOMAIN, PASSWORD)
        self._tasks = Path(f"/proc/{worker}/task")
        self.took: dict[str, list[float]] = {"OPTIONS": [], "BYE": [], "echo": []}
        self.own: dict[str, list[float]] = {method: [] for method in self.took}
        "The same, less the time for which the worker waited for a processor."
        self.slowest: dict[str, list[tuple[float, float]]] = {method: [] for method in self.took}
        "Of each method the slowest answers, and when they were asked for."
        self._asked: dict[tuple[str, str], tuple[float, dict[str, float]]] = {}
        "When, and how long the worker's threads had waited for a processor by then."
        self._arrived = 0.0
        self._begun = time.monotonic(), self._waited()
        self._running = True
        self.kept_waiting = 0.0
        "Share of the time for which a thread of the worker could have run, and no processor was free."
        self._mirror = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._mirror.bind(("127.0.0.1", 0))
        words = [sys.executable, "-c", ECHO, str(self._mirror.fileno())]
        self._echo = subprocess.Popen(words, pass_fds=[self._mirror.fileno()])
        for sock in (self._out, self._in):
            sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

    async def __aexit__(self, *_exception: object) -> None:
        self._echo.kill()
        self._echo.wait()
        self._mirror.close()
        await super().__aexit__()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    def forget_times(self) -> None:
        """What was before does not count."""
        for method in self.took:
            self.took[method].clear()
            self.own[method].clear()
            self.slowest[method].clear()
        self._begun = time.monotonic(), self._waited()
        self.kept_waiting = 0.0
        self._running = True

    def stop_the_watch(self) -> None:
        """What is asked for from now on does not count."""
        self._running = False
        since, waited = self._begun
        self.kept_waiting = self._stolen(waited) / (time.monotonic() - since)

    def told(self, method: str, since: float) -> str:
        """99 of 100 are quicker; by the worker's own clock; the slowest by that, and when, in seconds `since` that time."""
        slow = " ".join(f"{took * 1000:.0f}@{asked - since:.1f}" for took, asked in self.slowest[method])
        wall, own = (at(0.99, figures[method]) * 1000 for figures in (self.took, self.own))
        return f"{wall:.1f} ms (own clock {own:.1f}; slowest {slow})"

    def ping(self, call: SwarmCall) -> None:
        """An OPTIONS in its dialog, and an echo beside it."""
        message = self._in_dialog(call.caller, "OPTIONS", self._out)
        self._request(message, self._out)
        if self._running:
            self._asked[message.branch, "echo"] = time.time(), self._waited()
        self._out.sendto(f"echo {message.branch}".encode(), self._mirror.getsockname())

    def _request(self, message: Sip, sock: socket.socket) -> None:
        if self._running:
            self._asked.setdefault((message.branch, message.method), (time.time(), self._waited()))
        super()._request(message, sock)

    def _on_response(self, message: Sip, sock: socket.socket) -> None:
        if message.status >= 200:
            self._took(message.branch, message.method)
        super()._on_response(message, sock)

    def _took(self, branch: str, method: str) -> None:
        asked = self._asked.pop((branch, method), None)
        if asked is not None and method in self.took:
            when, waited = asked
            took = self._arrived - when
            own = took if method == "echo" else max(0.0, took - self._stolen(waited))
            self.took[method].append(took)
            self.own[method].append(own)
            self.slowest[method] = heapq.nlargest(5, [*self.slowest[method], (own, when)])

    def _waited(self) -> dict[str, float]:
        """Seconds for which each thread of the worker could have run, and did not."""
        waited = {}
        for task in self._tasks.iterdir():
            with contextlib.suppress(OSError):  # one that has ended meanwhile
                waited[task.name] = int((task / "schedstat").read_text().split()[1]) / 1e9
        return waited

    def _stolen(self, before: dict[str, float]) -> float:
        """Of the thread that waited longest since then: the loop, or who had what the loop waited for."""
        return max(waited - before.get(name, waited) for name, waited in self._waited().items())

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                try:
                    packet, control, _flags, source = sock.recvmsg(65536, 64)
                except ConnectionError:
                    continue
                self._arrived = _stamp(control)
                if packet.startswith(b"echo "):
                    self._took(packet[5:].decode(), "echo")
                else:
                    self._take(Sip.parse(packet), source, sock)


def _stamp(control: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, nanoseconds = STAMP.unpack_from(data)
            return float(seconds + nanoseconds / 1e9)
    return time.time()
