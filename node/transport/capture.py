"""Sends copies of messages to the capture server. It may be slow, gone or unknown: nobody waits for it."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from node.config.capture import CaptureServer
from node.transport.hep import Captured, packet

log = logging.getLogger(__name__)

QUIET = 60.0
"Seconds between two log lines about captures that were lost."
AGAIN = 30.0
"Seconds until a name that could not be resolved is asked for again."


class Capture:
    """One capture server, by a UDP socket of its own."""

    def __init__(self, server: CaptureServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.sent = 0
        self.lost = 0
        self._loop = loop
        self._sock: socket.socket | None = None
        self._told = -QUIET
        self._again: asyncio.TimerHandle | None = None
        self._closed = False
        self._resolve()

    def send(self, message: Captured) -> None:
        """Send a copy now, or lose it."""
        if self._sock is None:
            self._lose("its address is not known yet")
            return
        try:
            self._sock.send(packet(self.server, message))
        except (OSError, ValueError) as error:
            # A server that is not there is known by the answer to the packet before; this one may well get through.
            self._lose(error)
        else:
            self.sent += 1

    def close(self) -> None:
        self._closed = True
        if self._again is not None:
            self._again.cancel()
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def _resolve(self) -> None:
        """A numeric address at once, a name beside the loop."""
        try:
            socket.inet_pton(socket.AF_INET6 if ":" in self.server.host else socket.AF_INET, self.server.host)
        except OSError:
            asking = self._loop.run_in_executor(None, self._look_up)
            asking.add_done_callback(self._on_resolved)
        else:
            self._connect(self._look_up())

    def _look_up(self) -> list[Any]:
        return socket.getaddrinfo(self.server.host, self.server.port, type=socket.SOCK_DGRAM)

    def _on_resolved(self, asking: asyncio.Future[list[Any]]) -> None:
        if self._closed or asking.cancelled():
            return
        error = asking.exception()
        if error is None:
            self._connect(asking.result())
        else:
            log.warning("capture server %s: %s", self.server.host, error)
            self._again = self._loop.call_later(AGAIN, self._resolve)

    def _connect(self, found: list[Any]) -> None:
        family, kind, protocol, _name, address = found[0]
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            log.warning("capture server %s: %s", self.server.host, error)
            self._again = self._loop.call_later(AGAIN, self._resolve)
            return
        self._sock = sock

    def _lose(self, why: object) -> None:
        self.lost += 1
        now = self._loop.time()
        if now - self._told >= QUIET:
            self._told = now
            log.warning("capture server %s:%d: %s (%d lost so far)", self.server.host, self.server.port, why, self.lost)
