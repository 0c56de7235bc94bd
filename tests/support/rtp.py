"""Numbered RTP: one packet each 20 ms that says who sent it and which one it is, and a record of what arrived when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import time

PACKET = struct.Struct("!BBHII")
INTERVAL = 0.02


class Audio:
    """One RTP socket: sends numbered packets to its peer, notes every arrival as (time, number)."""

    def __init__(self, host: str) -> None:
        self._socket, self.port = _even_port(host)
        self.host = host
        self.peer: tuple[str, int] | None = None
        self.interval = INTERVAL
        "Seconds between two packets: many calls at once may do with fewer."
        self.halt = -1
        "Having sent so many it stops, until it is started again."
        self.first = 0
        "The sequence number that it begins with."
        self.sent = 0
        self.arrivals: list[tuple[float, int]] = []
        self._ssrc = random.getrandbits(32)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket.fileno(), self._read)
        self._sender: asyncio.Task[None] | None = None

    def start(self, peer: tuple[str, int]) -> None:
        self.peer = peer
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    def pause(self) -> None:
        if self._sender is not None:
            self._sender.cancel()
            self._sender = None

    def close(self) -> None:
        self.pause()
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    async def heard(self, packets: int, within: float) -> None:
        """Wait until so many more packets have come."""
        goal = len(self.arrivals) + packets
        async with asyncio.timeout(within):
            while len(self.arrivals) < goal:
                await asyncio.sleep(INTERVAL / 2)

    def longest_gap(self, since: float = 0.0, until: float = float("inf")) -> float:
        """The longest silence in seconds between two packets that arrived in that time."""
        times = [at for at, _number in self.arrivals if since <= at <= until]
        return max((b - a for a, b in itertools.pairwise(times)), default=0.0)

    def missing(self) -> int:
        """How many numbers between the first and the last arrived one never came."""
        numbers = {number for _at, number in self.arrivals}
        return max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0

    def sealed(self, packet: bytes) -> bytes:
        """What goes on the wire for it."""
        return packet

    def opened(self, packet: bytes) -> bytes:
        """What it was before it went on the wire."""
        return packet

    async def _send(self) -> None:
        due = time.monotonic()
        while self.peer is not None and self.sent != self.halt:
            header = PACKET.pack(0x80, 0, (self.first + self.sent) & 0xFFFF, (self.sent * 160) & 0xFFFFFFFF, self._ssrc)
            with contextlib.suppress(OSError):
                self._socket.sendto(self.sealed(header + struct.pack("!I", self.sent) + b"\xff" * 156), self.peer)
            self.sent += 1
            due += self.interval
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                packet = self.opened(self._socket.recv(2048))
                if len(packet) >= 16:
                    self.arrivals.append((time.monotonic(), struct.unpack_from("!I", packet, 12)[0]))


def _even_port(host: str) -> tuple[socket.socket, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.bind((host, 0))
        port: int = sock.getsockname()[1]
        if port % 2 == 0:
            sock.setblocking(False)
            return sock, port
        sock.close()
