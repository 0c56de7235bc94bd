"""What the recoveries of a worker came to: counts of the present one, and the last legs with their results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

LAST = 2000
"Legs that are remembered, of those kept and of those lost each."


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one leg in a recovery."""

    uuid: str
    "Of the leg."
    call: str
    "UUID of its call."
    ok: bool
    cause: str
    "`revived`, `reinvited`, or why the leg was given up, e.g. `481`."
    profile: str = ""
    call_id: str = ""
    direction: str = ""
    status: int = 0
    "SIP status of the answer to its re-INVITE; 0 without one."

    @property
    def word(self) -> str:
        return "ok" if self.ok else "failed"

    def headers(self) -> list[tuple[str, str]]:
        """The fields of the events `sofia::recovery_recv` and `sofia::recovery_recovered`."""
        told = [*self.identity(), ("result", self.word), ("cause", self.cause)]
        return [*told, ("status", str(self.status))] if self.status else told

    def identity(self) -> list[tuple[str, str]]:
        return [
            ("profile_name", self.profile),
            ("recovered_uuid", self.uuid),
            ("call_uuid", self.call),
            ("call_id", self.call_id),
            ("direction", self.direction),
        ]


@dataclass(slots=True)
class Counts:
    """Of the present or the last recovery."""

    calls: int = 0
    legs: int = 0
    lost: int = 0
    reinvited: int = 0
    asked: int = 0
    "re-INVITEs whose final answer is not there."
    began: float = 0.0
    "Seconds since 1970; 0: there was none."
    ended: float = 0.0
    "0: it is under way."


class Ledger:
    """Kept by the switchboard; written by each recovery, read by `sofia recover status`."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self.counts = Counts()
        self._wall = wall
        self._kept: OrderedDict[str, tuple[float, Result]] = OrderedDict()
        self._lost: OrderedDict[str, tuple[float, Result]] = OrderedDict()

    def begin(self) -> None:
        """A claim begins; while another one is under way both count together."""
        if not self.counts.began or self.counts.ended:
            self.counts = Counts(began=self._wall())

    def end(self) -> None:
        """All is claimed, revived and answered."""
        if self.counts.began and not self.counts.ended:
            self.counts.ended = self._wall()

    def note(self, result: Result, before: Result | None) -> None:
        """`before`: what was noted of this leg earlier in the same recovery."""
        counts = self.counts
        counts.legs += before is None
        counts.lost += (not result.ok) - (before is not None and not before.ok)
        counts.reinvited += (result.cause == "reinvited") - (before is not None and before.cause == "reinvited")
        self._kept.pop(result.uuid, None)
        self._lost.pop(result.uuid, None)
        memory = self._kept if result.ok else self._lost
        memory[result.uuid] = (self._wall(), result)
        if len(memory) > LAST:
            memory.popitem(last=False)

    def status(self, waiting: int) -> dict[str, Any]:
        """For the console; `waiting`: re-INVITEs whose turn has not come. The legs in the order they were settled."""
        counts = replace(self.counts)
        told = sorted([*self._lost.values(), *self._kept.values()], key=lambda item: item[0])
        return {
            "calls": counts.calls,
            "legs": counts.legs,
            "lost": counts.lost,
            "reinvited": counts.reinvited,
            "waiting": waiting,
            "asked": max(0, counts.asked - waiting),
            "began": counts.began,
            "ended": counts.ended,
            "results": [
                [at, one.uuid, one.call, one.profile, one.call_id, one.direction, one.word, one.cause, one.status]
                for at, one in told
            ],
        }
