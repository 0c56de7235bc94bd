"""The times of RFC 3261 (table 4) and who repeats what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds."""

    t1: float = 0.5
    t2: float = 4.0
    t4: float = 5.0

    @property
    def give_up_after(self) -> float:
        """64*T1: timers B, F, H, J, L, M."""
        return 64 * self.t1


class TwoHundredRepeater:
    """When the TU sends a 2xx to an INVITE again, until the ACK (RFC 3261 13.3.1.4): T1 doubling to T2, up to 64*T1. On every transport."""

    def next_delay(self) -> float | None:
        """Seconds from the last sending to the next; None: give up now (send BYE)."""
        raise NotImplementedError
