"""How a standby keeps up with registrations that the other node writes: by the store's feed of changes.

A store without such a feed is read again from time to time, the more seldom the longer it takes. Where the node itself
is active its workers tell each other over the bus, and nobody asks the store.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from node.registrar.location import Asker, Location
from store.errors import StoreError
from store.interface import Changes

log = logging.getLogger(__name__)

PERIOD = 0.5
"Seconds between two looks at the feed."
AGAIN = 1.0
"Seconds until a store that did not answer is asked again."
RELOAD = 10.0
"Seconds between two readings of a store without a feed, at least."
SHARE = 50
"Such a reading may take one part in so many of the time between two."
QUIET = 5.0
"Seconds after a notice on the bus in which the store is not asked."
WITHIN = 5.0


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Following:
    """One worker's view of it. `told` hears its lag and how much is known, after each look."""

    def __init__(
        self,
        location: Location,
        asker: Asker,
        *,
        call_later: Callable[[float, Callable[[], None]], Alarm],
        now: Callable[[], float],
        told: Callable[[float, int], None],
    ) -> None:
        self._location, self._asker = location, asker
        self._call_later, self._now, self._told = call_later, now, told
        self._mark = ""
        self._known_at = 0.0
        "What was true of the store then is known here; 0: nothing is."
        self._heard_at = 0.0
        self._alarm: Alarm | None = None
        self._stopped = self._closed = False

    @property
    def lag(self) -> float:
        """Seconds by which what is known may be behind the store; 0 before anything is."""
        return self._now() - self._known_at if self._known_at else 0.0

    def start(self) -> None:
        """Take the watermark first and read everything after it: what changes in between is seen twice, not never."""
        self._asker.ask(lambda store: store.changes(""), self._on_mark, WITHIN)

    def heard(self) -> None:
        """A worker of this node told of a registration: it is ours to know without the store."""
        self._heard_at = self._now()

    def stop(self) -> None:
        self._stopped = self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def settle(self) -> None:
        """This worker is promoted, and nobody else writes any more: see the last of it, and know everything."""
        kept_up = self._mark and self._known_at and self.lag <= QUIET
        self.stop()
        self._closed = False
        if not kept_up:
            self._read_all()
            return
        self._location.complete = False
        self._see_the_last()

    # ---- below -------------------------------------------------------------------------------------------------------

    def _read_all(self) -> None:
        """Again and again while the store is gone: until then each search has to ask it."""

        def again() -> None:
            self._alarm = self._call_later(AGAIN, self._read_all)

        if not self._closed:
            self._location.load(None, again)

    def _see_the_last(self) -> None:
        mark = self._mark

        def seen(answer: Changes | StoreError | None) -> None:
            if not isinstance(answer, Changes):
                self._read_all()
                return
            self._take(answer)
            if answer.more:
                self._see_the_last()
            else:
                self._location.complete = True

        self._asker.ask(lambda store: store.changes(mark), seen, WITHIN)

    def _on_mark(self, answer: Changes | StoreError | None) -> None:
        if self._stopped:
            return
        if isinstance(answer, StoreError):
            self._later(AGAIN, self.start)
            return
        self._mark = answer.watermark if answer is not None else ""
        began = self._now()

        def loaded() -> None:
            if self._stopped:
                return
            self._known_at = began
            self._tell()
            # A store without a feed, a long time from now; one with it, soon.
            self._later(PERIOD if self._mark else max(RELOAD, SHARE * (self._now() - began)), self._look)

        self._location.load(loaded, lambda: self._later(AGAIN, self.start))

    def _look(self) -> None:
        if self._now() - self._heard_at < QUIET:
            self._later(QUIET, self._look)
        elif not self._mark:
            self.start()
        else:
            mark, began = self._mark, self._now()
            self._asker.ask(lambda store: store.changes(mark), lambda answer: self._on_changes(answer, began), WITHIN)

    def _on_changes(self, answer: Changes | StoreError | None, began: float) -> None:
        if self._stopped:
            return
        if isinstance(answer, StoreError):
            self._tell()
            self._later(AGAIN, self._look)
        elif answer is None:
            log.info("the store's feed of changes does not reach back so far: reading all registrations again")
            self.start()
        else:
            self._take(answer)
            if answer.more:
                self._look()
                return
            self._known_at = began
            self._tell()
            self._later(PERIOD, self._look)

    def _take(self, changes: Changes) -> None:
        self._mark = changes.watermark
        for record in changes.registrations:
            self._location.learn(record)
        for key in changes.gone:
            self._location.forget(key)

    def _tell(self) -> None:
        self._told(self.lag, len(self._location))

    def _later(self, delay: float, work: Callable[[], None]) -> None:
        if not self._stopped:
            self._alarm = self._call_later(delay, work)
