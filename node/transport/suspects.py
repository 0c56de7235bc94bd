"""Bad input: counted always, told once a period for each source."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

PERIOD = 30.0
"Seconds between two log lines about one source."
SOURCES = 4096
"Sources remembered at once; a flood from forged addresses must not fill the memory."


class Suspects:
    """Who has sent what we could not read."""

    def __init__(self) -> None:
        self.total = 0
        self._since: dict[str, tuple[float, int]] = {}

    def note(self, source: str, what: object, now: float) -> None:
        """Count one bad message, and log it if this source has been quiet for a period."""
        self.total += 1
        since, count = self._since.get(source, (-PERIOD, 0))
        if now - since < PERIOD:
            self._since[source] = since, count + 1
            return
        if len(self._since) >= SOURCES:
            self._since.clear()
        self._since[source] = now, 0
        before = f" ({count} more since the last line)" if count else ""
        log.warning("unreadable message from %s: %s%s", source, what, before)
