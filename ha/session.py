"""The peer link's protocol, sans I/O: who the other one is, proven by a shared secret, and what is said.

Both sides send a greeting with a challenge, then a proof over both challenges; from then on every message carries a
code made with a key of this one conversation, so that nothing can be inserted, repeated or sent back.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from typing import Literal

import msgspec

VERSION = 1
MAXIMUM = 4096
"Bytes of one frame: the messages are tiny, whoever sends more is no peer."
CODE = 16

Side = Literal["dialler", "listener"]


class Refused(Exception):
    """The other side is not our peer; the text says why."""


class Greeting(msgspec.Struct, tag=True, kw_only=True):
    version: int
    node: str
    challenge: bytes


class Proof(msgspec.Struct, tag=True):
    code: bytes


class PeerBeat(msgspec.Struct, tag=True, kw_only=True):
    """Alive, and this is how I stand."""

    role: str
    epoch: int
    ready: bool
    lease: str
    "How the sender sees the lease: a `Holding`, for people to read."
    bound: float = 0.0
    "Seconds for which the sender will still not claim."
    addressed: bool = False
    "It holds the shared address."
    home: str = ""
    "The addresses of its profiles, for the other one to see whether they are shared."


class AskPromise(msgspec.Struct, tag=True):
    """Do not claim for so long, counted from when you read this."""

    number: int
    seconds: float


class Promise(msgspec.Struct, tag=True):
    """What was asked for under this number is promised; 0 seconds: it is not."""

    number: int
    seconds: float
    ruled: int = 0
    "The newest epoch that the sender has had since it was started."


class PleaseHandOver(msgspec.Struct, tag=True):
    """The operator wants the sender to be active: let go and release the lease."""


class HandedOver(msgspec.Struct, tag=True):
    """I have let go and released the lease: claim it now."""

    kept: bool = False
    "But for the shared address: my relays forward until the receiver takes it."


Said = PeerBeat | AskPromise | Promise | PleaseHandOver | HandedOver
_Frame = Greeting | Proof | Said

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


class Session:
    """One connection's conversation. `outgoing` takes what is to be sent, `receive` gives what was said."""

    def __init__(self, side: Side, node: str, secret: bytes) -> None:
        self.peer = ""
        "Name of the other node, once it is proven."
        self._side: Side = side
        self._node, self._secret = node, secret
        self._challenge = os.urandom(32)
        self._greeting: Greeting | None = None
        self._key = b""
        self._sent = self._received = 0
        self._buffer = b""
        self._out = [_framed(_encode(Greeting(version=VERSION, node=node, challenge=self._challenge)))]

    @property
    def open(self) -> bool:
        return bool(self.peer)

    def say(self, message: Said) -> None:
        """Queue a message; before the session is open it is dropped."""
        if self.open:
            data = _encode(message)
            self._out.append(_framed(data + self._code(self._side, self._sent, data)))
            self._sent += 1

    def outgoing(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def receive(self, data: bytes) -> list[Said]:
        """What the bytes say. Raises Refused: then the connection must be closed."""
        self._buffer += data
        said: list[Said] = []
        while len(self._buffer) >= 2:
            (length,) = struct.unpack_from("!H", self._buffer)
            if length > MAXIMUM:
                raise Refused("it sends frames that no peer sends")
            if len(self._buffer) < 2 + length:
                break
            frame, self._buffer = self._buffer[2 : 2 + length], self._buffer[2 + length :]
            said += self._on_frame(frame)
        return said

    def _on_frame(self, frame: bytes) -> list[Said]:
        if self.open:
            data, code = frame[:-CODE], frame[-CODE:]
            if not hmac.compare_digest(code, self._code(_other(self._side), self._received, data)):
                raise Refused("a message of it carries a wrong code")
            self._received += 1
            frame = data
        try:
            message = _decode(frame)
        except msgspec.MsgspecError:
            raise Refused("it does not speak the peer link's protocol") from None
        match message:
            case Greeting() if self._greeting is None:
                self._on_greeting(message)
            case Proof() if self._greeting is not None and not self.open:
                self._on_proof(message, self._greeting)
            case Greeting() | Proof():
                raise Refused("it greets twice")
            case _ if self.open:
                return [message]
            case _:
                raise Refused("it speaks before it has proven who it is")
        return []

    def _on_greeting(self, greeting: Greeting) -> None:
        if greeting.version != VERSION:
            raise Refused(f"it speaks version {greeting.version} of the peer link, we speak {VERSION}")
        if greeting.node == self._node:
            raise Refused(f"it calls itself {greeting.node!r}, as this node does: give the nodes different names")
        self._greeting = greeting
        self._out.append(_framed(_encode(Proof(self._proof(self._side, self._node, greeting.node)))))

    def _on_proof(self, proof: Proof, greeting: Greeting) -> None:
        if not hmac.compare_digest(proof.code, self._proof(_other(self._side), greeting.node, self._node)):
            raise Refused("it does not know the secret of this pair")
        self._key = hmac.digest(self._secret, b"conversation" + self._challenges(), hashlib.sha256)
        self.peer = greeting.node

    def _proof(self, side: Side, of: str, to: str) -> bytes:
        """The side is part of it, so that a proof cannot be sent back as one's own."""
        text = _encode(["sofia-node peer", VERSION, side, of, to]) + self._challenges()
        return hmac.digest(self._secret, text, hashlib.sha256)

    def _challenges(self) -> bytes:
        assert self._greeting is not None, "both challenges are known only after the greeting"
        ours, theirs = self._challenge, self._greeting.challenge
        return ours + theirs if self._side == "dialler" else theirs + ours

    def _code(self, side: Side, number: int, data: bytes) -> bytes:
        return hmac.digest(self._key, f"{side} {number} ".encode() + data, hashlib.sha256)[:CODE]


def _other(side: Side) -> Side:
    return "listener" if side == "dialler" else "dialler"


def _framed(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data
