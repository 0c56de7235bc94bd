"""Legs whose worker is gone and whose phones have fallen silent: nobody will ever close them.

A worker that dies is followed by another one within moments, which adopts its legs. Where that does not happen (its
calls were flushed, the profile was taken out), a leg is still left alone as long as packets come: it may be a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

LIMIT = 120.0
"Seconds without worker and without packets."


class Orphans:
    """Told about all legs now and then, says which are to be closed."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._since: dict[str, tuple[int, float]] = {}
        "Packets of an orphan, and since when they are no more than that."

    def look(self, legs: Iterable[tuple[str, str, int]], is_there: Callable[[str], bool], now: float) -> list[str]:
        """`legs`: name, slot, packets so far; `is_there` says whether a slot has a worker. The names to be closed."""
        there: dict[str, bool] = {}
        before, self._since = self._since, {}
        given_up = []
        for name, slot, packets in legs:
            if slot not in there:
                there[slot] = is_there(slot)
            if there[slot]:
                continue
            seen, since = before.get(name, (packets, now))
            if seen != packets:
                since = now
            if now - since >= self._limit:
                given_up.append(name)
            else:
                self._since[name] = (packets, since)
        return given_up
