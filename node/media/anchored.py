"""Where a leg has its port when that is not our own relay, and where it may get one (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Anchored:
    """A port of an rtpengine: what a successor needs to go on with it."""

    engine: str
    "Address and port of its ng socket."
    call_id: str
    tag: str
    address: str
    "The address that it says it has, for our descriptions."
    port: int


@dataclass(frozen=True, slots=True)
class Wish:
    """A port of an rtpengine is wanted."""

    engines: Sequence[str]
    "The first of them that answers."
    beside: Sequence[str] = ()
    "Legs it will probably be joined with, best first."
    last: Anchored | None = None
    "There and nowhere else, for it has been there."


@dataclass(frozen=True, slots=True)
class Inside:
    """Where our own media process may open the ports it serves such a leg by."""

    address: str
    first: int
    last: int
    dscp: int
