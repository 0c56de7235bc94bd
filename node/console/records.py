"""The console's view of the store: registrations, read and removed by a thread of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from node.config import Configuration
from node.console.site import Silent
from store.backends import open_store
from store.errors import StoreError
from store.interface import Outcome, Remove, Store
from store.records import CallRecord, Registration
from store.settings import WriterSettings
from store.writer import Writer

log = logging.getLogger(__name__)

T = TypeVar("T")

WITHIN = 3.0
"Seconds that the store may take."


class Records:
    """Asks the store; who waits never blocks the loop."""

    def __init__(self, configuration: Configuration, run_dir: Path) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._writer = Writer(
            open_store(configuration.switch.database, db_dir=run_dir / "db"),
            WriterSettings(),
            call_soon=lambda callback: loop.call_soon_threadsafe(callback),
            call_later=loop.call_later,
            journal=None,
        )
        self._writer.start()

    async def registrations(self, profile: str | None = None) -> list[Registration]:
        """Those not past due, the oldest first of each user. Raises Silent."""
        rows = await self._ask(lambda store: store.registrations(profile=profile))
        return sorted(rows, key=lambda row: (row.expires, row.key))

    async def calls(self) -> list[CallRecord]:
        """Those that are not over. Raises Silent."""
        return await self._ask(lambda store: store.calls())

    async def remove(self, rows: Iterable[Registration]) -> None:
        """Delete them; what a phone has renewed in the meantime stays. Raises Silent."""
        outcomes = await self._ask(lambda store: _remove(store, rows))
        refused = sum(outcome is Outcome.FENCED for outcome in outcomes)
        if refused:
            log.warning("%d registrations were not removed: the node is not active any more", refused)

    def close(self) -> None:
        self._writer.close(0.5)

    async def _ask(self, question: Callable[[Store], T]) -> T:
        future: asyncio.Future[T] = self._loop.create_future()

        def answered(answer: T | StoreError) -> None:
            if future.done():
                return
            if isinstance(answer, StoreError):
                future.set_exception(Silent(f"the store does not answer: {answer}"))
            else:
                future.set_result(answer)

        self._writer.ask(question, answered, WITHIN)
        try:
            async with asyncio.timeout(WITHIN + 0.5):
                return await future
        except TimeoutError as error:
            raise Silent("the store does not answer") from error


def _remove(store: Store, rows: Iterable[Registration]) -> list[Outcome]:
    """In the name of the node as it rules now: whoever wrote a row may have done so under an older epoch."""
    lease = store.read_lease()
    removals = [
        Remove(
            msgspec.structs.replace(
                row, version=row.version + 1, slot="", epoch=max(row.epoch, lease.epoch if lease is not None else 0)
            )
        )
        for row in rows
    ]
    return store.commit(removals)
