"""Whose turn comes first when calls are brought back: answered ones, then emergencies, then the oldest (pure)."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from store.records import CallRecord


class Rank(NamedTuple):
    """The smaller one comes first."""

    unanswered: bool
    ordinary: bool
    "No emergency number was dialled."
    created: float
    "Seconds since 1970."


def rank(record: CallRecord, emergency: Collection[str] = ()) -> Rank:
    """`emergency`: the numbers of the param `emergency-numbers`, as they are dialled."""
    return Rank(record.state != "answered", not is_emergency(record, emergency), record.created)


def is_emergency(record: CallRecord, numbers: Collection[str]) -> bool:
    return bool(numbers) and any(leg.destination in numbers for leg in record.legs)
