"""What the console and a worker say to each other: length-prefixed msgpack frames on the worker's Unix stream.

Four bytes, big endian, say how long the msgpack that follows is. The console asks (`Question`) and names the events it
wants (`Subscribe`); the worker answers each question once (`Reply`, with the question's number) and tells events
(`Happened`). Both sides use this module, so it must not import what only one of them has.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from node.events import Event

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
    data = _encoder.encode(frame)
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
