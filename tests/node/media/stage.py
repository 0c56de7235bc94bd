"""What the tests of the media process stand on: the process itself, a loop for clients of it, and phones that send RTP."""

from __future__ import annotations

import heapq
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from node.media.control import Counters
from node.media.errors import MediaError
from node.media.rtp import Packet
from node.media.session import MediaClient

UNIT = float(os.environ.get("TEST_TIME_UNIT", "1"))
"Slow machines stretch all waiting limits by this."


class Loop:
    """Readers and alarms on a selector: what a worker's event loop gives the client."""

    def __init__(self) -> None:
        self._readers: dict[int, Callable[[], None]] = {}
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def add_reader(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._readers[descriptor] = callback

    def remove_reader(self, descriptor: int) -> None:
        self._readers.pop(descriptor, None)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Cancelled:
        self._count += 1
        heapq.heappush(self._alarms, (time.monotonic() + delay, self._count, callback))
        return Cancelled()

    def turn(self, patience: float = 0.005) -> None:
        if self._alarms:
            patience = min(patience, max(0.0, self._alarms[0][0] - time.monotonic()))
        for descriptor in select.select(list(self._readers), [], [], patience)[0]:
            if descriptor in self._readers:
                self._readers[descriptor]()
        while self._alarms and self._alarms[0][0] <= time.monotonic():
            heapq.heappop(self._alarms)[2]()

    def until(self, condition: Callable[[], object], within: float = 3.0) -> None:
        """Turn until the condition holds. An assertion fails when it does not in time."""
        deadline = time.monotonic() + within * UNIT
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            self.turn()


class Cancelled:
    def cancel(self) -> None:
        """Alarms of the tests are left to run out."""


class Process:
    """`python -m node.media` on a socket in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "media"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        words = [sys.executable, "-m", "node.media", "--socket", str(self.path)]
        self._process = subprocess.Popen(words)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


class Worker:
    """A client with the loop it runs on, and what it was told, in order."""

    def __init__(self, path: Path, slot: str = "internal#0", loop: Loop | None = None) -> None:
        self.loop = loop or Loop()
        self.told: list[tuple[object, ...]] = []
        self.client = MediaClient(
            path,
            slot,
            add_reader=self.loop.add_reader,
            remove_reader=self.loop.remove_reader,
            call_later=self.loop.call_later,
        )
        self.client.on_silence = lambda leg: self.told.append(("silence", leg))
        self.client.on_digit = lambda leg, digit, length: self.told.append(("digit", leg, digit, length))
        self.client.on_learned = lambda leg, host, port: self.told.append(("learned", leg, host, port))
        self.client.on_lost = lambda leg, error: self.told.append(("lost", leg, str(error)))

    def open(
        self, leg: str, *, address: str = "127.0.0.1", first: int = 20000, last: int = 39999, port: int | None = None
    ) -> int:
        """Open a leg and wait for its port. Raises the MediaError it was refused with."""
        outcomes: list[int | MediaError] = []
        self.client.open(leg, address=address, first=first, last=last, port=port, then=outcomes.append)
        self.loop.until(lambda: outcomes)
        if isinstance(outcomes[0], MediaError):
            raise outcomes[0]
        return outcomes[0]

    def counters(self, leg: str) -> Counters:
        """The counters of a leg; with that, all orders before have been carried out."""
        counted: list[Counters | MediaError] = []
        self.client.counters(leg, counted.append)
        self.loop.until(lambda: counted)
        if isinstance(counted[0], MediaError):
            raise counted[0]
        return counted[0]

    def play(self, leg: str, source: str, codec: str = "PCMU") -> list[MediaError | None]:
        """Start playing; the list gets what it ended with."""
        ended: list[MediaError | None] = []
        payload_type = {"PCMU": 0, "PCMA": 8}[codec]
        self.client.play(leg, source, payload_type=payload_type, codec=codec, then=ended.append)  # type: ignore[arg-type]
        return ended


class Phone:
    """RTP on an even port and RTCP on the next one, or on any two."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for port in range(42000, 60000, 2):
            self.rtp, self.rtcp = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
            try:
                self.rtp.bind((address, port))
                self.rtcp.bind((address, port + 1))
                break
            except OSError:
                self.close()
        self.address, self.port = address, self.rtp.getsockname()[1]
        for sock in (self.rtp, self.rtcp):
            sock.settimeout(2 * UNIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.sequence = 0
        self.last = b""
        "The packet sent last."
        self.ssrc = self.port

    def __enter__(self) -> Phone:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()

    def send(self, port: int, payload: bytes = b"\xff" * 160, host: str = "") -> bytes:
        """Send the next packet to a port of the node; its bytes."""
        self.sequence += 1
        data = bytes(Packet(0, self.sequence & 0xFFFF, self.sequence * 160, self.ssrc, payload))
        self.rtp.sendto(data, (host or self.address, port))
        self.last = data
        return data

    def receive(self) -> bytes:
        return self.rtp.recv(4096)

    def receive_after(self, doing: Callable[[], object]) -> bytes:
        """The next packet once something was done."""
        doing()
        return self.receive()

    def received(self, wait: float = 0.0) -> list[bytes]:
        """All that is there, after waiting for something to come for so long."""
        found = []
        while select.select([self.rtp], [], [], wait * UNIT)[0]:
            found.append(self.rtp.recv(4096))
            wait = 0.0
        return found
