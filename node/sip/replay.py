"""Which counts of a nonce have been used (RFC 7616 3.3, 3.4): the highest, and a window below it for what comes late."""

from __future__ import annotations

WIDTH = 32
"Counts below the highest that are still told apart: requests of one phone overtake each other by a few."

Window = tuple[int, int]
"The highest count used, and a bit for each of the WIDTH counts up to it, the highest one lowest."

UNUSED: Window = (0, 0)
_MASK = (1 << WIDTH) - 1


def fresh(window: Window, count: int) -> bool:
    """Has this count not been used? One below the window is taken for used."""
    highest, seen = window
    behind = highest - count
    return count > 0 and (behind < 0 or (behind < WIDTH and not seen >> behind & 1))


def used(window: Window, count: int) -> Window:
    """The window once a fresh count is used."""
    highest, seen = window
    if count <= highest:
        return highest, seen | 1 << (highest - count)
    ahead = count - highest
    return count, (seen << ahead | 1) & _MASK if ahead < WIDTH else 1
