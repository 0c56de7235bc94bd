"""Who may connect: counts and rates of stream connections, in all and for each source (pure)."""

from __future__ import annotations

from collections.abc import Callable

from node.config.streams import StreamLimits
from node.sip.admission import source_of

SOURCES = 4096
"Sources whose rate is remembered; the quiet ones are forgotten first."
TOO_OFTEN = "more than stream-accept-rate-per-source"
TOO_MANY = "more than stream-max-connections-per-source"
BURST = 2
"Seconds' worth of the rate that may come at once."


class Bucket:
    """So many a second, with a burst: `take` says whether one more may come now."""

    __slots__ = ("_at", "_full", "_left", "_rate")

    def __init__(self, rate: float, now: float, burst: float = BURST) -> None:
        self._rate = rate
        self._full = self._left = rate * burst
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> bool:
        self._refill(now)
        if self._left < cost:
            return False
        self._left -= cost
        return True

    def wait(self, now: float, cost: float = 1.0) -> float:
        """Seconds until it gives that much; 0: now."""
        self._refill(now)
        return max(0.0, (cost - self._left) / self._rate)

    def full(self, now: float) -> bool:
        self._refill(now)
        return self._left >= self._full

    def _refill(self, now: float) -> None:
        self._left = min(self._full, self._left + (now - self._at) * self._rate)
        self._at = now


class Door:
    """Counts the accepted connections of one worker, and says who has to stay outside."""

    def __init__(self, limits: StreamLimits, now: float) -> None:
        self.limits = limits
        self.exempt: Callable[[str], bool] = _nobody
        "Is this address one to which the limits of one source do not apply?"
        self._all = Bucket(limits.accept_rate, now)
        self._rates: dict[str, Bucket] = {}
        self._inside: dict[str, int] = {}

    def configure(self, limits: StreamLimits, now: float) -> None:
        """Go by other limits; who is inside stays."""
        self.limits = limits
        self._all = Bucket(limits.accept_rate, now)
        self._rates.clear()

    def pause(self, now: float, cost: float) -> float:
        """Seconds until one more may be accepted from anywhere; 0: now."""
        return self._all.wait(now, cost)

    def refusal(self, host: str, now: float, cost: float) -> str:
        """The limit for which a connection from there is closed at once; empty: it may come in. What is refused costs the others nothing."""
        source = source_of(host)
        bucket = self._rates.get(source)
        if bucket is None:
            if len(self._rates) >= SOURCES:
                self._forget_quiet(now)
            bucket = self._rates[source] = Bucket(self.limits.accept_rate_per_source, now)
        if not bucket.take(now, cost) and not self.exempt(host):
            return TOO_OFTEN
        if self._inside.get(source, 0) >= self.limits.max_connections_per_source and not self.exempt(host):
            return TOO_MANY
        self._all.take(now, cost)
        return ""

    def entered(self, host: str) -> None:
        source = source_of(host)
        self._inside[source] = self._inside.get(source, 0) + 1

    def left(self, host: str) -> None:
        source = source_of(host)
        count = self._inside.get(source, 0) - 1
        if count > 0:
            self._inside[source] = count
        else:
            self._inside.pop(source, None)

    def inside(self, host: str) -> int:
        return self._inside.get(source_of(host), 0)

    def _forget_quiet(self, now: float) -> None:
        for source in [source for source, bucket in self._rates.items() if bucket.full(now)]:
            del self._rates[source]
        if len(self._rates) >= SOURCES:  # all of them at it: whose rate is forgotten gets a burst, no more
            for source in list(self._rates)[: SOURCES // 2]:
                del self._rates[source]


def _nobody(_host: str, /) -> bool:
    return False
