"""Who this node is."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Identity:
    """Born with the node, given to each of its processes."""

    node: str
    "Name of this node of the pair; the other one has another name."
    core_uuid: str
    "New at every start of the node (`Core-UUID` of its events)."
    started: float
    "Seconds since 1970."
    standalone: bool = True
    "There is no peer and no shared store: always active."


@cache
def core_uuid() -> str:
    """The UUID of this run of the node: made once in the supervisor, inherited by every child."""
    return str(uuid.uuid4())
