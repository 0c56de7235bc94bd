"""What is left in the journals of this host and has nobody to replay it: the host died, and came back beside a new active.

A worker that gets a slot replays its journal by itself, so most of the time there is nothing here. But on a standby
nobody has a slot; and what a worker replays is refused once another node has ruled, for that one has gone on with all
that it found in the store. It cannot have found a call that began while the store was gone: such a call, of which the
journal holds the beginning, is given to the store all the same, if there is no record of it. Who is active then takes it
up when a phone of it says something, or with `sofia recover`.

All is read before anything is given, and nothing is forgotten before all is: of each record only its last state is
given, wherever that lies, so that no call comes to life for a moment that has ended in a later segment; and who is
interrupted may begin again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from store.errors import StoreError
from store.interface import ANYBODY, Outcome, Store, Write
from store.journal import Journal, Lot, latest, stems
from store.records import CallRecord

log = logging.getLogger(__name__)

LOT = 256
"Writes in one transaction."

State = tuple[int, int]
"Epoch and version."


class WrongStore(StoreError):
    """What is in the journals was not meant for this one."""


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
    torn: list[tuple[Path, int]] = field(default_factory=list)
    "Segments of which so many bytes could not be read, where they are kept."


def give(store: Store, journals: Path, *, served: Sequence[str] = ()) -> Given:
    """Commit what lies in this directory, save the journals of slots that are served (by token). Raises `StoreError`.

    Done twice, or beside a worker that does it too, it changes nothing more.
    """
    left = [Journal(stem) for stem in stems(journals) if stem.name not in served]
    for journal in left:
        journal.open()
    last, begun, epoch = _read(left)
    known = store.heritage().epoch
    if epoch > known:
        raise WrongStore(
            f"the journals in {journals} were written under epoch {epoch}, and this store has given out none above {known}: "
            "it is not theirs. If it is, and was set back, start a node on it first"
        )
    given = Given()
    done = [(journal, lot) for journal in left for lot in _given(store, journal, given, last, begun)]
    for journal, lot in done:
        _forget(journal, lot, given)
    return given


def _read(journals: Sequence[Journal]) -> tuple[dict[str, State], set[str], int]:
    """The last state of each record, the calls that began in here and nowhere else, and the newest epoch."""
    last: dict[str, State] = {}
    begun: set[str] = set()
    heard: set[str] = set()
    for journal in journals:
        for lot in journal.lots():
            begun.update(write.record.key for write in lot.writes if write.begins_call)
            # Its replay was cut short: whoever took over has found these, and may have ended them since.
            heard.update(write.record.key for write in latest(lot.writes)[: lot.given])
            for write in lot.writes:
                last[write.record.key] = max(_state(write), last.get(write.record.key, (0, 0)))
    return last, begun - heard, max((epoch for epoch, _version in last.values()), default=0)


def _given(
    store: Store, journal: Journal, given: Given, last: Mapping[str, State], begun: Collection[str]
) -> Iterator[Lot]:
    """Each lot when the store has of it what it is to have; without its writes."""
    for lot in journal.lots():
        newest = [write for write in latest(lot.writes) if _state(write) == last[write.record.key]]
        for start in range(0, len(newest), LOT):
            writes = newest[start : start + LOT]
            _count(writes, _commit(store, writes, begun), given)
        yield lot._replace(writes=[])


def _state(write: Write) -> State:
    return write.record.epoch, write.record.version


def _forget(journal: Journal, lot: Lot, given: Given) -> None:
    if lot.torn:
        given.torn.append((journal.set_aside(lot), lot.torn))
    else:
        journal.forget(lot)


def _commit(store: Store, writes: Sequence[Write], begun: Collection[str]) -> list[Outcome]:
    """As their worker would have done it; then in the name of their node; then what nobody else can know of."""
    outcomes = store.commit(writes)
    for heir in ("", ANYBODY):
        again = [
            number
            for number, outcome in enumerate(outcomes)
            if outcome is Outcome.FENCED and (heir != ANYBODY or writes[number].record.key in begun)
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
