"""Asks a node whether it is there, fifty times a second, and remembers every answer: how long SIP was silent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import time

from tests.support.netns import Host

INTERVAL = 0.02


class Sounder:
    """Sends OPTIONS, each once. Use as an async context manager."""

    def __init__(self, server: tuple[str, int], *, host: str = "127.0.0.1", namespace: Host | None = None) -> None:
        self.server, self.host = server, host
        with namespace.inside() if namespace is not None else contextlib.nullcontext():
            self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.answers: list[tuple[float, float, int]] = []
        "When it was asked, when it was answered, and the status."
        self._asked: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Sounder:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._task is not None
        self._task.cancel()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def gap(self, since: float) -> float:
        """Seconds from that moment to the first right answer to a question asked after it; infinite while there is none."""
        later = [answered for asked, answered, status in self.answers if asked >= since and status == 200]
        return min(later, default=float("inf")) - since

    def longest_gap(self, since: float) -> float:
        """The longest time in seconds without a right answer, beginning at the last one before that moment."""
        right = sorted(answered for _asked, answered, status in self.answers if status == 200)
        first = next((index for index, at in enumerate(right) if at >= since), len(right))
        times = right[max(0, first - 1) :]
        return max((b - a for a, b in itertools.pairwise(times)), default=float("inf"))

    async def heard(self, within: float = 20.0) -> None:
        """Wait for one right answer more."""
        now = time.monotonic()
        async with asyncio.timeout(within):
            while self.gap(now) == float("inf"):
                await asyncio.sleep(INTERVAL)

    async def _ask(self) -> None:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        there = f"[{self.server[0]}]" if ":" in self.server[0] else self.server[0]
        while True:
            mark = secrets.token_hex(8)
            self._asked[mark] = time.monotonic()
            lines = [
                f"OPTIONS sip:{there}:{self.server[1]} SIP/2.0",
                f"Via: SIP/2.0/UDP {shown}:{self.port};rport;branch=z9hG4bK{mark}",
                "Max-Forwards: 70",
                f"From: <sip:sounder@{shown}:{self.port}>;tag={mark}",
                f"To: <sip:{there}:{self.server[1]}>",
                f"Call-ID: {mark}",
                "CSeq: 1 OPTIONS",
                "Content-Length: 0",
            ]
            with contextlib.suppress(OSError):
                self._socket.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), self.server)
            await asyncio.sleep(INTERVAL)

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    packet = self._socket.recv(65536)
                except ConnectionError:
                    continue
                head = packet.split(b"\r\n\r\n")[0].decode(errors="replace")
                mark = head.partition("branch=z9hG4bK")[2][:16]
                if mark in self._asked and head.startswith("SIP/2.0 "):
                    self.answers.append((self._asked[mark], time.monotonic(), int(head[8:11])))
