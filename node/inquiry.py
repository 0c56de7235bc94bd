"""What the console and a worker say to each other: length-prefixed msgpack frames on the worker's Unix stream.

Four bytes, big endian, say how long the msgpack that follows is. The console asks (`Question`) and names the events it
wants (`Subscribe`); the worker answers each question once (`Reply`, with the question's number) and tells events
(`Happened`). Both sides use this module, so it must not import what only one of them has.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from node.events import Event
from node.text import encodable

log = logging.getLogger(__name__)

MAXIMUM = 64 << 20
"Bytes of one frame; a peer that announces more is cut off."


class Question(msgspec.Struct, tag=True):
    """Asked by the console; verbs are those of `node.worker` (`channels`, `calls`, `kill`, `registrations`, ...)."""

    number: int
    verb: str
    words: list[str] = []


class Subscribe(msgspec.Struct, tag=True):
    """The full set of event names (and CUSTOM subclasses, or `ALL`) this console wants from now on."""

    names: list[str] = []


class Reply(msgspec.Struct, tag=True):
    """The answer to the question of that number; when not `ok`, `value` is the reason in words."""

    number: int
    ok: bool
    value: Any = None


class Happened(msgspec.Struct, tag=True):
    """An event, as fired in the worker."""

    event: Event


class BrokenFrame(Exception):
    """The peer does not speak this protocol; close the connection."""


Frame = Question | Subscribe | Reply | Happened

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def encode(frame: Frame) -> bytes:
    """One frame with its length before it."""
    try:
        data = _encoder.encode(frame)
    except UnicodeEncodeError:
        data = _encoder.encode(encodable(frame))
    return _LENGTH.pack(len(data)) + data


class Frames:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[Question | Subscribe | Reply | Happened]:
        """Take bytes, give back the frames that are complete. Raises BrokenFrame."""
        self._kept += data
        frames: list[Question | Subscribe | Reply | Happened] = []
        start = 0
        while len(self._kept) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._kept, start)
            if length > MAXIMUM:
                raise BrokenFrame(f"a frame of {length} bytes")
            end = start + _LENGTH.size + length
            if len(self._kept) < end:
                break
            try:
                frames.append(_decoder.decode(memoryview(self._kept)[start + _LENGTH.size : end]))
            except msgspec.MsgspecError as error:
                raise BrokenFrame(str(error)) from error
            start = end
        del self._kept[:start]
        return frames


# ---- the worker's side ---------------------------------------------------------------------------------------------

UNSENT = 32 << 20
"Bytes that may wait for a console to read; then it is cut off, and may come again."

Then = Callable[[bool, Any], None]
Respond = Callable[[str, list[str], Then], None]
"Verb, words, and what to call once with `ok` and the value."


class InquiryServer:
    """Answers whoever connects to the worker's socket, and tells them the events they named."""

    def __init__(
        self, path: Path, loop: asyncio.AbstractEventLoop, *, respond: Respond, want: Callable[[set[str]], None]
    ) -> None:
        self._path = path
        self._loop = loop
        self._respond = respond
        self._want = want
        self._asking: set[Console] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        # Bound beside its place and moved there: a console that looks meanwhile finds a socket that listens.
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.unlink(missing_ok=True)
        self._sock.bind(str(temporary))
        self._sock.listen(64)
        temporary.rename(path)
        loop.add_reader(self._sock.fileno(), self._accept)

    def tell(self, event: Event) -> None:
        """Send an event to those that want it. Listens to the event stream of the worker."""
        name = event.subclass or event.name
        data = b""
        for each in list(self._asking):
            if name in each.names or "ALL" in each.names:
                data = data or encode(Happened(event))
                each.send(data)

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for each in list(self._asking):
            each.close()

    def leave(self) -> None:
        """Close, and take the socket's name away: no successor will come."""
        self._path.unlink(missing_ok=True)
        self.close()

    def answer(self, question: Question, then: Callable[[Reply], None]) -> None:
        """Have a question answered; what breaks is the answer too."""

        def answered(ok: bool, value: Any, /) -> None:
            then(Reply(question.number, ok, value))

        try:
            self._respond(question.verb, question.words, answered)
        except Exception as error:
            log.exception("the inquiry `%s` broke", question.verb)
            answered(False, f"{type(error).__name__}: {error}")

    def subscribed(self) -> None:
        self._want(set().union(*(each.names for each in self._asking)))

    def gone(self, console: Console) -> None:
        self._asking.discard(console)
        self.subscribed()

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        self._asking.add(Console(sock, self, self._loop))


class Console:
    """One connection of a console."""

    def __init__(self, sock: socket.socket, server: InquiryServer, loop: asyncio.AbstractEventLoop) -> None:
        sock.setblocking(False)
        self.names: frozenset[str] = frozenset()
        self._sock = sock
        self._server = server
        self._loop = loop
        self._frames = Frames()
        self._unsent = bytearray()
        self._closed = False
        loop.add_reader(sock.fileno(), self._read)

    def send(self, data: bytes) -> None:
        if self._closed:
            return
        if not self._unsent:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                self.close()
                return
            if not data:
                return
            self._loop.add_writer(self._sock.fileno(), self._write)
        self._unsent += data
        if len(self._unsent) > UNSENT:
            log.warning("a console does not read its events, cutting it off")
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._server.gone(self)

    def _write(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())

    def _read(self) -> None:
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            frames = self._frames.feed(data)
        except BrokenFrame as error:
            log.warning("a console speaks nonsense: %s", error)
            self.close()
            return
        for frame in frames:
            if isinstance(frame, Question):
                self._server.answer(frame, lambda reply: self.send(encode(reply)))
            elif isinstance(frame, Subscribe):
                self.names = frozenset(frame.names)
                self._server.subscribed()
