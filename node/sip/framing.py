"""Messages out of a stream (RFC 3261 18.3)."""

from __future__ import annotations

import re
from enum import Enum

from node.sip.errors import Malformed, TooLarge
from node.sip.message import Request, parse


class Ping(Enum):
    """RFC 5626 3.5.1 on a stream."""

    PING = b"\r\n\r\n"
    "Answer it with PONG's bytes."
    PONG = b"\r\n"


_STRAY = re.compile(rb"(?:\r(?!\n|\Z)|\n)+")
"Line ends that are none of SIP's, up to one that may be: they are passed over."
_BLANK = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?:^|\n)(?:content-length|l)[ \t]*:[ \t]*(?:\r?\n[ \t]+)*([^\r\n]*)", re.IGNORECASE)


class StreamFramer:
    """Cuts a stream into messages by Content-Length. Each byte is looked at once, however small the pieces are."""

    def __init__(self, maximum: int = 65535) -> None:
        self._maximum = maximum
        self._buffer = bytearray()
        self._searched = 0
        self._missing = 0
        "Bytes the buffer must hold before it is worth looking again: the length of a message whose head is here."
        self._broken: Malformed | None = None
        self._half = False
        "Was a single CRLF the last that came?"

    def feed(self, data: bytes) -> list[bytes | Ping]:
        """The whole messages and pings that are complete now.

        Raises Malformed if the stream cannot be cut any further: answer its `request` if it has one, and close. What was
        complete before the trouble is handed out first; the error then comes with the next call, be it with b"".
        """
        self._buffer += data
        found: list[bytes | Ping] = []
        while self._broken is None and self._buffer and len(self._buffer) >= self._missing:
            item = self._next()
            if item is None:
                break
            found.append(item)
        if self._broken is not None and not found:
            raise self._broken
        return found

    @property
    def broken(self) -> bool:
        """Can nothing more come out of this stream?"""
        return self._broken is not None

    @property
    def held(self) -> int:
        """Bytes of a message or ping that is not whole yet."""
        return len(self._buffer)

    def _next(self) -> bytes | Ping | None:
        if self._buffer[0] in (13, 10):
            blank = self._blank()
            if blank is not None or not self._buffer or self._buffer[0] in (13, 10):
                return blank
        start, end = self._end_of_head(max(0, self._searched - 3))
        if not end:
            self._searched = len(self._buffer)
            if self._searched > self._maximum:
                self._broken = TooLarge("message", self._searched, self._maximum)
            return None
        size = self._length(end)
        if size is None:
            return None
        if len(self._buffer) < end + size:
            self._missing = end + size
            self._searched = start
            return None
        return self._take(end + size)

    def _blank(self) -> bytes | Ping | None:
        """CRLF between messages: two are a ping, one is a pong, or the first half of a ping that came in two pieces."""
        if self._buffer.startswith(b"\r\n\r\n"):
            del self._buffer[:4]
            self._half = False
            return Ping.PING
        if bytes(self._buffer[:4]) in (b"\r", b"\r\n\r"):
            return None
        if self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
            self._half = not self._half
            return Ping.PONG if self._half else Ping.PING
        stray = _STRAY.match(self._buffer)
        assert stray is not None, "a line end that is no CRLF"
        del self._buffer[: stray.end()]
        return self._blank() if self._buffer.startswith((b"\r", b"\n")) else None

    def _end_of_head(self, since: int) -> tuple[int, int]:
        """Where the empty line and the line end before it begin, and end; 0, 0 if they are not there."""
        buffer = self._buffer
        start = buffer.find(b"\r\n\r\n", since)
        if start >= 0 and buffer.find(b"\n\n", since, start) < 0 and buffer.find(b"\n\r\n", since, start + 3) < 0:
            return start, start + 4
        match = _BLANK.search(buffer, since)
        return match.span() if match is not None else (0, 0)

    def _length(self, end: int) -> int | None:
        """Content-Length of the head that ends there. One without is taken to have no body."""
        if 0 <= (size := self._plain_length(end)) <= self._maximum - end:
            return size
        lengths = {value.strip() for value in _LENGTH.findall(self._buffer, 0, end)}
        if end > self._maximum:
            self._broken = TooLarge("message", end, self._maximum)
            return None
        if not lengths:
            return 0
        text = lengths.pop()
        if lengths or not text.isdigit() or len(text) > 10:
            self._broken = self._refuse(bytes(self._buffer[:end]), text)
            return None
        size = int(text)
        if end + size > self._maximum:
            self._broken = self._refuse(bytes(self._buffer[:end]), text)
            self._broken = _with_request(TooLarge("message", end + size, self._maximum), self._broken)
            return None
        return size

    def _plain_length(self, end: int) -> int:
        """Content-Length as nearly everybody writes it, once and in full; -1 if that needs a closer look.

        A third of what the expression takes, which is tried at each line end.
        """
        head = self._buffer[:end].lower()
        if head.count(b"\ncontent-length") != 1 or head.find(b"\nl") >= 0 or head.startswith((b"content-length", b"l")):
            return -1
        start = head.find(b"\ncontent-length:") + 16
        text = head[start : head.find(b"\n", start)].strip(b" \t\r")
        return int(text) if start >= 16 and text.isdigit() and len(text) <= 10 else -1

    def _refuse(self, head: bytes, text: bytes) -> Malformed:
        error = Malformed("Content-Length", text.decode("ascii", "replace"))
        try:
            message = parse(head)
        except Malformed as refusal:
            return refusal
        error.request = message if isinstance(message, Request) else None
        return error

    def _take(self, size: int) -> bytes:
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._searched = self._missing = 0
        self._half = False
        return message


class SipStream:
    """SIP on a stream without a framing of its own: cuts it into messages, and answers pings (RFC 5626 3.5.1)."""

    opened = True
    over = False
    fault = ""

    def __init__(self, maximum: int = 65535) -> None:
        self._framer = StreamFramer(maximum)
        self._out = b""

    @property
    def held(self) -> int:
        """Bytes of something that is not whole yet."""
        return self._framer.held

    @property
    def broken(self) -> bool:
        """Does `feed`, be it with b"", raise from now on?"""
        return self._framer.broken

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. Raises Malformed as `StreamFramer.feed` does."""
        found: list[bytes] = []
        for item in self._framer.feed(data):
            if isinstance(item, bytes):
                found.append(item)
            elif item is Ping.PING:
                self._out += Ping.PONG.value
        return found

    def outgoing(self) -> bytes:
        """What is to be sent now: pongs."""
        out, self._out = self._out, b""
        return out

    def wrap(self, message: bytes) -> bytes:
        return message

    def ping(self) -> bytes:
        return Ping.PING.value

    def farewell(self) -> bytes:
        return b""


def _with_request(error: Malformed, source: Malformed) -> Malformed:
    error.request = source.request
    return error
