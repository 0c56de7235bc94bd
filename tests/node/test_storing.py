"""How a worker stands with its store, as the supervisor hears it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from node.link import Stores
from node.storing import PERIOD, Storing
from store.committer import WriterStats


@dataclass
class Writer:
    stats: WriterStats = field(default_factory=WriterStats)
    behind: bool = False

    def commit(self, items: int, seconds: float) -> None:
        stats = self.stats
        stats.commits += 1
        stats.items += items
        stats.commit_seconds += seconds
        stats.slowest = max(stats.slowest, seconds)


class Clock:
    """Rings once a period, when told."""

    def __init__(self) -> None:
        self._waiting: Callable[[], None] | None = None

    def later(self, delay: float, callback: Callable[[], None]) -> Clock:
        assert delay == PERIOD
        self._waiting = callback
        return self

    def cancel(self) -> None:
        self._waiting = None

    def ring(self) -> None:
        assert self._waiting is not None
        self._waiting()

    @property
    def silent(self) -> bool:
        return self._waiting is None


def made() -> tuple[Writer, Clock, list[Stores], Storing]:
    writer, clock, said = Writer(), Clock(), list[Stores]()
    storing = Storing(writer, said.append, call_later=clock.later)
    storing.start()
    return writer, clock, said, storing


def test_who_has_nothing_new_to_say_is_silent() -> None:
    writer, clock, said, storing = made()
    clock.ring()
    assert said == []
    writer.commit(1, 0.002)
    clock.ring()
    clock.ring()
    assert len(said) == 1
    storing.stop()
    assert clock.silent


def test_batch_and_times_are_those_of_the_last_second_with_commits() -> None:
    writer, clock, said, _ = made()
    writer.commit(10, 0.004)
    writer.commit(20, 0.008)
    clock.ring()
    assert (said[-1].commits, said[-1].batch, said[-1].latency, said[-1].slowest) == (2, 15.0, 0.006, 0.008)
    writer.commit(1, 0.001)
    clock.ring()
    assert (said[-1].commits, said[-1].batch, said[-1].latency, said[-1].slowest) == (3, 1.0, 0.001, 0.001)
    writer.stats.queued = 7
    clock.ring()
    assert (said[-1].queued, said[-1].batch, said[-1].latency) == (7, 1.0, 0.001)


def test_what_is_not_stored_is_told_by_kinds() -> None:
    writer, clock, said, _ = made()
    stats = writer.stats
    stats.at_risk, stats.refused, stats.lost, stats.journaled, stats.replayed = 9, 2, 3, 6, 4
    stats.open, stats.error, writer.behind = True, "cut off", True
    clock.ring()
    assert said == [
        Stores(gone=True, behind=True, at_risk=9, refused=2, lost=3, journaled=6, replayed=4, error="cut off")
    ]
