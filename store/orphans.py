"""What is left in the journals of this host and has nobody to replay it: the host died, and came back beside a new active.

A worker that gets a slot replays its journal by itself, so most of the time there is nothing here. But on a standby
nobody has a slot; and what a worker replays is refused once another node has ruled, for that one has gone on with all
that it found in the store. It cannot have found a call that began while the store was gone: such a call, of which the
journal holds the very first version, is given to the store all the same, if there is no record of it. Who is active then
takes it up when a phone of it says something, or with `sofia recover`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.interface import ANYBODY, Outcome, Put, Store, Write
from store.journal import Journal, latest, stems
from store.records import CallRecord

log = logging.getLogger(__name__)

LOT = 256
"Writes in one transaction."
FIRST = 1
"The version of a record that is written for the first time."


@dataclass(slots=True)
class Given:
    """What became of the writes of the journals."""

    stored: int = 0
    stale: int = 0
    "The store had them, or newer ones."
    refused: int = 0
    "Another node has ruled since, and knows better."
    calls: int = 0
    "Live calls that the store had never heard of; they count as stored too."


def give(store: Store, journals: Path, *, served: Sequence[str] = ()) -> Given:
    """Commit what lies in this directory, save the journals of slots that are served (by token). Raises `StoreError`.

    Done twice, or beside a worker that does it too, it changes nothing more.
    """
    given = Given()
    for stem in stems(journals):
        if stem.name not in served:
            _give(store, Journal(stem), given)
    return given


def _give(store: Store, journal: Journal, given: Given) -> None:
    journal.open()
    unheard: set[str] = set()
    "Calls that began in here."
    while (lot := journal.oldest()) is not None:
        unheard.update(write.record.key for write in lot.writes if _begins(write))
        newest = latest(lot.writes)
        for start in range(0, len(newest), LOT):
            writes = newest[start : start + LOT]
            _count(writes, _commit(store, writes, unheard), given)
        journal.forget(lot)


def _begins(write: Write) -> bool:
    return isinstance(write, Put) and isinstance(write.record, CallRecord) and write.record.version == FIRST


def _commit(store: Store, writes: Sequence[Write], unheard: set[str]) -> list[Outcome]:
    """As their worker would have done it; then in the name of their node; then what nobody else can know of."""
    outcomes = store.commit(writes)
    for heir in ("", ANYBODY):
        again = [
            number
            for number, outcome in enumerate(outcomes)
            if outcome is Outcome.FENCED and (heir != ANYBODY or writes[number].record.key in unheard)
        ]
        for number in again:
            writes[number].heir = heir or writes[number].record.node
        if again:
            for number, outcome in zip(again, store.commit([writes[number] for number in again]), strict=True):
                outcomes[number] = outcome
    return outcomes


def _count(writes: Sequence[Write], outcomes: Sequence[Outcome], given: Given) -> None:
    for write, outcome in zip(writes, outcomes, strict=True):
        record = write.record
        if outcome in (Outcome.STORED, Outcome.AT_RISK):
            given.stored += 1
            if write.heir == ANYBODY and isinstance(record, CallRecord) and record.state != "ended":
                given.calls += 1
                log.info("call %s of %s is on record again", record.uuid, record.slot)
        elif outcome is Outcome.STALE:
            given.stale += 1
        else:
            given.refused += 1
