"""Which targets failed lately: they are tried last for a while (RFC 3263 4.3, RFC 3261 21.5.4).

One memory for all calls of a worker, bounded; it need not survive a failover: a successor learns it anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from node.sip.flow import Flow
from node.sip.message import Response

REMEMBERED = 4096
LONGEST = 300.0
"Seconds a Retry-After may keep a target at the end of the line."

Place = tuple[str, str, int]


class Outages:
    """By transport and address; `now` is loop time."""

    def __init__(self) -> None:
        self._until: dict[Place, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def note(self, flow: Flow, seconds: float, now: float) -> None:
        """Nobody answered there, or it said so itself."""
        place = _place(flow)
        self._until.pop(place, None)
        if seconds <= 0:
            return
        while len(self._until) >= REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[place] = now + min(seconds, LONGEST)

    def forget(self, flow: Flow) -> None:
        """It answers."""
        self._until.pop(_place(flow), None)

    def has(self, flow: Flow, now: float) -> bool:
        until = self._until.get(_place(flow))
        return until is not None and until > now

    def last(self, flows: Iterable[Flow], now: float) -> list[Flow]:
        """Those that failed lately behind the others, else in their order."""
        if not self._until:
            return list(flows)
        return sorted(flows, key=lambda flow: self.has(flow, now))


def _place(flow: Flow) -> Place:
    return (flow.transport, *flow.remote)


def retry_after(response: Response, otherwise: float) -> float:
    """Seconds for which a 503 wants to be left alone: its Retry-After (RFC 3261 20.33), else ours."""
    text = (response.header("Retry-After") or "").partition("(")[0].partition(";")[0].strip()
    return float(text) if text.isdecimal() and len(text) < 10 else otherwise
