"""The supervisor's loop: a selector and an agenda, nothing else. No coroutine, no thread."""

from __future__ import annotations

import heapq
import logging
import selectors
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol

log = logging.getLogger(__name__)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Described(Protocol):
    def fileno(self) -> int: ...


class Alarm:
    """Something to be done at a moment, or again and again."""

    __slots__ = ("action", "every")

    def __init__(self, action: Callable[[], object], every: float = 0.0) -> None:
        self.action: Callable[[], object] | None = action
        self.every = every

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Calls back when a descriptor can be read or a moment has come. An error in a callback is logged, and on it goes."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._agenda: list[tuple[float, int, Alarm]] = []
        self._order = count()

    now = staticmethod(time.monotonic)

    def watch(self, source: Described, action: Callable[[], object], events: int = READ) -> None:
        """Call `action` when the source is readable (or writable); a source has one action, the last one set."""
        try:
            self._selector.modify(source, events, action)
        except KeyError:
            self._selector.register(source, events, action)

    def forget(self, source: Described) -> None:
        """Before a source is closed. Forgetting twice is no error."""
        try:
            self._selector.unregister(source)
        except (KeyError, ValueError):
            pass

    def after(self, delay: float, action: Callable[[], object]) -> Alarm:
        return self._set(Alarm(action), self.now() + delay)

    def every(self, seconds: float, action: Callable[[], object]) -> Alarm:
        return self._set(Alarm(action, seconds), self.now() + seconds)

    def turn(self, longest: float = 1.0) -> None:
        """Wait for the next thing to happen, do all that is due."""
        timeout = longest
        if self._agenda:
            timeout = min(longest, max(0.0, self._agenda[0][0] - self.now()))
        for key, _mask in self._selector.select(timeout):
            # An earlier callback of this round may have forgotten this source.
            if self._selector.get_map().get(key.fd) is key:
                self._call(key.data)
        now = self.now()
        while self._agenda and self._agenda[0][0] <= now:
            at, _order, alarm = heapq.heappop(self._agenda)
            if alarm.action is None:
                continue
            if alarm.every:
                # After a pause the missed rounds are not made up for.
                following = at + alarm.every
                self._set(alarm, following if following > now else now + alarm.every)
            self._call(alarm.action)

    def close(self) -> None:
        self._agenda.clear()
        self._selector.close()

    def _set(self, alarm: Alarm, at: float) -> Alarm:
        heapq.heappush(self._agenda, (at, next(self._order), alarm))
        return alarm

    def _call(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception:
            log.exception("%r failed in the supervisor's loop, going on", action)
