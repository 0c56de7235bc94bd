"""Who sends what he should not: counted always, told once a period for each source and reason.

A flood from forged addresses must fill neither the memory nor the log, so both the sources remembered and the lines of a
period are bounded; what was not told one by one is told as a sum.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

PERIOD = 30.0
"Seconds between two log lines about one source."
SOURCES = 4096
"Sources remembered at once."
LINES = 40
"Lines of one period, all sources together."

UNREADABLE = "unreadable message"


class Suspects:
    """Who has sent what we could not read, or more than we take."""

    def __init__(self) -> None:
        self.total = 0
        "Messages that could not be read."
        self.tell: Callable[[str, str, int, str], None] | None = None
        "Told with each line: reason, source, how many since the last time, and what it was about."
        self._since: dict[tuple[str, str], tuple[float, int]] = {}
        self._period = -PERIOD
        self._lines = 0
        self._untold = 0

    def note(self, source: str, what: object, now: float) -> None:
        """Count one bad message, and log it if this source has been quiet for a period."""
        self.total += 1
        self.exceeded(UNREADABLE, source, now, what)

    def exceeded(self, reason: str, source: str, now: float, what: object = "", count: int = 1) -> None:
        """Count one that was not served for this reason, and log it if that was not said of this source in this period."""
        key = reason, source
        since, before = self._since.get(key, (-PERIOD, 0))
        if now - since < PERIOD:
            self._since[key] = since, before + count
            return
        if now - self._period >= PERIOD:
            self._begin(now)
        if len(self._since) >= SOURCES or self._lines >= LINES:
            self._untold += count
            return
        self._since[key] = now, 0
        self._lines += 1
        self._say(reason, source, before + count, what)

    def sweep(self, now: float) -> bool:
        """Tell what is left of periods that are over, and forget who has been quiet since. Is anybody left?"""
        for key, (since, count) in list(self._since.items()):
            if now - since < PERIOD:
                continue
            if count and self._lines < LINES:
                self._since[key] = now, 0
                self._lines += 1
                self._say(*key, count, "")
            else:
                self._untold += count
                del self._since[key]
        if now - self._period >= PERIOD:
            self._begin(now)
        return bool(self._since or self._untold)

    def _begin(self, now: float) -> None:
        """A new period: room for new lines."""
        if self._untold:
            log.warning("%d more messages not served, from sources that are too many to name", self._untold)
            if self.tell is not None:
                self.tell("too many sources", "", self._untold, "")
        if len(self._since) >= SOURCES:
            self._since.clear()
        self._period, self._lines, self._untold = now, 0, 0

    def _say(self, reason: str, source: str, count: int, what: object) -> None:
        text = str(what)
        times = f" ({count} in {PERIOD:.0f} s)" if count > 1 else ""
        log.warning("%s from %s%s%s", reason, source, f": {text}" if text else "", times)
        if self.tell is not None:
            self.tell(reason, source, count, text)
