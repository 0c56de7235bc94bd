"""An OPTIONS to a profile's own socket, from the supervisor's: what no idle profile fails to answer."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from ha.loop import Loop
from node.config.profile import bracketed


class Probe:
    """Sends probes to one address and hears the answers; any answer will do. A new port each time.

    Workers that share a port by SO_REUSEPORT are chosen by the kernel from the source port, so all get their turn.
    """

    def __init__(self, loop: Loop, target: tuple[str, int], on_answer: Callable[[], None]) -> None:
        self._loop, self._on_answer = loop, on_answer
        host, port = target
        unspecified = {"0.0.0.0": "127.0.0.1", "::": "::1"}
        self._target = (unspecified.get(host, host), port)
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


def options(local: tuple[str, int], target: tuple[str, int], call_id: str) -> bytes:
    """RFC 3261 11: a request that every UA answers."""
    here = f"{bracketed(local[0])}:{local[1]}"
    there = f"{bracketed(target[0])}:{target[1]}"
    lines = [
        f"OPTIONS sip:{there} SIP/2.0",
        f"Via: SIP/2.0/UDP {here};rport;branch=z9hG4bKprobe{os.urandom(8).hex()}",
        "Max-Forwards: 70",
        f"From: <sip:watchdog@{here}>;tag={os.urandom(6).hex()}",
        f"To: <sip:{there}>",
        f"Call-ID: {call_id}",
        "CSeq: 1 OPTIONS",
        f"Contact: <sip:watchdog@{here}>",
        "User-Agent: sofia-node watchdog",
        "Content-Length: 0",
    ]
    return "\r\n".join([*lines, "", ""]).encode()
