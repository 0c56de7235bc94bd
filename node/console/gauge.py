"""How many sessions there are and have been: the figures of `status` and HEARTBEAT. Pure; told the time."""

from __future__ import annotations

from collections import deque

FIVE_MINUTES = 300.0


class Gauge:
    """Watches two numbers, sessions now and sessions since the start, and keeps their peaks."""

    def __init__(self) -> None:
        self.sessions = 0
        self.since_startup = 0
        self.rate = 0
        self.peak = 0
        self.peak_rate = 0
        self._last: float | None = None
        self._counts: deque[tuple[float, int]] = deque()
        self._rates: deque[tuple[float, int]] = deque()

    def read(self, now: float, sessions: int, since_startup: int) -> None:
        """A new reading. A worker that was replaced starts its count anew, so the total never goes back."""
        grown = max(0, since_startup - self.since_startup)
        if self._last is not None and now > self._last:
            self.rate = round(grown / (now - self._last))
        self._last = now
        self.sessions = sessions
        self.since_startup = max(self.since_startup, since_startup)
        self.peak = max(self.peak, sessions)
        self.peak_rate = max(self.peak_rate, self.rate)
        _keep(self._counts, now, sessions)
        _keep(self._rates, now, self.rate)

    @property
    def five_minute_peak(self) -> int:
        return self._counts[0][1] if self._counts else 0

    @property
    def five_minute_rate(self) -> int:
        return self._rates[0][1] if self._rates else 0


def _keep(window: deque[tuple[float, int]], now: float, value: int) -> None:
    """The highest value of the window always stands first: smaller ones before a new one can never be it."""
    while window and window[-1][1] <= value:
        window.pop()
    window.append((now, value))
    while window[0][0] < now - FIVE_MINUTES:
        window.popleft()
