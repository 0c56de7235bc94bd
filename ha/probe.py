"""An OPTIONS to a profile's own socket, from the supervisor's: what no idle profile fails to answer.

By UDP where the profile has it, else by its first listening socket: TCP, TLS, WS or WSS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ha.loop import READ, WRITE, Loop
from node.config.profile import bracketed

if TYPE_CHECKING:
    import ssl

UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: c29maWEtbm9kZSBwcm9iZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
)


class Prober(Protocol):
    """What a watchdog asks with."""

    def send(self) -> None:
        """Ask; what was not answered yet is forgotten."""
        ...

    def close(self) -> None: ...


class Probe:
    """Sends probes to one address and hears the answers; any answer will do. A new port each time.

    Workers that share a port by SO_REUSEPORT are chosen by the kernel from the source port, so all get their turn.
    """

    def __init__(self, loop: Loop, target: tuple[str, int], on_answer: Callable[[], None]) -> None:
        self._loop, self._on_answer = loop, on_answer
        host, port = target
        self._target = (UNSPECIFIED.get(host, host), port)
        self._socket: socket.socket | None = None
        self._call_id = ""

    def send(self) -> None:
        self.close()
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        sock = self._socket = socket.socket(family, socket.SOCK_DGRAM)
        sock.setblocking(False)
        self._call_id = f"{os.urandom(8).hex()}@probe"
        # An unreachable address is what the missing answer says; the watchdog counts those.
        with contextlib.suppress(OSError):
            sock.connect(self._target)
            self._loop.watch(sock, self._on_readable)
            sock.send(options(sock.getsockname()[:2], self._target, self._call_id))

    def close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None

    def _on_readable(self) -> None:
        assert self._socket is not None, "only an open socket is watched"
        try:
            answer = self._socket.recv(65536)
        except OSError:
            return
        if answer.startswith(b"SIP/2.0 ") and self._call_id.encode() in answer:
            self.close()
            self._on_answer()


class StreamProbe:
    """The same by a stream: a new connection each time.

    An answer is what only the worker's loop can do: answer the OPTIONS, or the handshake before it in whatever way. A
    profile that wants certificates may refuse ours, for we have none; a frozen worker does not even refuse.
    """

    def __init__(self, loop: Loop, kind: str, target: tuple[str, int], on_answer: Callable[[], None]) -> None:
        """`kind`: `tcp`, `tls`, `ws` or `wss`."""
        self._loop, self._on_answer = loop, on_answer
        host, port = target
        self._target = (UNSPECIFIED.get(host, host), port)
        self._secure, self._web = kind in ("tls", "wss"), kind in ("ws", "wss")
        self._transport = kind.upper()
        self._socket: socket.socket | None = None
        self._tls: Tls | None = None
        self._call_id = ""
        self._asked = self._connected = False
        self._heard = b""

    def send(self) -> None:
        self.close()
        family = socket.AF_INET6 if ":" in self._target[0] else socket.AF_INET
        sock = self._socket = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._call_id, self._heard = f"{os.urandom(8).hex()}@probe", b""
        self._asked = self._connected = False
        self._tls = Tls() if self._secure else None
        if sock.connect_ex(self._target) in (0, errno.EINPROGRESS):
            self._loop.watch(sock, self._on_event, READ | WRITE)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket)
            self._socket.close()
            self._socket = None

    def _on_event(self) -> None:
        assert self._socket is not None, "only an open socket is watched"
        try:
            if not self._connected:
                self._on_connected(self._socket)
            else:
                self._on_readable(self._socket.recv(65536))
        except BlockingIOError:
            return
        except OSError:
            # Nobody listens, or the connection was cut: by whom is not known.
            self.close()

    def _on_connected(self, sock: socket.socket) -> None:
        if failed := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(failed, os.strerror(failed))
        self._connected = True
        self._loop.watch(sock, self._on_event, READ)
        if self._tls is not None:
            sock.send(self._tls.begin())
        else:
            self._begin(sock)

    def _on_readable(self, data: bytes) -> None:
        sock = self._socket
        assert sock is not None, "read from"
        if not data:
            self._answered()
            return
        if self._tls is not None:
            made = self._tls.made
            data, reply = self._tls.feed(data)
            if reply:
                sock.send(reply)
            if self._tls.refused:
                self._answered()
                return
            if self._tls.made and not made:
                self._begin(sock)
        self._heard += data
        self._look(sock)

    def _begin(self, sock: socket.socket) -> None:
        """The way is free: the handshake of a WebSocket, or at once the OPTIONS."""
        if self._web:
            self._say(sock, UPGRADE.format(host=bracketed(self._target[0])).encode())
        else:
            self._ask(sock)

    def _ask(self, sock: socket.socket) -> None:
        self._asked = True
        text = options(sock.getsockname()[:2], self._target, self._call_id, self._transport)
        self._say(sock, _frame(text) if self._web else text)

    def _look(self, sock: socket.socket) -> None:
        if self._asked:
            if b"SIP/2.0 " in self._heard and self._call_id.encode() in self._heard:
                self._answered()
        elif self._web and b"\r\n\r\n" in self._heard:
            if b" 101 " in self._heard[:32]:
                self._ask(sock)
            else:
                self._answered()  # refused, but by somebody

    def _say(self, sock: socket.socket, data: bytes) -> None:
        sock.send(data if self._tls is None else self._tls.wrap(data))

    def _answered(self) -> None:
        self.close()
        self._on_answer()


class Tls:
    """The client's side of a TLS connection, without a socket; whom it talks to it does not care."""

    def __init__(self) -> None:
        # Only where a profile has nothing but TLS: the supervisor stays small elsewhere.
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.made = self.refused = False
        self._wants, self._refusal = ssl.SSLWantReadError, ssl.SSLError
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject = context.wrap_bio(self._incoming, self._outgoing)

    def begin(self) -> bytes:
        """The first words."""
        self._shake()
        return self._outgoing.read()

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What it says in clear, and what is to be sent in return."""
        self._incoming.write(data)
        if not self.made:
            self._shake()
        plain = b""
        try:
            while self.made and (more := self._object.read(65536)):
                plain += more
        except self._wants:
            pass
        except self._refusal:
            self.refused = True
        return plain, self._outgoing.read()

    def wrap(self, data: bytes) -> bytes:
        self._object.write(data)
        return self._outgoing.read()

    def _shake(self) -> None:
        try:
            self._object.do_handshake()
            self.made = True
        except self._wants:
            pass
        except self._refusal:
            self.refused = True


def _frame(text: bytes) -> bytes:
    """As one masked text frame (RFC 6455 5.2); longer than 125 bytes, shorter than 64 KiB."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
    return b"\x81\xfe" + len(text).to_bytes(2, "big") + mask + masked


def options(local: tuple[str, int], target: tuple[str, int], call_id: str, transport: str = "UDP") -> bytes:
    """RFC 3261 11: a request that every UA answers."""
    here = f"{bracketed(local[0])}:{local[1]}"
    there = f"{bracketed(target[0])}:{target[1]}"
    suffix = "" if transport == "UDP" else f";transport={transport.lower().replace('wss', 'ws')}"
    lines = [
        f"OPTIONS sip:{there} SIP/2.0",
        f"Via: SIP/2.0/{transport} {here};rport;branch=z9hG4bKprobe{os.urandom(8).hex()}",
        "Max-Forwards: 70",
        f"From: <sip:watchdog@{here}>;tag={os.urandom(6).hex()}",
        f"To: <sip:{there}>",
        f"Call-ID: {call_id}",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:watchdog@{here}{suffix}>",
        "User-Agent: sofia-node watchdog",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
