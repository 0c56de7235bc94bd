"""What the store did not take: each such write is counted, and told once a second in one line and one event.

At risk is what was not committed in time (it may be yet), refused what came from an owner of the past, lost what found no
room in memory or journal.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from store.interface import Outcome
from store.records import CallRecord, Registration

log = logging.getLogger(__name__)

PERIOD = 1.0
"Seconds between two lines of one kind."
NAMED = 5
"Records that a line names."

WORDS = {
    Outcome.AT_RISK: ("sofia::write_at_risk", "not in the store in time, at risk until it is"),
    Outcome.FENCED: ("sofia::write_refused", "refused by the store, which has another owner on record"),
}
LOST = ("sofia::write_lost", "lost: neither the store nor the journal took it")


class Unstored:
    """Gathers writes that were not simply stored."""

    def __init__(self, later: Callable[[float, Callable[[], None]], object]) -> None:
        self.tell: Callable[[str, list[tuple[str, str]]], None] | None = None
        "Fires a CUSTOM event: subclass and headers."
        self._later = later
        self._named: dict[tuple[str, str], list[str]] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._resting = False

    def note(self, outcome: Outcome | None, record: Registration | CallRecord) -> None:
        """One write; `outcome` None: it is lost. The first after a rest is told at once."""
        words = LOST if outcome is None else WORDS[outcome]
        self._numbers[words] = self._numbers.get(words, 0) + 1
        named = self._named.setdefault(words, [])
        if len(named) < NAMED:
            named.append(record.key)
        if not self._resting:
            self._say()

    def _say(self) -> None:
        self._resting = bool(self._numbers)
        numbers, self._numbers = self._numbers, {}
        keys, self._named = self._named, {}
        for words, number in numbers.items():
            subclass, text = words
            named = ", ".join(keys[words]) + (", ..." if number > len(keys[words]) else "")
            log.warning("%d write%s %s: %s", number, "" if number == 1 else "s", text, named)
            if self.tell is not None:
                self.tell(subclass, [("count", str(number)), ("records", named)])
        if self._resting:
            self._later(PERIOD, self._say)
