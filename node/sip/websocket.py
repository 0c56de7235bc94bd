"""SIP over WebSocket (RFC 7118), the server's side of RFC 6455: the handshake, and messages out of frames and into them.

Pure: it is fed bytes and hands out messages and the bytes it wants sent. One WebSocket message is one SIP message.
Extensions (compression) are not negotiated.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from enum import IntEnum

PROTOCOL = "sip"
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"RFC 6455 1.3."
LONGEST_HEAD = 8192
"Bytes of the handshake's request."
LONGEST_CONTROL = 125

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Opcode(IntEnum):
    """RFC 6455 5.2."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class Fault(Exception):
    """The peer breaks the protocol; `code` is what the Close frame says (RFC 6455 7.4.1)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Refusal(Exception):
    """The handshake cannot be accepted; the HTTP status to answer with."""

    def __init__(self, status: str, text: str, *, headers: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class WebSocket:
    """One connection, from its handshake to its end. `over`: send what is `outgoing`, then close."""

    def __init__(self, maximum: int = 65535) -> None:
        self.opened = False
        self.over = False
        self.fault = ""
        "Why it ended, if the peer is to blame."
        self._maximum = maximum
        self._buffer = bytearray()
        self._searched = 0
        self._out = bytearray()
        self._message: bytearray | None = None
        "The data frames so far of a message that is not whole."
        self._text = False

    @property
    def held(self) -> int:
        """Bytes of something that is not whole yet; 0 if nothing has begun."""
        begun = 0 if self._message is None else 1 + len(self._message)
        return len(self._buffer) + begun

    def feed(self, data: bytes) -> list[bytes]:
        """The SIP messages that are complete now, those before a fault too."""
        found: list[bytes] = []
        if self.over:
            return found
        self._buffer += data
        try:
            if self.opened or self._shake_hands():
                self._cut(found)
        except Refusal as refusal:
            body = f"{refusal}\n"
            self._out += (
                f"HTTP/1.1 {refusal.status}\r\n{refusal.headers}Content-Type: text/plain\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            ).encode()
            self._end(str(refusal))
        except Fault as fault:
            self._out += frame(Opcode.CLOSE, fault.code.to_bytes(2, "big"))
            self._end(str(fault))
        return found

    def outgoing(self) -> bytes:
        """What is to be sent now: the handshake's answer, pongs, the Close frame."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def wrap(self, message: bytes) -> bytes:
        """A SIP message as the frame that carries it: as text where it is UTF-8 (RFC 7118 4.1)."""
        return frame(Opcode.TEXT if message.isascii() or _is_utf8(message) else Opcode.BINARY, message)

    def ping(self) -> bytes:
        """Sent now and then, to see whether the peer is there (RFC 7118 6)."""
        return frame(Opcode.PING, b"")

    def farewell(self, code: int = 1001) -> bytes:
        """The Close frame of a server that goes away."""
        return frame(Opcode.CLOSE, code.to_bytes(2, "big")) if self.opened and not self.over else b""

    def _end(self, fault: str = "") -> None:
        self.over = True
        self.fault = fault
        self._buffer.clear()
        self._message = None

    # ---- the handshake ---------------------------------------------------------------------------------------------

    def _shake_hands(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(self._buffer)
        if end > LONGEST_HEAD or (end < 0 and self._searched > LONGEST_HEAD):
            raise Refusal("431 Request Header Fields Too Large", "The request is too long.")
        if end < 0:
            if self._searched >= 4 and not b"GET ".startswith(bytes(self._buffer[:4])):
                raise Refusal("405 Method Not Allowed", "This is a WebSocket.", headers="Allow: GET\r\n")
            return False
        key = accepted(bytes(self._buffer[:end]))
        del self._buffer[: end + 4]
        self._out += (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
        ).encode()
        self.opened = True
        return True

    # ---- frames ----------------------------------------------------------------------------------------------------

    def _cut(self, found: list[bytes]) -> None:
        """Take all whole frames; messages go into `found`."""
        while not self.over:
            cut = self._frame()
            if cut is None:
                break
            final, opcode, payload = cut
            if opcode >= Opcode.CLOSE:
                self._control(opcode, payload)
                continue
            message = self._data(opcode, payload, final=final)
            if message is None:
                continue
            if message.strip(b"\r\n"):
                found.append(message)
            elif len(message) == 4:  # a CRLF ping, usable here too (RFC 7118 6, RFC 5626 3.5.1)
                self._out += frame(Opcode.TEXT, b"\r\n")

    def _frame(self) -> tuple[bool, int, bytes] | None:
        """The next whole frame: whether it is the last of its message, its opcode, its unmasked payload."""
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        first, second = buffer[0], buffer[1]
        opcode, size, start = first & 0x0F, second & 0x7F, 2
        if first & 0x70:
            raise Fault(1002, "a reserved bit is set")
        if opcode not in _OPCODES:
            raise Fault(1002, f"unknown opcode {opcode}")
        if not second & 0x80:
            raise Fault(1002, "a frame is not masked")
        if opcode >= Opcode.CLOSE and (size > LONGEST_CONTROL or not first & 0x80):
            raise Fault(1002, "a control frame is too long or in pieces")
        if size >= 126:
            width = 2 if size == 126 else 8
            start += width
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[2:start], "big")
            if size < (126 if width == 2 else 1 << 16) or size >> 63:
                raise Fault(1002, "a length is not written in the shortest way")
        if size + len(self._message or b"") > self._maximum:
            raise Fault(1009, "a message is too long")
        end = start + 4 + size
        if len(buffer) < end:
            return None
        payload = masked(bytes(buffer[start + 4 : end]), bytes(buffer[start : start + 4]))
        del buffer[:end]
        return bool(first & 0x80), opcode, payload

    def _data(self, opcode: int, payload: bytes, *, final: bool) -> bytes | None:
        """The message that this frame makes whole."""
        if (opcode == Opcode.CONTINUATION) is (self._message is None):
            raise Fault(1002, "a message begins within another one, or goes on without having begun")
        if opcode != Opcode.CONTINUATION:
            self._text = opcode == Opcode.TEXT
            if final:
                return self._checked(payload)
            self._message = bytearray()
        assert self._message is not None, "it has begun"
        self._message += payload
        if not final:
            return None
        whole, self._message = bytes(self._message), None
        return self._checked(whole)

    def _checked(self, message: bytes) -> bytes:
        if self._text and not message.isascii() and not _is_utf8(message):
            raise Fault(1007, "a text is not UTF-8")
        return message

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == Opcode.PING:
            self._out += frame(Opcode.PONG, payload)
        elif opcode == Opcode.CLOSE:
            if len(payload) == 1 or (payload and not _may_close(payload)):
                raise Fault(1002, "a Close frame cannot be read")
            self._out += frame(Opcode.CLOSE, payload[:2])
            self._end()


