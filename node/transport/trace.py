"""Who may look at messages as they come and go: the log (`siptrace`), a file (`TPORT_DUMP`), a capture server (HEP).

A profile that nobody looks at is not in `Trace.profiles`, and its messages pay for one look into an empty set.
Secrets are masked, unless `trace-secrets` says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import Literal

from node.config.capture import CaptureServer
from node.config.profile import ProfileSettings
from node.config.sections import GlobalSettings
from node.debug import siptrace
from node.sip.flow import Flow
from node.sip.mask import masked, readable
from node.transport.capture import Capture
from node.transport.hep import Captured

log = logging.getLogger(__name__)

Way = Literal["recv", "send"]

RULE = "-" * 72


class Trace:
    """All who look at the messages of one worker."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, settings: Mapping[str, ProfileSettings], environment: Mapping[str, str]
    ) -> None:
        self.profiles: frozenset[str] = frozenset()
        "Those whose messages somebody looks at."
        self.lost = 0
        "Messages that the dump file did not take."
        self._loop = loop
        self._environment = environment
        self._known = frozenset(settings)
        everything = bool(environment.get("TPORT_LOG"))
        self._traced = {name for name, each in settings.items() if each.sip_trace or everything}
        self._captured: set[str] = set()
        self._secrets = False
        self._address = ""
        self._capture: Capture | None = None
        self._dump = Dump(environment["TPORT_DUMP"], loop) if environment.get("TPORT_DUMP") else None
        self._settle()

    def configure(self, settings: Mapping[str, ProfileSettings], general: GlobalSettings) -> None:
        """Go by another configuration. As in FreeSWITCH it turns captures on, never off, and leaves the trace alone."""
        new = frozenset(settings) - self._known
        self._known = frozenset(settings)
        everything = bool(self._environment.get("TPORT_LOG"))
        self._traced |= {name for name in new if settings[name].sip_trace or everything}
        self._captured |= {name for name, each in settings.items() if each.sip_capture}
        if self._environment.get("TPORT_CAPT"):
            self._captured |= self._known
        self._secrets = general.trace_secrets
        self._use(self._environment.get("TPORT_CAPT") or general.capture_server)
        self._settle()

    def siptrace(self, profile: str, *, on: bool) -> None:
        """Log each message of a profile, or stop it."""
        (self._traced.add if on else self._traced.discard)(profile)
        self._settle()

    def capture(self, profile: str, *, on: bool) -> None:
        """Send each message of a profile to the capture server, or stop it."""
        if on and self._capture is None:
            log.warning("profile %s: there is no capture-server in the global settings of sofia.conf", profile)
        (self._captured.add if on else self._captured.discard)(profile)
        self._settle()

    def seen(self, way: Way, data: bytes, flow: Flow) -> None:
        """A message came or goes. Never raises."""
        at = time.time()
        shown = data if self._secrets else masked(data)
        if flow.profile in self._traced and siptrace.heard:
            siptrace.say("%s", traced(way, shown, flow, at, size=len(data)))
        if self._capture is not None and flow.profile in self._captured:
            ends = (flow.remote, flow.local) if way == "recv" else (flow.local, flow.remote)
            self._capture.send(Captured(shown, flow.transport, *ends, at))
        if self._dump is not None:
            self._dump.write(stamp(way, len(data), flow, at).encode() + b"\n" + shown + b"\v\n")

    def close(self) -> None:
        if self._capture is not None:
            self._capture.close()
            self._capture = None
        if self._dump is not None:
            self._dump.close()
            self._dump = None
        self.profiles = frozenset()

    def _use(self, address: str) -> None:
        if address == self._address:
            return
        if self._capture is not None:
            self._capture.close()
        self._address, self._capture = address, None
        if address:
            try:
                self._capture = Capture(CaptureServer.parse(address), self._loop)
            except ValueError as error:
                log.warning("TPORT_CAPT %s: nothing is captured", error)

    def _settle(self) -> None:
        watched = set(self._traced)
        if self._capture is not None:
            watched |= self._captured
        if self._dump is not None:
            watched |= self._known
        self.profiles = frozenset(watched)


class Dump:
    """The file of `TPORT_DUMP`: what the messages of one turn of the loop add is written at its end, in one piece."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._pieces: list[bytes] = []
        self._broken = False
        self._file = -1
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._fail(error)
        else:
            self._pieces.append(f"dump started at {time.ctime()}\n\n".encode())
            self._flush()

    def write(self, piece: bytes) -> None:
        if self._file < 0:
            return
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(piece)

    def close(self) -> None:
        self._flush()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _flush(self) -> None:
        pieces, self._pieces = self._pieces, []
        if not pieces or self._file < 0:
            return
        try:
            os.write(self._file, b"".join(pieces))
        except OSError as error:
            self._fail(error)
        else:
            self._broken = False

    def _fail(self, error: OSError) -> None:
        if not self._broken:
            self._broken = True
            log.error("TPORT_DUMP %s: %s", self._path, error)


def traced(way: Way, data: bytes, flow: Flow, at: float, *, size: int | None = None) -> str:
    """One message as FreeSWITCH traces it; `size` is its length where `data` has been masked."""
    return f"{stamp(way, len(data) if size is None else size, flow, at)}\n{RULE}\n{readable(data)}"


def stamp(way: Way, size: int, flow: Flow, at: float) -> str:
    """`recv 413 bytes from udp/[127.0.0.11]:5062 at 03:53:47.200056:`"""
    clock = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1_000_000):06}"
    host, port = flow.remote
    preposition = "from" if way == "recv" else "to"
    return f"{way} {size} bytes {preposition} {flow.transport.lower()}/[{host}]:{port} at {clock}:"
