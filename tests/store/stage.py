"""A writer on a store that can be taken away, for the tests of the writer."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from store.interface import Outcome, Store, opened
from store.journal import Journal
from store.memory import memory_store
from store.records import CallRecord, Registration
from store.settings import BreakerSettings, WriterSettings
from store.writer import Writer
from tests.store.faults import LIMIT, Faults, Loop
from tests.store.samples import registration

STORED, STALE, FENCED, AT_RISK = Outcome.STORED, Outcome.STALE, Outcome.FENCED, Outcome.AT_RISK
SETTINGS: dict[str, Any] = {
    "deadline": 0.1,
    "hang": 0.3,
    "breaker": BreakerSettings(first_pause=0.02, longest_pause=0.05),
}
names = (f"writer-{n}" for n in itertools.count())


class Stage:
    """A writer on a store that can be taken away, and what it has told."""

    def __init__(self, journal: Path) -> None:
        self.factory = memory_store(next(names))
        self.faults = Faults(self.factory)
        self.loop = Loop()
        self.journal = journal
        self.told: list[tuple[str, Outcome]] = []
        self.fenced: list[tuple[str, int]] = []
        self.writers: list[Writer] = []
        self.writer = self.start()

    def start(self, factory: Callable[[], Store] | None = None, **settings: Any) -> Writer:
        writer = Writer(
            factory or self.faults.factory,
            WriterSettings(**(SETTINGS | settings)),
            call_soon=self.loop.call_soon,
            call_later=self.loop.call_later,
            journal=Journal(self.journal),
        )
        writer.on_fenced = lambda slot, epoch: self.fenced.append((slot, epoch))
        writer.start()
        self.writer = writer
        self.writers.append(writer)
        return writer

    def restart(self, **settings: Any) -> None:
        self.writer.close(LIMIT)
        self.start(**settings)

    def put(self, record: Registration | CallRecord) -> None:
        self.writer.put(record, lambda outcome, key=record.key: self.told.append((key, outcome)))

    def settle(self, count: int = 1) -> list[Outcome]:
        """Wait until so many have been told; what."""
        self.loop.run(lambda: len(self.told) >= count)
        return [outcome for _, outcome in self.told]

    def frozen(self) -> None:
        """Freeze the store and wait until the writer has run into it."""
        self.faults.freeze()
        self.writer.put(registration("ice"))
        assert self.faults.frozen.acquire(timeout=LIMIT)

    def stored(self) -> list[str]:
        with opened(self.factory) as store:
            return sorted([r.sip_user for r in store.registrations()] + [c.uuid for c in store.calls()])

    def until_stored(self, *keys: str) -> None:
        self.loop.run(lambda: self.stored() == sorted(keys))

    def ask(self, question: Callable[[Store], Any], **kwargs: Any) -> Any:
        answers: list[Any] = []
        self.writer.ask(question, answers.append, **kwargs)
        self.loop.run(lambda: answers)
        return answers[0]
