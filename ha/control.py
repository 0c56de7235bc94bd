"""The Unix socket `control`: one JSON object a line in, one a line out. For operators and cluster managers."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ha.loop import Loop

log = logging.getLogger(__name__)

LONGEST = 65536
Answer = Callable[[dict[str, Any]], None]


class Control:
    """Listens in the run directory; `on_request` gets each request and the way to answer it, at once or later."""

    def __init__(self, loop: Loop, path: Path, on_request: Callable[[dict[str, Any], Answer], None]) -> None:
        self._loop, self._path, self._on_request = loop, path, on_request
        self._listening: socket.socket | None = None
        self._callers: set[Caller] = set()

    def listen(self) -> None:
        """Raises OSError."""
        # The lock on the run directory is ours: what lies here is left over.
        self._path.unlink(missing_ok=True)
        sock = self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.bind(str(self._path))
        self._path.chmod(0o600)
        sock.listen(16)
        self._loop.watch(sock, self._accept)

    def close(self) -> None:
        if self._listening is not None:
            self._loop.forget(self._listening)
            self._listening.close()
            self._listening = None
            self._path.unlink(missing_ok=True)
        for caller in list(self._callers):
            caller.close()

    def _accept(self) -> None:
        assert self._listening is not None, "only a listening socket is watched"
        with contextlib.suppress(OSError):
            sock, _address = self._listening.accept()
            self._callers.add(Caller(self._loop, sock, self._on_request, self._callers.discard))


class Caller:
    """One connection."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_request: Callable[[dict[str, Any], Answer], None],
        on_closed: Callable[[Caller], None],
    ) -> None:
        self._loop, self._socket, self._on_request, self._on_closed = loop, sock, on_request, on_closed
        self._buffer = b""
        self._closed = False
        sock.setblocking(False)
        loop.watch(sock, self._on_readable)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._buffer += data
        if not data or len(self._buffer) > LONGEST:
            self.close()
            return
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._on_line(line)

    def _on_line(self, line: bytes) -> None:
        try:
            request = json.loads(line)
        except ValueError:
            request = None
        if not isinstance(request, dict):
            self.answer({"ok": False, "error": "a request is one JSON object on one line"})
            return
        self._on_request(request, self.answer)

    def answer(self, answer: dict[str, Any]) -> None:
        if self._closed:
            return
        try:
            # A status is a few kilobytes and fits the socket's buffer; who does not read it is not waited for.
            self._socket.sendall(json.dumps(answer).encode() + b"\n")
        except OSError:
            self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_closed(self)
            self._loop.forget(self._socket)
            self._socket.close()
