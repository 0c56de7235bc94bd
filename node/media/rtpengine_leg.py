"""A leg that has its port at an rtpengine, as its owner remembers it, and the one of our own media process that serves it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from node.media.anchored import Anchored, Inside
from node.media.control import CodecName
from node.media.errors import MediaError
from node.media.rtpengine_session import NOWHERE, Point, Session

Opened = Callable[[Anchored | MediaError], None]
Ended = Callable[[MediaError | None], None]


class Relay(Protocol):
    """What is needed of our own media process."""

    def open(
        self,
        leg: str,
        *,
        address: str,
        first: int,
        last: int,
        port: int | None = None,
        dscp: int = 46,
        then: Callable[[int | MediaError], None],
    ) -> None: ...

    def remote(self, leg: str, host: str, port: int, rtcp_port: int) -> None: ...

    def join(self, a: str, b: str) -> None: ...

    def part(self, leg: str) -> None: ...

    def close(self, leg: str) -> None: ...

    def play(
        self, leg: str, source: str, *, payload_type: int, codec: CodecName, then: Ended, skip: float = 0.0
    ) -> None: ...

    def stop(self, leg: str) -> None: ...

    def echo(self, leg: str, on: bool) -> None: ...


@dataclass(slots=True)
class Inner:
    """The leg of our own media process that a leg of the engine is served by."""

    name: str
    port: int = 0
    act: Callable[[str], None] | None = None
    "What it is to do, once its packets arrive."
    ended: Ended | None = None
    "Who waits for the end of that, as long as it has not begun."


@dataclass(slots=True)
class Leg:
    """One that has its port at an rtpengine."""

    name: str
    session: Session
    tag: str
    inside: Inside
    last: Anchored | None
    side: str = ""
    "The inner side: another one's, once a leg was opened beside this one."
    remote: Point = NOWHERE
    joined: str = ""
    outside: str = ""
    "Whom of our own relay it is joined with."
    inner: Inner | None = None
    untouched: bool = False
    "It goes on as a predecessor left it, until we hear what it does."
    waiting: list[Opened] = field(default_factory=list)
