"""The re-INVITEs of all recoveries of a worker: one queue, the most urgent first, no more than so many a second."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

from node.calls.urgency import Rank

TICK = 0.01
"Seconds between two looks at the queue; a rate of thousands a second needs no more alarms than that."
EARLY = 0.05
"Of one: a loop that counts milliseconds rings an alarm that much too early, at the rates at which nothing is saved up."
BURST = 64
"Without a limit, so many go out in one turn of the loop: between them requests are answered."


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Pace:
    """Whoever wants to say something to a leg queues here; told when its turn has come."""

    def __init__(self, later: Callable[[float, Callable[[], None]], Alarm], now: Callable[[], float]) -> None:
        self.rate = 0.0
        "So many a second; 0: as fast as the loop can."
        self._later, self._now = later, now
        self._queue: list[tuple[Rank, int, Callable[[], None]]] = []
        self._numbers = count()
        self._alarm: Alarm | None = None
        self._allowance = 1.0
        self._counted_at = now()

    def __len__(self) -> int:
        return len(self._queue)

    def push(self, rank: Rank, send: Callable[[], None]) -> None:
        """`send` is called in a later turn of the loop, so that what is wanted together is put in order together."""
        heapq.heappush(self._queue, (rank, next(self._numbers), send))
        if self._alarm is None:
            self._alarm = self._later(0.0, self._turn)

    def close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._queue.clear()

    def _turn(self) -> None:
        self._alarm = None
        for _ in range(self._allowed()):
            if not self._queue:
                break
            _rank, _number, send = heapq.heappop(self._queue)
            send()
        if self._queue and self._alarm is None:
            missing = (1.0 - self._allowance) / self.rate if self.rate > 0 else 0.0
            self._alarm = self._later(max(TICK, missing) if self.rate > 0 else 0.0, self._turn)

    def _allowed(self) -> int:
        """How many may go now. What was not used while nothing waited is not saved up beyond one tick."""
        if self.rate <= 0:
            return BURST
        now = self._now()
        most = max(1.0, self.rate * TICK * 2)
        self._allowance = min(most, self._allowance + (now - self._counted_at) * self.rate)
        self._counted_at = now
        allowed = int(self._allowance + EARLY)
        self._allowance -= min(allowed, len(self._queue))
        return allowed
