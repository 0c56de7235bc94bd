"""The circuit breaker before a store: it stops asking one that does not answer, and probes whether it is back."""

from __future__ import annotations

import random
from enum import Enum

from store.retry import Backoff, Chance
from store.settings import BreakerSettings


class State(Enum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class Breaker:
    """Closed, it lets all pass; open, nothing until the pause is over; then one probe, which closes it or not."""

    def __init__(self, settings: BreakerSettings, *, chance: Chance = random.random) -> None:
        self.state = State.CLOSED
        self.probe_at = 0.0
        "When the next probe may be made, while it is open."
        self._settings = settings
        self._backoff = Backoff(first=settings.first_pause, longest=settings.longest_pause, spread=settings.spread)
        self._chance = chance
        self._failures = 0
        self._probes = 0

    def allows(self, now: float) -> bool:
        """Whether the store may be asked. True for an open breaker means: this is the probe, report how it went."""
        if self.state is State.OPEN and now >= self.probe_at:
            self.state = State.PROBING
        return self.state is not State.OPEN

    def succeeded(self) -> None:
        self.state = State.CLOSED
        self._failures = self._probes = 0

    def failed(self, now: float) -> None:
        """It did not answer; enough of that in a row, or a failed probe, opens the breaker."""
        self._failures += 1
        if self.state is State.PROBING or self._failures >= self._settings.failures:
            self._open(now)

    def trip(self, now: float) -> None:
        """Open at once: it hangs, and one thread lost is enough."""
        self._failures += 1
        self._open(now)

    def _open(self, now: float) -> None:
        self.state = State.OPEN
        self.probe_at = now + self._backoff.pause(self._probes, self._chance)
        self._probes += 1
