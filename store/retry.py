"""How long to wait before the next try."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

Chance = Callable[[], float]
"A number from 0 up to 1, evenly spread."


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that grow up to a limit, each with a share left to chance so that competitors fall out of step.

    With a factor below 1 they shrink instead, down to the shortest.
    """

    first: float
    longest: float
    shortest: float = 0.0
    factor: float = 2.0
    spread: float = 0.5

    def pause(self, attempt: int, chance: Chance = random.random) -> float:
        """Seconds before try `attempt` + 1, counted from 0."""
        # Above 64 doublings any pause has met its limit; the exponent must not overflow in a long outage.
        pause = max(self.shortest, min(self.longest, self.first * self.factor ** min(attempt, 64)))
        return pause * (1 - self.spread + 2 * self.spread * chance())
