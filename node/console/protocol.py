"""Framing of the event socket, both directions, sans I/O.

A client sends a command line, header lines and an empty line, then as many bytes as its Content-Length names. The
server sends header lines, an empty line, then a body if Content-Length is there. Lines end in LF; CR is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

LINES = 64 * 1024
"Bytes that the lines of one command may take."
BODY = 1024 * 1024
"Bytes that the body of one command may take."
STRANGER_LINES = 2 * 1024
"The same for a client that has not logged in: nobody needs more to say a password."
STRANGER_BODY = 0


class TooMuch(Exception):
    """The peer sent a line or a body beyond what we take; the connection cannot go on."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a client sent: its command line, the headers below it, and the body."""

    line: str
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""

    def header(self, name: str) -> str:
        """The first header of that name, whatever its case; empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")


@dataclass(frozen=True, slots=True)
class Message:
    """What a server sent."""

    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def reply(self) -> str:
        return self.headers.get("Reply-Text", "")


class _Framer:
    """Cuts a byte stream into blocks of lines with their bodies."""

    def __init__(self, lines: int, body: int) -> None:
        self.lines = lines
        self.body = body
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def cut(self) -> tuple[list[str], str] | None:
        """The next whole block, or None when more must come. Raises TooMuch."""
        start = 0
        while start < len(self._buffer) and self._buffer[start] in b"\r\n":
            start += 1
        if start:
            del self._buffer[:start]
        end, after = self._empty_line()
        if end < 0 or end > self.lines:
            if len(self._buffer) > self.lines:
                raise TooMuch(f"more than {self.lines} bytes of lines")
            return None
        lines = self._buffer[:end].decode("utf-8", "replace").replace("\r", "").split("\n")
        length = _length(lines)
        if not 0 <= length <= self.body:
            raise TooMuch(f"a body of {length} bytes")
        if len(self._buffer) < after + length:
            return None
        body = self._buffer[after : after + length].decode("utf-8", "replace")
        del self._buffer[: after + length]
        return lines, body

    def _empty_line(self) -> tuple[int, int]:
        """Where the lines end and where the body begins; -1 while the empty line is not there."""
        plain = self._buffer.find(b"\n\n")
        with_cr = self._buffer.find(b"\n\r\n", 0, plain + 1 if plain >= 0 else len(self._buffer))
        if with_cr >= 0:
            return with_cr, with_cr + 3
        return plain, plain + 2


class CommandReader:
    """The server's ear: bytes in, commands out."""

    def __init__(self) -> None:
        self._framer = _Framer(STRANGER_LINES, STRANGER_BODY)

    def trust(self) -> None:
        """The client has logged in: take commands of the usual size."""
        self._framer.lines = LINES
        self._framer.body = BODY

    def feed(self, data: bytes) -> None:
        self._framer.feed(data)

    def next(self) -> Command | None:
        """The next whole command, or None. Raises TooMuch."""
        block = self._framer.cut()
        if block is None:
            return None
        lines, body = block
        return Command(lines[0].strip(), tuple(_header(line) for line in lines[1:] if ":" in line), body)


class MessageReader:
    """The client's ear: bytes in, messages out."""

    def __init__(self) -> None:
        self._framer = _Framer(LINES, 64 * BODY)

    def feed(self, data: bytes) -> list[Message]:
        self._framer.feed(data)
        messages = []
        while (block := self._framer.cut()) is not None:
            lines, body = block
            messages.append(Message(dict(_header(line) for line in lines if ":" in line), body))
        return messages


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip(), value.strip()


def _length(lines: list[str]) -> int:
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            try:
                return int(value)
            except ValueError:
                return -1
    return 0


# ---- what the server sends -----------------------------------------------------------------------------------------


def auth_request() -> bytes:
    return b"Content-Type: auth/request\n\n"


def rude_rejection() -> bytes:
    return _with_body("Access Denied, go away.\n", ("Content-Type", "text/rude-rejection"))


def disconnect_notice() -> bytes:
    return _with_body("Disconnected, goodbye.\n", ("Content-Type", "text/disconnect-notice"))


def command_reply(text: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    lines = ["Content-Type: command/reply", f"Reply-Text: {text}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return _encode("\n".join(lines) + "\n\n")


def api_response(text: str) -> bytes:
    """The reply to `api`; a command that wrote nothing becomes an error, as FreeSWITCH has it."""
    body = _encode(text or "-ERR no reply\n")
    return b"Content-Type: api/response\nContent-Length: %d\n\n" % len(body) + body


def event_message(form: str, text: str) -> bytes:
    body = _encode(text)
    return b"Content-Length: %d\nContent-Type: text/event-%s\n\n" % (len(body), form.encode()) + body


def log_data(text: str, level: int, *, file: str = "", function: str = "", line: int = 0) -> bytes:
    return _with_body(
        text,
        ("Content-Type", "log/data"),
        ("Log-Level", str(level)),
        ("Text-Channel", "0"),
        ("Log-File", file),
        ("Log-Func", function),
        ("Log-Line", str(line)),
        ("User-Data", ""),
    )


def _with_body(text: str, *headers: tuple[str, str]) -> bytes:
    body = _encode(text)
    first, *rest = [f"{name}: {value}\n" for name, value in headers]
    return _encode("".join([first, f"Content-Length: {len(body)}\n", *rest, "\n"])) + body


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


# ---- what a client sends -------------------------------------------------------------------------------------------


def command(line: str, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """One command. A line feed inside would begin a header, so it is refused."""
    if "\n" in line or "\r" in line:
        raise ValueError("a command is one line")
    return _encode("\n".join([line, *(f"{name}: {value}" for name, value in headers)]) + "\n\n")
