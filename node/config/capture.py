"""`capture-server` of sofia.conf: where copies of messages are sent."""

from __future__ import annotations

import re
from dataclasses import dataclass

SERVER = re.compile(r"udp:(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:;\[\]]+):(?P<port>\d{1,5})(?P<params>(?:;[^;]*)*)")


@dataclass(frozen=True, slots=True)
class CaptureServer:
    """`udp:host:port;hep=3;capture_id=100`."""

    host: str
    "A name, or an address without brackets."
    port: int
    version: int = 3
    "Of HEP: 1 to 3."
    capture_id: int = 200

    @classmethod
    def parse(cls, text: str) -> CaptureServer:
        """Raises ValueError with what is wrong."""
        match = SERVER.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"must be udp:host:port;hep=3;capture_id=100, not {text!r}")
        port = int(match["port"])
        if not 1 <= port <= 65535:
            raise ValueError(f"has no port {port}")
        version, capture_id = 3, 200
        for param in filter(None, match["params"].split(";")):
            name, _, value = param.strip().partition("=")
            if name == "hep" and value in ("1", "2", "3"):
                version = int(value)
            elif name == "capture_id" and value.isdecimal() and 1 <= int(value) <= 0xFFFFFFFF:
                capture_id = int(value)
            else:
                raise ValueError(f"takes hep=1..3 and capture_id=1..4294967295, not {param!r}")
        return cls(match["host"].strip("[]"), port, version, capture_id)
