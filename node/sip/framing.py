"""Messages out of a stream (RFC 3261 18.3)."""

from __future__ import annotations

from enum import Enum


class Ping(Enum):
    """RFC 5626 3.5.1 on a stream."""

    PING = b"\r\n\r\n"
    "Answer it with PONG's bytes."
    PONG = b"\r\n"


class StreamFramer:
    """Cuts a stream into messages by Content-Length."""

    def __init__(self, maximum: int = 65536) -> None: ...

    def feed(self, data: bytes) -> list[bytes | Ping]:
        """The whole messages and pings that are complete now. Raises Malformed if the stream cannot be cut: close it."""
        raise NotImplementedError
