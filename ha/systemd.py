"""What systemd is told (sd_notify): ready, stopping, alive."""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)


class Systemd:
    """Says nothing where nobody listens: `NOTIFY_SOCKET` is not set outside a unit of Type=notify."""

    def __init__(self, environ: dict[str, str] | None = None) -> None:
        environ = dict(os.environ) if environ is None else environ
        self._path = environ.get("NOTIFY_SOCKET", "")
        microseconds = environ.get("WATCHDOG_USEC", "0")
        self.interval = int(microseconds) / 2e6 if microseconds.isdigit() else 0.0
        "Seconds between two signs of life; 0: none are wanted."

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        if not self._path:
            return
        # A leading @ stands for the abstract namespace.
        path = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(text.encode(), path)
        except BlockingIOError:
            log.warning("systemd is slow to read %s", self._path)  # it hears the next one
        except OSError as error:
            log.warning("systemd does not listen on %s: %s", self._path, error)
            self._path = ""
