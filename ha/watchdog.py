"""Who has stood still: children by their beats, profiles by a probe through their real socket.

Pure but for the loop that calls it. A beat is answered by the loop that does the work; one that is not answered in
time means that this loop stands, unless it was only waiting for a processor: another one would wait as long. A probe is an OPTIONS to the profile's own socket, so an idle profile has events too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

EXCUSES = 5
"So many times on end a child that is starved is not taken for frozen."
STARVED = 0.5
"The share of its silence that it must have waited for a processor."


def _never() -> float:
    return 0.0


@dataclass(slots=True)
class Pulse:
    """The beats of one child."""

    limit: float
    "Seconds that a beat may stay unanswered; while loading, that it may take to be ready."
    since: float
    "The oldest moment for which there is no answer yet."
    sent: int = 0
    answered: int = 0
    waited: Callable[[], float] = _never
    "Seconds that its loop has waited for a processor so far. Asked only when it is silent."
    excuses: int = 0
    "How many times on end it was excused."
    _silent: tuple[float, float] | None = None
    "When its silence was noticed, and how long it had waited by then."

    def beat(self, now: float) -> int:
        """The number of the next beat."""
        if self.answered == self.sent:
            self.since = now
        self.sent += 1
        return self.sent

    def beaten(self, number: int) -> None:
        # One answer will do: the loop that gave it has run.
        if number > self.answered:
            self.answered, self.excuses, self._silent = self.sent, 0, None

    def forgive(self, now: float) -> None:
        """Start counting anew: it was the judge who stood still."""
        self.answered, self._silent = self.sent, None
        self.since = now

    def judge(self, now: float) -> str:
        """Why the child counts as frozen; empty: it does not."""
        if self.sent and self.answered == self.sent:
            return ""
        silent = now - self.since
        if silent <= self.limit:
            if silent > self.limit / 4 and self._silent is None and self.sent:
                self._silent = now, self.waited()
            return ""
        if not self.sent:
            return f"not ready {silent:.1f} s after its start"
        if self._starved(now):
            self.excuses += 1
            self.forgive(now)
            return ""
        return f"no answer to a beat for {silent * 1000:.0f} ms"

    def _starved(self, now: float) -> bool:
        if self._silent is None or self.excuses >= EXCUSES:
            return False
        noticed, waited = self._silent
        return self.waited() - waited > STARVED * (now - noticed)


@dataclass(slots=True)
class ProfileWatch:
    """One profile's watchdog: armed or not, and what its probes said."""

    event_timeout: float
    "Seconds without an answered probe that make the profile fail; 0: that check is off."
    armed: bool = False
    answered_at: float = 0.0
    remedies: list[float] = field(default_factory=list)
    "When its workers were replaced because of this watchdog."

    def arm(self, now: float) -> None:
        if not self.armed:
            self.armed, self.answered_at = True, now
            self.remedies.clear()

    def disarm(self) -> None:
        self.armed = False

    @property
    def probe_every(self) -> float:
        """Seconds between two probes: several within the limit, at most four a second."""
        return min(5.0, max(0.25, self.event_timeout / 4))

    def fails(self, now: float) -> bool:
        return self.armed and self.event_timeout > 0 and now - self.answered_at > self.event_timeout

    def remedied(self, now: float) -> bool:
        """Its workers are replaced now. False: that has not helped before, the role must be given away."""
        window = max(60.0, 4 * self.event_timeout)
        self.remedies = [at for at in self.remedies if now - at < window] + [now]
        self.answered_at = now
        return len(self.remedies) < 2
