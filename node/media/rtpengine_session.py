"""One session of an rtpengine: the sides of a call, each with a port, paired as those who hear each other wish.

A side is a tag with the port that its peer sends to; the port stays whatever the side is paired with. What is wished for is
told pair by pair, one after the other; what was told is known, also to a successor, who asks the engine for it. A side that
nobody needs any more is deleted when all others are paired without it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from functools import partial
from random import getrandbits
from typing import Protocol

from node.media import rtpengine_talk as talk
from node.media.errors import MediaError
from node.media.ng import Answer, NgClient, NgRefused
from node.media.rtpengine_talk import NOWHERE, Pair, Point

log = logging.getLogger(__name__)

DUMP = "0"
"The side that those are paired with whom nobody hears any more."
APART = 1000
"Sides that one worker may make before their numbers come to those of its successor."


class Owner(Protocol):
    """Who has the legs."""

    def wished(self, session: Session) -> list[Pair]:
        """The pairs that there should be."""

    def tags(self, session: Session) -> Collection[str]:
        """The sides that are legs; others are needed only as their mates."""

    def progressed(self, session: Session) -> None:
        """Ports have become known, or pairs are told."""

    def failed(self, session: Session, error: MediaError) -> None:
        """Sides without a port get none. Those that have one keep it."""

    def lost(self, session: Session, error: MediaError) -> None:
        """The engine does not have the session any more, or has others ports for it."""


class Session:
    """Its sides, and what the engine was told of them."""

    def __init__(
        self, owner: Owner, engines: Sequence[NgClient], name: str, call_id: str = "", *, made: bool = False
    ) -> None:
        """On the first of the engines that answers; `made`: before, by a predecessor: the engine is asked about it first."""
        self.engine = engines[0]
        self.call_id = call_id or _new_call_id(name)
        self.key = engines[0].address, self.call_id
        "Its name as long as it lives, though another engine may take it."
        self.ports: dict[str, tuple[str, int]] = {}
        "Address and port towards each side."
        self.family: dict[str, str] = {}
        self.gone = False
        self.sure = not made
        "The engine has said what it has of it, or it is ours from the start."
        self.known = not made
        "All its legs are here: what else it has is nobody's."
        self._owner = owner
        self._name = name
        self._others = list(engines[1:])
        self._next = 1
        self._told: dict[str, Pair] = {}
        self._offered: set[str] = set()
        "Sides that the engine may have made."
        self._busy = False

    # ---- sides -----------------------------------------------------------------------------------------------------

    def fresh(self, family: str) -> str:
        """A tag for another side."""
        tag = str(self._next)
        self._next += 1
        self.family[tag] = family
        return tag

    def claim(self, tag: str, family: str) -> None:
        """A side that a predecessor made. It has made others that we have not heard of yet: ours are numbered far from those."""
        self.family[tag] = family
        self._next = max(self._next, (int(tag) // APART + 1) * APART)

    def only(self, addresses: Iterable[str]) -> None:
        """One more leg, which may be on these engines."""
        self._others = [engine for engine in self._others if engine.address in addresses]

    @property
    def engines(self) -> set[str]:
        """The addresses of those that have it, may have been asked for it, or may be."""
        return {self.key[0], self.engine.address, *(engine.address for engine in self._others)}

    @property
    def doubtful(self) -> bool:
        """What the engine has of it is to be asked."""
        return not self.sure or (self.made and not self._told)

    @property
    def made(self) -> bool:
        """The engine knows it."""
        return bool(self.ports)

    def mate(self, tag: str) -> str:
        """Whom the side is paired with, as far as the engine was told; empty: nobody."""
        pair = self._told.get(tag)
        return "" if pair is None else pair.y if pair.x == tag else pair.x

    def done(self, pair: Pair) -> bool:
        """The engine has been told this."""
        agreed = pair.agreed()
        return self._told.get(agreed.y) == agreed and (agreed.x == DUMP or self._told.get(agreed.x) == agreed)

    # ---- telling ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Tell the engine what it does not know yet of what is wished."""
        if self._busy or self.gone or not self.sure:
            return
        wished = [pair.agreed() for pair in self._owner.wished(self)]
        paired = {tag for pair in wished for tag in pair[:2]}
        spare = self._spare(paired)
        for pair in [*wished, *self._cuts(paired, spare)]:
            if not self.done(pair):
                self._tell(pair)
                return
        if spare:
            self._remove(spare.pop())

    def _spare(self, paired: Set[str]) -> set[str]:
        """Sides that nobody needs: of legs that are gone, and inner ones that serve nobody."""
        kept = {*self._owner.tags(self), *paired}
        mates = {self.mate(tag) for tag in kept - {DUMP} if tag in self.ports}
        if not self.known or "" in mates:
            return set()  # whoever is paired with it alone would go with it
        return {*self.ports, *self._offered} - kept - mates

    def _cuts(self, paired: Set[str], spare: Set[str]) -> list[Pair]:
        """A side whose former mate hears somebody else would still be heard by that one."""
        left = [tag for tag in self._told if tag not in paired | spare and self.mate(tag) in paired - {DUMP}]
        return [self.dumped(tag, self._pointed(tag)) for tag in left if tag != DUMP]

    def dumped(self, tag: str, point: Point) -> Pair:
        """Nobody hears this side; the engine goes on knowing where it is."""
        self.family.setdefault(DUMP, self.family[tag])
        return Pair(DUMP, tag, NOWHERE, point)

    def _pointed(self, tag: str) -> Point:
        pair = self._told[tag]
        return pair.to_x if pair.x == tag else pair.to_y

    def _tell(self, pair: Pair) -> None:
        """Those that are a pair already are pointed elsewhere; others are made one."""
        self._busy = True
        if self.mate(pair.x) != pair.y or self._told.get(pair.x) != self._told.get(pair.y):
            self._ask_offer(pair)
            return
        before = self._told[pair.x]
        if before.to_x != pair.to_x and before.to_y == pair.to_y:
            self._ask_answer(pair, swapped=True, last=True)
        elif before.to_x != pair.to_x:
            self._ask_answer(pair, swapped=True, last=False)
        else:
            self._ask_answer(pair, swapped=False, last=True)

    def _ask_offer(self, pair: Pair) -> None:
        def heard(said: Answer | MediaError) -> None:
            if self._learned(pair, pair.y, said):
                self._ask_answer(pair, swapped=False, last=True)

        self._offered |= {pair.x, pair.y}
        self.engine.ask(talk.offer(self.call_id, pair, self.family), heard)

    def _ask_answer(self, pair: Pair, *, swapped: bool, last: bool) -> None:
        def heard(said: Answer | MediaError) -> None:
            if not self._learned(pair, pair.y if swapped else pair.x, said):
                return
            if not last:
                self._ask_answer(pair, swapped=False, last=True)
                return
            self._told[pair.x] = self._told[pair.y] = pair
            self._busy = False
            if not self.gone:
                self._owner.progressed(self)
                self.settle()

        self.engine.ask(talk.answer(self.call_id, pair, self.family, swapped=swapped), heard)

    def _remove(self, tag: str) -> None:
        """A side that is spare; nobody is paired with it, save perhaps what is spare, too, or the dump."""

        def heard(said: Answer | MediaError) -> None:
            self._busy = False
            if isinstance(said, MediaError) and not isinstance(said, NgRefused):
                self._offered.add(tag)  # again when the engine answers
                self._fail(said)
            elif not self.gone:
                self.settle()

        self._busy = True
        mate = self.mate(tag)
        for each in {tag, DUMP} | ({mate} if self.mate(mate) == tag else set()):
            self._told.pop(each, None)
        for each in (tag, DUMP):
            # If the dump stays it has the port it had, and if it went, another one.
            self.ports.pop(each, None)
        self._offered.discard(tag)
        self.engine.ask(talk.delete_side(self.call_id, tag), heard)

    def _learned(self, pair: Pair, tag: str, said: Answer | MediaError) -> bool:
        """The port towards a side, new or the one it had. Whether to go on."""
        if self.gone:
            self._busy = False
            self.engine.ask(talk.delete(self.call_id), _nothing)  # our delete may have come before what has made it
            return False
        try:
            if isinstance(said, MediaError):
                raise said
            address, port = talk.place_of(said)
            self._check_family(tag, address)
        except MediaError as error:
            self._fail(error)
            return False
        known = self.ports.get(tag)
        if known is not None and known[1] != port and not {pair.x, pair.y}.isdisjoint(self._owner.tags(self)):
            self._lose(NgRefused(f"rtpengine {self.engine.address} has port {port} where it had {known[1]}"))
            self.engine.ask(talk.delete(self.call_id), _nothing)
            return False
        self.ports[tag] = known if known is not None and known[1] == port else (address, port)
        return True

    def _check_family(self, tag: str, address: str) -> None:
        """An engine that has no address of the family that was asked for gives one of the other, which no peer can reach."""
        wanted = self.family[tag]
        if talk.family_of(address) != wanted:
            name = wanted.replace("IP", "IPv")
            self.engine.complain(f"has no {name} address", f"sessions that need one get {address}, and are refused")
            raise MediaError(f"rtpengine {self.engine.address} has no {name} address")

    def _fail(self, error: MediaError) -> None:
        """What was told may have arrived or not: it is told again when the engine answers. A new session goes elsewhere."""
        self._busy = False
        if not self.made and self._others:
            log.warning("%s: the next one is asked", error)
            self.engine.ask(talk.delete(self.call_id), _nothing)
            self.engine, self.call_id = self._others.pop(0), _new_call_id(self._name)
            self._told.clear()
            self._offered.clear()
            self.settle()
            return
        if _unknown(error):
            self._lose(error)
        elif self.made and self.sure and isinstance(error, NgRefused):
            self._busy = True
            self.engine.ask(talk.query(self.call_id), partial(self._on_refused, error))
        else:
            self._told.clear()
            self._owner.failed(self, error)

    def _on_refused(self, error: MediaError, said: Answer | MediaError) -> None:
        """An engine without a port for another side ends the whole session."""
        self._busy = False
        if self.gone:
            return
        if isinstance(said, MediaError) and _unknown(said):
            self._lose(error)
        else:
            self._owner.failed(self, error)

    # ---- after a failover, a silence, and at times ----------------------------------------------------------------------

    def verify(self) -> None:
        """Ask whether the engine still has it as we know it."""
        if (self.made or not self.sure) and not self.gone and not self._busy:
            self._busy = True
            self.engine.ask(talk.query(self.call_id), self._on_queried)

    def _on_queried(self, said: Answer | MediaError) -> None:
        self._busy = False
        if self.gone:
            return
        if isinstance(said, NgRefused) and _unknown(said):
            self._lose(said)
        elif isinstance(said, MediaError):
            self._owner.progressed(self)
            self._owner.failed(self, said)
        else:
            self._take(talk.sides_of(said))

    def _take(self, sides: dict[str, talk.Side]) -> None:
        needed = {*self._owner.tags(self)}
        needed |= {self.mate(tag) for tag in needed} - {DUMP}
        for tag, (_address, port) in list(self.ports.items()):
            if tag not in sides and tag not in needed:
                self.ports.pop(tag)  # it went with what it was paired with
            elif tag not in sides or sides[tag].port != port:
                self._lose(NgRefused(f"rtpengine {self.engine.address} does not have port {port} any more"))
                return
        for tag, side in sides.items():
            self.ports.setdefault(tag, (side.address, side.port))
            self.family.setdefault(tag, talk.family_of(side.address))
            self._next = max(self._next, int(tag) + 1)
        if not self.sure or not self._told:
            self.sure = True
            self._told = _pairs_of(sides)
        self._owner.progressed(self)
        self.settle()

    def _lose(self, error: MediaError) -> None:
        self.gone, self._busy = True, False
        self._owner.lost(self, error)

    def delete(self) -> None:
        """Its ports are needed no more."""
        if not self.gone:
            self.gone = True
            if self.made or self._offered or not self.sure:
                self._delete(1)

    def _delete(self, attempt: int) -> None:
        """If the engine hears of it in none of some attempts, it ends the session when it has been silent for long."""

        def heard(said: Answer | MediaError) -> None:
            if isinstance(said, MediaError) and not isinstance(said, NgRefused) and attempt < 3:
                self._delete(attempt + 1)

        self.engine.ask(talk.delete(self.call_id), heard)


def _pairs_of(sides: dict[str, talk.Side]) -> dict[str, Pair]:
    """The pairs that are beyond doubt: either side is paired with the other one and with nobody else."""
    told = {}
    for tag, side in sides.items():
        mates = _there(side, sides)
        mate = sides[mates[0]] if len(mates) == 1 else None
        if mate is not None and _there(mate, sides) == [tag]:
            told[tag] = Pair(tag, mates[0], side.point, mate.point).agreed()
    return told


def _there(side: talk.Side, sides: Mapping[str, talk.Side]) -> list[str]:
    """Whom it is paired with; the engine names those that were deleted, too."""
    return [mate for mate in side.mates if mate in sides]


def _unknown(error: MediaError) -> bool:
    return isinstance(error, NgRefused) and "Unknown call-id" in str(error)


def _new_call_id(name: str) -> str:
    return f"{name}.{getrandbits(48):012x}"


def _nothing(_said: Answer | MediaError) -> None:
    """Whatever comes."""


__all__ = ["DUMP", "NOWHERE", "Owner", "Pair", "Point", "Session"]
