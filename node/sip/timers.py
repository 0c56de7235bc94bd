"""The times of RFC 3261 (table 4), and the schedule of a 2xx."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Timers:
    """Seconds."""

    t1: float = 0.5
    "Estimate of the round trip."
    t2: float = 4.0
    "Longest time between two sendings of a non-INVITE request or of a response to INVITE."
    t4: float = 5.0
    "How long a message may live in the network."
    hurry: float = 0.2
    "After this long without a response from the user, an INVITE is answered 100 (RFC 3261 17.2.1)."

    give_up_after: float = field(init=False)
    "64*T1: timers B, D, F, H, J, L, M."

    def __post_init__(self) -> None:
        object.__setattr__(self, "give_up_after", 64 * self.t1)


class TwoHundredRepeater:
    """When the user sends a 2xx to an INVITE again, until the ACK (RFC 3261 13.3.1.4): on every transport.

    >>> repeater = TwoHundredRepeater(Timers())
    >>> [repeater.next_delay() for _ in range(5)]
    [0.5, 1.0, 2.0, 4.0, 4.0]
    """

    __slots__ = ("_delay", "_left", "_timers")

    def __init__(self, timers: Timers = Timers()) -> None:
        self._timers = timers
        self._delay = timers.t1
        self._left = timers.give_up_after

    def next_delay(self) -> float | None:
        """Seconds from the last sending to the next; None: give up now (send BYE). The last delay ends at 64*T1."""
        if self._left <= 0:
            return None
        delay = min(self._delay, self._left)
        self._left -= delay
        self._delay = min(2 * self._delay, self._timers.t2)
        return delay

    @property
    def exhausted(self) -> bool:
        """Is the time up, so that after the delay last told nothing is to be sent any more?"""
        return self._left <= 0
