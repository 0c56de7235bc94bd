"""What workers are instructed to do, and their answers put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from ha.fleet import Fleet, Member
from ha.loop import Loop
from node.link import Done, Instruct


@dataclass(slots=True, eq=False)
class Errand:
    """One instruction to several workers; over when all have answered, ended, or taken too long."""

    then: Callable[[list[Done]], None]
    waiting: set[int] = field(default_factory=set)
    answers: list[Done] = field(default_factory=list)


class Errands:
    def __init__(self, loop: Loop, fleet: Fleet) -> None:
        self._loop, self._fleet = loop, fleet
        self._numbers = count(1)
        self._open: dict[int, tuple[Errand, Member]] = {}

    def send(
        self,
        members: Iterable[tuple[Member, Instruct]],
        then: Callable[[list[Done]], None],
        within: float,
    ) -> None:
        """Send each worker its instruction (its number is set here); `then` gets what was answered in time."""
        errand = Errand(then)
        for member, instruct in members:
            instruct.number = next(self._numbers)
            if self._fleet.send(member, instruct):
                errand.waiting.add(instruct.number)
                self._open[instruct.number] = (errand, member)
        if errand.waiting:
            self._loop.after(within, lambda: self._give_up(errand))
        else:
            self._loop.after(0, lambda: then([]))

    def on_done(self, done: Done) -> None:
        found = self._open.pop(done.number, None)
        if found is not None:
            found[0].answers.append(done)
            self._settle(found[0], done.number)

    def on_ended(self, member: Member) -> None:
        for number, (errand, who) in list(self._open.items()):
            if who is member:
                del self._open[number]
                self._settle(errand, number)

    def _settle(self, errand: Errand, number: int) -> None:
        errand.waiting.discard(number)
        if not errand.waiting:
            errand.then(errand.answers)

    def _give_up(self, errand: Errand) -> None:
        if errand.waiting:
            for number in errand.waiting:
                self._open.pop(number, None)
            errand.waiting.clear()
            errand.then(errand.answers)
