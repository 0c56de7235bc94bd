"""What is heard in samples."""

from __future__ import annotations

from cmath import exp, pi
from collections.abc import Sequence

RATE = 8000


def loudest(samples: Sequence[int], low: int = 100, high: int = 3900, step: int = 5) -> float:
    """The frequency in Hz that is loudest in the samples."""
    some = samples[:1600]
    return max(range(low, high, step), key=lambda frequency: power(some, frequency))


def power(samples: Sequence[int], frequency: float) -> float:
    """How loud a frequency is: 1 for a full-scale sine (Goertzel, by definition)."""
    turn = exp(-2j * pi * frequency / RATE)
    at, total = 1 + 0j, 0j
    for sample in samples:
        total += sample * at
        at *= turn
    return 2 * abs(total) / len(samples) / 32767
