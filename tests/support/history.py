"""What two nodes did, in order, and the proof that only one of them acted at a time. Pure.

An event is a lease taken or given back, a write that the store accepted, or a 2xx that was sent. Epochs never
interleave: who acts under an epoch acts after everything that others did under older ones, and before everything that
others do under newer ones. In detail, with what breaks each rule said in a sentence:

1. An epoch belongs to one node.
2. Leases are taken under epochs that rise.
3. A write is accepted only from the node whose the lease was last.
4. It is accepted under an epoch newer than all that other nodes ever wrote under.
5. A 2xx is sent only by the node whose the lease was last, and not after it has given it back.

Where a store is set back to what it was before, or lost, its epochs begin anew (1, 2 and 4 know nothing of what was
before); who may act is the same as ever. But for one thing: where it forgets a lease so, or calls it over because its
clock has jumped, it may grant another one before who had the first can have heard of it. Taking the lease is no act: who
had it may answer until the next one acts, and never after that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What happened."""

    TAKEN = "takes the lease"
    RELEASED = "gives the lease back"
    WRITE = "has a write accepted"
    ANSWER = "sends a 2xx"
    SET_BACK = "is set back, or lost"
    "The store; nobody's doing."
    JUMPED = "has its clock jump"
    "The store again."


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a node did. `at` in seconds of one clock for all; things of the same moment stand in their order."""

    at: float
    node: str
    kind: Kind
    epoch: int = 0
    "0 where it is not known by itself, as of an answer."
    slot: str = ""
    what: str = ""

    def __str__(self) -> str:
        epoch = f" under epoch {self.epoch}" if self.epoch else ""
        slot = f" for {self.slot}" if self.slot else ""
        return f"{self.at:.3f} {self.node} {self.kind.value}{epoch}{slot}{f' ({self.what})' if self.what else ''}"


@dataclass(frozen=True, slots=True)
class Reign:
    """From the lease of a node to that of the next one."""

    node: str
    epoch: int
    begin: float
    end: float
    answers: int
    writes: int


class Checker:
    """Hears the events in order; `violations` says what was wrong with them."""

    def __init__(self) -> None:
        self.violations: list[str] = []
        self._node_of: dict[int, str] = {}
        self._ruler: Event | None = None
        "The last lease taken."
        self._epoch = 0
        "Of the last lease taken since the store was new."
        self._released = False
        self._unaware = ""
        "Who had the lease when the store forgot it, until another one acts."
        self._highest: dict[str, Event] = {}
        "Of each node what it did under its newest epoch."

    def hear(self, event: Event) -> None:
        if event.epoch:
            self._own(event)
        match event.kind:
            case Kind.TAKEN:
                self._on_taken(event)
            case Kind.SET_BACK:
                self._on_set_back()
            case Kind.JUMPED:
                self._forget()
            case Kind.RELEASED:
                self._released = self._released or (self._ruler is not None and self._ruler.node == event.node)
                self._unaware = "" if event.node == self._unaware else self._unaware
            case Kind.WRITE:
                self._on_write(event)
            case Kind.ANSWER:
                self._on_answer(event)
        if event.epoch and event.epoch > self._newest(event.node):
            self._highest[event.node] = event

    def _own(self, event: Event) -> None:
        owner = self._node_of.setdefault(event.epoch, event.node)
        if owner != event.node:
            self._complain(event, f"but the epoch is {owner}'s")

    def _on_taken(self, event: Event) -> None:
        if self._ruler is not None and event.epoch <= self._epoch:
            self._complain(event, f"after: {self._ruler}")
        self._ruler, self._epoch, self._released = event, event.epoch, False

    def _forget(self) -> None:
        if self._ruler is not None and not self._released:
            self._unaware = self._ruler.node

    def _on_set_back(self) -> None:
        self._forget()
        self._epoch = 0
        self._node_of.clear()
        self._highest.clear()

    def _on_write(self, event: Event) -> None:
        self._act(event)
        for node, newest in self._highest.items():
            if node != event.node and newest.epoch >= event.epoch:
                self._complain(event, f"after: {newest}")
        if self._ruler is not None and self._ruler.node != event.node:
            self._complain(event, f"while: {self._ruler}")

    def _act(self, event: Event) -> None:
        if event.node != self._unaware:
            self._unaware = ""

    def _on_answer(self, event: Event) -> None:
        self._act(event)
        if event.node == self._unaware:
            return
        if self._ruler is None:
            self._complain(event, "and nobody has taken the lease")
        elif self._ruler.node != event.node:
            self._complain(event, f"after: {self._ruler}")
        elif self._released:
            self._complain(event, "after it has given the lease back")

    def _newest(self, node: str) -> int:
        return self._highest[node].epoch if node in self._highest else 0

    def _complain(self, event: Event, why: str) -> None:
        self.violations.append(f"{event}, {why}")


def violations(events: Iterable[Event]) -> list[str]:
    """What is wrong with a history whose events are in the order in which they happened; nothing where all is well."""
    checker = Checker()
    for event in events:
        checker.hear(event)
    return checker.violations


def reigns(events: Sequence[Event]) -> list[Reign]:
    """Who ruled from when to when, and how much each did meanwhile."""
    taken = [index for index, event in enumerate(events) if event.kind is Kind.TAKEN]
    made = []
    for index, next_one in zip(taken, [*taken[1:], len(events)], strict=True):
        first, part = events[index], events[index:next_one]
        given_back = next((each.at for each in part if each.kind is Kind.RELEASED and each.node == first.node), None)
        end = events[next_one].at if next_one < len(events) else part[-1].at
        counts = [
            sum(each.kind is kind and each.node == first.node for each in part) for kind in (Kind.ANSWER, Kind.WRITE)
        ]
        made.append(Reign(first.node, first.epoch, first.at, end if given_back is None else given_back, *counts))
    return made
