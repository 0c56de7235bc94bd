"""A store that can be taken away: `cut`, `freeze`, `mend`; and a loop to drive a writer by hand."""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from store.errors import StoreError, Unavailable
from store.interface import Factory, Outcome, Store, Write
from tests.support.node import STRETCH

LIMIT = 10.0
"Seconds a test waits at most for what it expects."
SOON = 10.0 * STRETCH
"Seconds within which a call that cannot succeed must be over."


def fails_soon(work: Callable[[], object], kind: type[StoreError] = Unavailable, *, within: float = SOON) -> StoreError:
    """What it raises, and in time."""
    started = time.monotonic()
    with pytest.raises(kind) as error:
        work()
    assert time.monotonic() - started < within
    return error.value


class Faults:
    """What ails all the stores that one factory makes."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory
        self.stores: list[FaultyStore] = []
        self.commits: list[list[Write]] = []
        "What reached the real store, commit by commit."
        self.poison: str | None = None
        "A user whose registration breaks the driver."
        self._cut = False
        self._commits_left: int | None = None
        self._thaw = threading.Event()
        self._thaw.set()
        self.frozen = threading.Semaphore(0)
        "Released once for each call that has run into the ice."

    def factory(self) -> Store:
        store = FaultyStore(self, self._factory())
        self.stores.append(store)
        return store

    def cut(self) -> None:
        """From now on no call gets through."""
        self._cut = True

    def freeze(self) -> None:
        """From now on calls do not come back, until `thaw`."""
        self._thaw = threading.Event()

    def freeze_from(self, commits: int) -> None:
        """So many more get through before it freezes."""
        self._commits_left = commits

    def thaw(self) -> None:
        """Let go all that are frozen, and do not freeze others."""
        self._thaw.set()

    def melt_for_others(self) -> Callable[[], None]:
        """Let new calls through; those frozen stay so until the result is called."""
        frozen, self._thaw = self._thaw, threading.Event()
        self._thaw.set()
        return frozen.set

    def mend_the_cut(self) -> None:
        """Calls get through again, if they are not frozen."""
        self._cut = False

    def mend(self) -> None:
        self._cut = False
        self.thaw()

    def count_down(self) -> None:
        if self._commits_left is not None:
            self._commits_left -= 1
            if self._commits_left < 0:
                self._commits_left = None
                self.freeze()

    def strike(self) -> None:
        if self._cut:
            raise Unavailable("cut off")
        if not self._thaw.is_set():
            self.frozen.release()
            self._thaw.wait(LIMIT)


class FaultyStore:
    def __init__(self, faults: Faults, store: Store) -> None:
        self._faults = faults
        self._store = store
        self.given_up = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self._faults.strike()
            return real(*args, **kwargs)

        return call

    def close(self) -> None:
        self._store.close()

    def abandon(self) -> None:
        self.given_up = True
        self._store.abandon()

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        self._faults.count_down()
        self._faults.strike()
        if any(getattr(write.record, "sip_user", "") == self._faults.poison for write in writes):
            raise ValueError("the driver chokes")
        outcomes = self._store.commit(writes)
        self._faults.commits.append(list(writes))
        return outcomes


class Loop:
    """As much of an event loop as a writer needs, run by the test itself."""

    def __init__(self) -> None:
        self._ready: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._ready.put(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + delay, next(self._order), timer))
        return timer

    @property
    def idle(self) -> bool:
        """Whether it would sleep for ever."""
        return self._ready.empty() and all(timer.cancelled for _, _, timer in self._timers)

    def run(self, until: Callable[[], object], within: float = LIMIT) -> float:
        """Run until this holds, at most that long; returns how long it took."""
        started = time.monotonic()
        while not until():
            now = time.monotonic()
            assert now - started < within, "it did not come to pass in time"
            # What is waited for need not bring anything into the loop.
            wake = min(self._timers[0][0] if self._timers else now + within, started + within, now + 0.05)
            try:
                self._ready.get(timeout=max(0.0, wake - now))()
            except queue.Empty:
                pass
            while self._timers and self._timers[0][0] <= time.monotonic():
                _, _, timer = heapq.heappop(self._timers)
                if not timer.cancelled:
                    timer.callback()
        return time.monotonic() - started


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