def frame(opcode: Opcode, payload: bytes) -> bytes:
    """One whole frame of a server: not masked (RFC 6455 5.1)."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def masked(payload: bytes, mask: bytes) -> bytes:
    """RFC 6455 5.3: its own inverse. As one number, because a loop over bytes takes a hundred times as long."""
    size = len(payload)
    whole = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big")


def accepted(head: bytes) -> str:
    """The Sec-WebSocket-Accept of a good request (RFC 6455 4.2, RFC 7118 4.1). Raises Refusal."""
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or words[2] != "HTTP/1.1":
        raise Refusal("400 Bad Request", "This is not HTTP/1.1.")
    if words[0] != "GET":
        raise Refusal("405 Method Not Allowed", "This is a WebSocket.", headers="Allow: GET\r\n")
    fields = _fields(lines[1:])
    if "websocket" not in _tokens(fields.get("upgrade", "")) or "upgrade" not in _tokens(fields.get("connection", "")):
        raise Refusal("426 Upgrade Required", "SIP over WebSocket is spoken here.", headers="Upgrade: websocket\r\n")
    if fields.get("sec-websocket-version", "") != "13":
        raise Refusal("426 Upgrade Required", "Only version 13 is known.", headers="Sec-WebSocket-Version: 13\r\n")
    if not fields.get("host"):
        raise Refusal("400 Bad Request", "Host is missing.")
    if PROTOCOL not in _tokens(fields.get("sec-websocket-protocol", "")):
        raise Refusal("400 Bad Request", "The subprotocol sip was not offered.")
    key = fields.get("sec-websocket-key", "")
    try:
        if len(base64.b64decode(key, validate=True)) != 16:
            raise ValueError
    except (binascii.Error, ValueError):
        raise Refusal("400 Bad Request", "Sec-WebSocket-Key is not 16 bytes.") from None
    return base64.b64encode(hashlib.sha1(key.encode("ascii") + GUID, usedforsecurity=False).digest()).decode()


def _fields(lines: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise Refusal("400 Bad Request", "A header field cannot be read.")
        name, value = name.lower(), value.strip(" \t")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _tokens(text: str) -> list[str]:
    return [word.strip().lower() for word in text.split(",")]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _may_close(payload: bytes) -> bool:
    """RFC 6455 7.4: the codes that may stand in a frame; the reason is UTF-8."""
    code = int.from_bytes(payload[:2], "big")
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    return (known or 3000 <= code <= 4999) and _is_utf8(payload[2:])


_OPCODES = frozenset(Opcode)
