"""How a worker stands with its store: told to the supervisor once a second while it changes, for whoever asks for the status.

Counts are since the worker began; batch and times are those of the last second in which anything was committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from node.link import Stores

PERIOD = 1.0
"Seconds between two looks."


class Stats(Protocol):
    """What the writer counts."""

    queued: int
    commits: int
    items: int
    at_risk: int
    refused: int
    lost: int
    journaled: int
    replayed: int
    commit_seconds: float
    slowest: float
    open: bool
    error: str


class Writer(Protocol):
    @property
    def stats(self) -> Stats: ...
    @property
    def behind(self) -> bool: ...


class Alarm(Protocol):
    def cancel(self) -> None: ...


class Storing:
    def __init__(
        self,
        writer: Writer,
        say: Callable[[Stores], None],
        *,
        call_later: Callable[[float, Callable[[], None]], Alarm],
    ) -> None:
        self._writer = writer
        self._say = say
        self._call_later = call_later
        self._alarm: Alarm | None = None
        self._told = Stores()
        self._commits, self._items, self._seconds = 0, 0, 0.0

    def start(self) -> None:
        self._alarm = self._call_later(PERIOD, self._look)

    def stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _look(self) -> None:
        self._alarm = self._call_later(PERIOD, self._look)
        figures = self._figures()
        if figures != self._told:
            self._told = figures
            self._say(figures)

    def _figures(self) -> Stores:
        stats, told = self._writer.stats, self._told
        batch, latency, slowest = told.batch, told.latency, told.slowest
        commits = stats.commits - self._commits
        if commits:
            batch = round((stats.items - self._items) / commits, 1)
            latency = round((stats.commit_seconds - self._seconds) / commits, 4)
            slowest, stats.slowest = round(stats.slowest, 4), 0.0
        self._commits, self._items, self._seconds = stats.commits, stats.items, stats.commit_seconds
        return Stores(
            queued=stats.queued,
            gone=stats.open,
            behind=self._writer.behind,
            commits=stats.commits,
            batch=batch,
            latency=latency,
            slowest=slowest,
            at_risk=stats.at_risk,
            refused=stats.refused,
            lost=stats.lost,
            journaled=stats.journaled,
            replayed=stats.replayed,
            error=stats.error,
        )
