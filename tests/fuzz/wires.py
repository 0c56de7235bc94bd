"""Agents on real sockets: UDP, TCP, TLS, WS and WSS, framed by hand, so that they can be told to do it wrong."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import time

from node.sip.errors import Malformed
from node.sip.framing import Ping, StreamFramer
from tests.fuzz.agent import Agent, Tally, value
from tests.fuzz.corpus import handshake
from tests.support.node import STRETCH, loopback_address

CONNECT_WITHIN = 12.0
Address = tuple[str, int]


class RealAgent(Agent):
    def now(self) -> float:
        return time.monotonic()


class UdpAgent(RealAgent):
    """Mutants go the way of everything else."""

    def __init__(self, server: Address, tally: Tally, each: int, seed: int = 0) -> None:
        super().__init__("UDP", tally, each, seed)
        self._server = server
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((loopback_address(), 0))
        self.host, self.port = self._socket.getsockname()

    def send(self, data: bytes) -> None:
        self._socket.sendto(data[:65_000], self._server)

    aside = send

    def listen(self, seconds: float) -> list[str]:
        ready, _, _ = select.select([self._socket], [], [], seconds)
        return [self._socket.recv(65_535).decode("utf-8", "surrogateescape")] if ready else []

    def close(self) -> None:
        self._socket.close()


class StreamAgent(RealAgent):
    """Mutants that are still framed rightly go the way of everything else.

    Others go by a connection at the side, which may be cut off at any time, and belong to no dialog there: a phone that is
    heard by another connection is called by that one.
    """

    def __init__(
        self,
        server: Address,
        transport: str,
        tally: Tally,
        each: int,
        seed: int = 0,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(transport, tally, each, seed)
        self._server, self._trust = server, trust
        self._line = connect(server, transport, trust, loopback_address())
        self.host, self.port = self._line.local
        self._side: Line | None = None

    @property
    def sent_by(self) -> str:
        return f"agent{self.port}.invalid" if self.transport in ("WS", "WSS") else super().sent_by

    def send(self, data: bytes) -> None:
        self._line.send(data)

    def aside(self, data: bytes) -> None:
        if self.transport in ("WS", "WSS") or _is_one(data):
            self._line.send(data)
            return
        data = data.replace(b";tag=internal.0-", b";tag=internal.0-0")
        with contextlib.suppress(OSError):
            if self._side is None or self.tally.mutants % 7 == 0:
                if self._side is not None:
                    self._side.close()
                self._side = connect(self._server, self.transport, self._trust, self.host)
            self._side.send(data)
            return
        self._side = None

    def listen(self, seconds: float) -> list[str]:
        return self._line.listen(seconds)

    def close(self) -> None:
        self._line.close()
        if self._side is not None:
            self._side.close()


def _is_one(data: bytes) -> bool:
    """Does the stream go on rightly after it?"""
    framer = StreamFramer(60_000)
    try:
        return framer.feed(data) == [data] and framer.feed(b"\r\n\r\n") == [Ping.PING]
    except Malformed:
        return False


# ---- connections -----------------------------------------------------------------------------------------------------


def connect(server: Address, transport: str, trust: ssl.SSLContext | None, host: str) -> Line:
    """A connection from that address whose handshakes are through. Raises OSError."""
    sock: socket.socket = socket.create_connection(server, timeout=CONNECT_WITHIN * STRETCH, source_address=(host, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if transport in ("TLS", "WSS"):
        assert trust is not None, "TLS without somebody to trust"
        sock = trust.wrap_socket(sock, server_hostname="sofia.test")
    return WebLine(sock) if transport in ("WS", "WSS") else Line(sock)


class Line:
    """One connection; messages are cut by Content-Length."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.local: Address = sock.getsockname()
        self._buffer = b""

    def send(self, data: bytes) -> None:
        """One message."""
        self.sock.sendall(data)

    def say(self, data: bytes) -> None:
        """These very bytes."""
        self.sock.sendall(data)

    def listen(self, seconds: float) -> list[str]:
        """Whole messages that come within that time, one wait at most."""
        held = self.sock.pending() if isinstance(self.sock, ssl.SSLSocket) else 0
        ready = held or select.select([self.sock], [], [], seconds)[0]
        more = self._receive() if ready else None
        if more is not None:
            assert more, "the connection was closed"
            self._buffer += more
        return [data.decode("utf-8", "surrogateescape") for data in self._cut()]

    def close(self) -> None:
        self.sock.close()

    def _receive(self) -> bytes | None:
        """None: what came was a record of TLS itself."""
        self.sock.setblocking(False)
        try:
            return self.sock.recv(65_535)
        except (ssl.SSLWantReadError, BlockingIOError):
            return None
        finally:
            self.sock.settimeout(CONNECT_WITHIN * STRETCH)

    def _cut(self) -> list[bytes]:
        found = []
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            if self._buffer.startswith(b"\r\n"):  # a ping
                self._buffer = self._buffer.lstrip(b"\r\n")
                continue
            head = self._buffer[:end].decode("utf-8", "surrogateescape")
            size = end + 4 + int(value(f"{head}\r\n", "Content-Length") or 0)
            if len(self._buffer) < size:
                break
            found.append(self._buffer[:size])
            self._buffer = self._buffer[size:]
        return found


class WebLine(Line):
    """A WebSocket (RFC 6455, RFC 7118)."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.say(handshake())
        while b"\r\n\r\n" not in self._buffer:
            more = sock.recv(4096)
            if not more:
                raise OSError("the handshake was not answered")
            self._buffer += more
        answer, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert b" 101 " in answer, answer

    def send(self, data: bytes) -> None:
        try:
            data.decode()
        except UnicodeDecodeError:
            self.say(frame(data, 0x82))  # as text it would have to be refused (RFC 6455 8.1)
        else:
            self.say(frame(data))

    def _cut(self) -> list[bytes]:
        found = []
        while len(self._buffer) >= 2:
            size, start = self._buffer[1] & 0x7F, 2
            if size >= 126:
                start += 2 if size == 126 else 8
                size = int.from_bytes(self._buffer[2:start])
            if len(self._buffer) < start + size:
                break
            opcode, payload = self._buffer[0] & 0xF, self._buffer[start : start + size]
            self._buffer = self._buffer[start + size :]
            if opcode == 9:
                self.say(frame(payload, 0x8A))
            elif opcode in (1, 2) and payload.strip():
                found.append(payload)
        return found


def frame(payload: bytes, first: int = 0x81, *, mask: bool = True, length: int | None = None) -> bytes:
    """One frame of a client; `length`: what it claims to hold."""
    size = len(payload) if length is None else length
    masked = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 1 << 16:
        head = bytes((first, masked | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8)
    if not mask:
        return head + payload
    key = os.urandom(4)
    repeated = (key * (len(payload) // 4 + 1))[: len(payload)]
    return head + key + bytes(a ^ b for a, b in zip(payload, repeated, strict=True))
