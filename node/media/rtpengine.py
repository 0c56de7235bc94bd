"""rtpengine as media engine: the legs that have their ports there, asked for with the same words as those of our own relay.

The legs of a call are the sides of one session of the engine (`rtpengine_session`), paired as they are joined. What the engine
has no word for is done by our own media process behind it: prompts, tones, echo, and a partner whose port is in our own relay
or in another session. For that a leg gets an inner side in its session, whose peer is a leg of our media process, or the
partner's inner side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from node.media import rtpengine_talk as talk
from node.media.anchored import Anchored, Inside, Wish
from node.media.control import CodecName
from node.media.errors import MediaError, MediaStopped
from node.media.ng import Alarm, Loop, NgClient
from node.media.rtpengine_leg import Ended, Inner, Leg, Opened, Relay
from node.media.rtpengine_pool import Pool
from node.media.rtpengine_session import DUMP, NOWHERE, Pair, Point, Session

log = logging.getLogger(__name__)

LINGER = 10.0
"Seconds in which something that was asked of a session that is over may still arrive there."
LOOK = 2.0
"Seconds between two looks whether an engine is there and has what we think it has."


class Rtpengine:
    """All methods return at once. `then` is never called from within the method it was given to."""

    def __init__(self, relay: Relay, loop: Loop) -> None:
        self.on_lost: Callable[[str, MediaError], None] = lambda leg, error: None
        "A leg whose session the engine does not have any more."
        self._relay = relay
        self._loop = loop
        self._engines = Pool(loop, self._on_back)
        self._legs: dict[str, Leg] = {}
        self._sessions: dict[tuple[str, str], Session] = {}
        "Those that are live; the engine's address and the call-id they were born with name them."
        self._former: dict[tuple[str, str], Session] = {}
        "Those that are over since a moment."
        self._sides: dict[Session, dict[str, Leg]] = {}
        "The legs of each session by their tags."
        self._outside: dict[str, str] = {}
        "Legs of our own relay that are joined with one of ours."
        self._unsettled: dict[Session, None] = {}
        self._look: Alarm | None = None
        self._watched: tuple[str, ...] = ()

    def __contains__(self, leg: str) -> bool:
        return leg in self._legs

    @property
    def inner(self) -> list[str]:
        """The legs of our own media process that serve ours."""
        return [leg.inner.name for leg in self._legs.values() if leg.inner is not None]

    def watch(self, engines: Sequence[str]) -> None:
        """These are known to be there or not before somebody needs them; others, only while a session needs them."""
        self._watched = tuple(engines)
        for address in engines:
            self._engines.at(address).probe()
        self._prune()
        self._look_later()

    def sweep(self) -> None:
        """All legs of this slot are here: what else is in their sessions is nobody's."""
        for session in self._live():
            session.known = True
            self._settle_soon(session)

    def state(self) -> list[tuple[str, bool | None, int]]:
        """Of each engine its address, whether it answers, and how many sessions this worker has there."""
        sessions = [session.engine for session in self._live()]
        return [(engine.address, engine.answering, sessions.count(engine)) for engine in self._engines]

    def close_all(self) -> None:
        """Ask nothing any more. The sessions stay as they are, for a successor."""
        if self._look is not None:
            self._look.cancel()
        self._engines.close()

    # ---- legs ------------------------------------------------------------------------------------------------------

    def open(self, name: str, wish: Wish, inside: Inside, then: Opened) -> None:
        """A port in the session of one of the legs beside it, or in one of its own."""
        leg = self._legs.get(name)
        if leg is None:
            leg = self._revived(name, wish.last, inside) if wish.last else self._new(name, wish, inside)
            sides = self._sides.setdefault(leg.session, {})
            if leg.tag in sides:
                taken = MediaError(f"port {wish.last.port if wish.last else 0} is another leg's")
                self._loop.call_later(0, lambda: then(taken))
                return
            self._legs[name] = sides[leg.tag] = leg
        leg.waiting.append(then)
        if leg.session.doubtful and not leg.session.made:
            leg.session.verify()
        self._settle_soon(leg.session)
        self._look_later()

    def _new(self, name: str, wish: Wish, inside: Inside) -> Leg:
        family = talk.family_of(inside.address)
        for other in (self._legs[each] for each in wish.beside if each in self._legs):
            session = other.session
            if session.gone or session.engine.address not in wish.engines:
                continue
            session.only(wish.engines)
            if other.side and other.inner is None and session.family[other.side] == family and not self._across(other):
                tag, other.side = other.side, ""
                return Leg(name, session, tag, inside, None)
            return self._placed(Leg(name, session, session.fresh(family), inside, None))
        # Those that are known not to answer come last.
        engines = sorted(map(self._engines.at, wish.engines), key=lambda engine: engine.answering is False)
        # A predecessor may have made it, and may not have come to writing that down: then it is this one.
        key = engines[0].address, name
        call_id = name if key not in self._sessions and key not in self._former else ""
        session = Session(self, engines, name, call_id)
        self._sessions[session.key] = session
        return self._placed(Leg(name, session, session.fresh(family), inside, None))

    def _placed(self, leg: Leg) -> Leg:
        leg.side = leg.session.fresh(talk.family_of(leg.inside.address))
        return leg

    def _revived(self, name: str, last: Anchored, inside: Inside) -> Leg:
        key = last.engine, last.call_id
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = Session(
                self, [self._engines.at(last.engine)], name, last.call_id, made=True
            )
        session.claim(last.tag, talk.family_of(last.address))
        for other in self._sides.get(session, {}).values():
            if other.side == last.tag:
                other.side = ""
        return Leg(name, session, last.tag, inside, last, untouched=True)

    def remote(self, name: str, to: Point) -> None:
        """Where the description of its peer says that it is, and which way packets flow."""
        leg = self._legs.get(name)
        if leg is not None and leg.remote != to:
            leg.remote = to
            self._settle_soon(leg.session)

    def join(self, a: str, b: str) -> None:
        """Forward between the two, one of which may be of our own relay; ends what else they did."""
        one, other = self._legs.get(a), self._legs.get(b)
        already = (one is not None and b in (one.joined, one.outside)) or (other is not None and other.outside == a)
        if a == b or already:
            return
        self.leave(a)
        self.leave(b)
        if one is not None and other is not None:
            one.joined, other.joined = b, a
            for leg in (one, other):
                leg.untouched = False
                self._settle_soon(leg.session)
        elif one is not None:
            self._join_outside(one, b)
        elif other is not None:
            self._join_outside(other, a)

    def _join_outside(self, leg: Leg, other: str) -> None:
        self._serve(leg, lambda inner: self._relay.join(inner, other))
        leg.outside = other
        self._outside[other] = leg.name

    def part(self, name: str) -> None:
        """Forward no more between this leg and whom it was joined with."""
        self.leave(name)

    def leave(self, name: str) -> None:
        """Whatever the leg does, it ends. It may be one of our own relay that is joined with one of ours."""
        leg = self._legs.get(name)
        if leg is None:
            if partner := self._outside.get(name, ""):
                self.leave(partner)
            return
        leg.untouched = False
        partner_leg = self._legs.get(leg.joined)
        if partner_leg is not None:
            partner_leg.joined = ""
            self._settle_soon(partner_leg.session)
        self._outside.pop(leg.outside, None)
        leg.joined = leg.outside = ""
        self._rest(leg)
        self._settle_soon(leg.session)

    def close(self, name: str) -> None:
        """Its port is needed no more; with the last leg of a session that ends."""
        leg = self._legs.get(name)
        if leg is None:
            return
        self.leave(name)
        del self._legs[name]
        sides = self._sides[leg.session]
        del sides[leg.tag]
        if not sides:
            self._forget(leg.session)
            leg.session.delete()

    # ---- what our own media process does for a leg ------------------------------------------------------------------

    def play(
        self, name: str, source: str, *, payload_type: int, codec: CodecName, then: Ended, skip: float = 0.0
    ) -> None:
        """As `MediaClient.play`."""
        leg = self._legs[name]
        if leg.joined or leg.outside:
            self.leave(name)

        def play(inner: str) -> None:
            self._relay.play(inner, source, payload_type=payload_type, codec=codec, then=then, skip=skip)

        self._serve(leg, play, then)

    def stop(self, name: str) -> None:
        inner = self._legs[name].inner
        if inner is not None:
            self._cut_short(inner)
            self._relay.stop(inner.name)

    def echo(self, name: str, on: bool) -> None:
        leg = self._legs[name]
        if on:
            self.leave(name)
            self._serve(leg, lambda inner: self._relay.echo(inner, True))
        elif leg.inner is not None:
            self._cut_short(leg.inner)
            self._relay.echo(leg.inner.name, False)

    def _serve(self, leg: Leg, act: Callable[[str], None], ended: Ended | None = None) -> None:
        """Have our own media process do something, when its packets reach the leg."""
        if leg.inner is None:
            inner = leg.inner = Inner(f"{leg.name}~")
            where = leg.inside
            self._relay.open(
                inner.name,
                address=where.address,
                first=where.first,
                last=where.last,
                dscp=where.dscp,
                then=partial(self._on_inner_open, leg, inner),
            )
        self._cut_short(leg.inner)
        leg.inner.act, leg.inner.ended = act, ended
        leg.untouched = False
        if leg.session.doubtful:
            leg.session.verify()  # should it not be there, that is to be known
        self._settle_soon(leg.session)

    def _on_inner_open(self, leg: Leg, inner: Inner, outcome: int | MediaError) -> None:
        if leg.inner is not inner:
            return
        if isinstance(outcome, MediaError):
            log.error("leg %s: no port of our own media process: %s", leg.name, outcome)
            leg.inner = None
            if inner.ended is not None:
                inner.ended(outcome)
            return
        inner.port = outcome
        self._settle_soon(leg.session)

    def _end_service(self, leg: Leg, inner: Inner, error: MediaError) -> None:
        if inner.ended is not None:
            self._loop.call_later(0, partial(inner.ended, error))
            inner.ended = None
        self._rest(leg)
        self._settle_soon(leg.session)

    def _rest(self, leg: Leg) -> None:
        if leg.inner is not None:
            inner, leg.inner = leg.inner, None
            self._cut_short(inner)
            self._relay.close(inner.name)

    def _cut_short(self, inner: Inner) -> None:
        """What has not begun does not begin."""
        inner.act = None
        if inner.ended is not None:
            ended, inner.ended = inner.ended, None
            self._loop.call_later(0, partial(ended, MediaStopped("stopped")))

    # ---- what a session asks ----------------------------------------------------------------------------------------

    def wished(self, session: Session) -> list[Pair]:
        """Joined legs are paired; one that is served, with its inner side; one alone stays as it is, without a sound."""
        pairs: list[Pair] = []
        legs = self.tags(session)
        for leg in legs.values():
            partner = self._legs.get(leg.joined)
            if partner is not None and partner.session is session:
                if int(leg.tag) < int(partner.tag):
                    pairs.append(Pair(leg.tag, partner.tag, leg.remote, partner.remote))
            elif leg.inner is not None or partner is not None:
                leg.side = leg.side or self._side_for(leg, legs)
                pairs.append(Pair(leg.tag, leg.side, leg.remote, self._behind(leg)))
        busy = {tag for pair in pairs for tag in pair[:2]} - {DUMP}
        for leg in legs.values():
            if leg.tag not in busy and (pair := self._idle(leg, legs, busy)) is not None:
                pairs.append(pair)
                busy.update(tag for tag in pair[:2] if tag != DUMP)
        if session.known:
            self._give_up_sides(legs, pairs)
        return pairs

    def tags(self, session: Session) -> Mapping[str, Leg]:
        """The legs of a session by their tags."""
        return self._sides.get(session, {})

    def _give_up_sides(self, legs: Mapping[str, Leg], pairs: Sequence[Pair]) -> None:
        """Who is paired otherwise gets a new inner side when it is served again: the port of the old one is given back."""
        for x, y, *_points in pairs:
            for tag, mate in ((x, y), (y, x)):
                if tag in legs and legs[tag].side != mate:
                    legs[tag].side = ""

    def _side_for(self, leg: Leg, legs: Mapping[str, Leg]) -> str:
        """An inner side: the one that a predecessor made, if it is nobody's, or a new one."""
        session = leg.session
        mate = "" if session.known else session.mate(leg.tag)
        return mate if mate and mate != DUMP and mate not in legs else session.fresh(talk.family_of(leg.inside.address))

    def _idle(self, leg: Leg, legs: Mapping[str, Leg], busy: set[str]) -> Pair | None:
        """For a port, or to be silent towards whom it was paired with."""
        session = leg.session
        mate = session.mate(leg.tag)
        if mate:
            # Whose mate is busy with others is cut off by the session.
            ours = mate in legs or mate in (leg.side, DUMP)
            if leg.untouched or mate in busy or not (ours or session.known):
                return None
            pair = Pair(leg.tag, mate)
            return pair if ours and session.done(pair) else session.dumped(leg.tag, leg.remote)
        if leg.tag in leg.session.ports:
            return None
        others = (tag for tag in legs if tag != leg.tag and tag not in busy and not leg.session.mate(tag))
        side = leg.side or next(others, "") or self._side_for(leg, legs)
        return Pair(leg.tag, side)

    def _behind(self, leg: Leg) -> Point:
        """Where the packets of an inner side go."""
        if leg.inner is not None:
            port = leg.inner.port
            return Point(leg.inside.address, port, port + 1) if port else NOWHERE
        partner = self._legs[leg.joined]
        host, port = partner.session.ports.get(partner.side, ("", 0))
        return Point(host, port, port + 1) if port else NOWHERE

    def _across(self, leg: Leg) -> bool:
        """Joined with a leg of another session."""
        partner = self._legs.get(leg.joined)
        return partner is not None and partner.session is not leg.session

    def progressed(self, session: Session) -> None:
        """The engine has answered: partners in other sessions are pointed here, too."""
        self._attend(session)
        for leg in self._sides.get(session, {}).values():
            if self._across(leg):
                self._settle_soon(self._legs[leg.joined].session)

    def _attend(self, session: Session) -> None:
        """Tell those who wait for ports, begin what waited for its pair."""
        for leg in list(self._sides.get(session, {}).values()):
            self._tell_port(leg)
            if leg.inner is not None and leg.inner.act is not None:
                self._begin(leg, leg.inner)

    def _tell_port(self, leg: Leg) -> None:
        if not leg.waiting:
            return
        session, last = leg.session, leg.last
        place = session.ports.get(leg.tag)
        if last is None and place is not None:
            leg.last = Anchored(session.engine.address, session.call_id, leg.tag, *place)
            self._tell_place(leg, leg.last)
        elif last is None or not session.sure:
            return
        elif place is None or place[1] != last.port:
            self._refuse(leg, MediaError(f"rtpengine {last.engine} does not have port {last.port} any more"))
        else:
            self._tell_place(leg, last)

    def _tell_place(self, leg: Leg, place: Anchored) -> None:
        waiting, leg.waiting = leg.waiting, []
        for then in waiting:
            then(place)

    def _refuse(self, leg: Leg, error: MediaError) -> None:
        waiting, leg.waiting = leg.waiting, []
        self.close(leg.name)
        for then in waiting:
            then(error)

    def _begin(self, leg: Leg, inner: Inner) -> None:
        place = leg.session.ports.get(leg.side)
        pair = Pair(leg.tag, leg.side, leg.remote, self._behind(leg)) if leg.side else None
        if place is None or pair is None or not inner.port or not leg.session.done(pair):
            return
        act, inner.act, inner.ended = inner.act, None, None
        self._relay.remote(inner.name, place[0], place[1], place[1] + 1)
        if act is not None:
            act(inner.name)

    def failed(self, session: Session, error: MediaError) -> None:
        """Who waits for a new port there gets none. Who had one has it still, for all we know: the engine forgets no call.

        What waited to be played to one of its legs is over.
        """
        for leg in list(self._sides.get(session, {}).values()):
            if leg.inner is not None and leg.inner.ended is not None:
                self._end_service(leg, leg.inner, error)
            if not leg.waiting or leg.tag in session.ports:
                continue
            if leg.last is None:
                self._refuse(leg, error)
            else:
                log.warning("leg %s is taken to be on port %d still: %s", leg.name, leg.last.port, error)
                self._tell_place(leg, leg.last)

    def lost(self, session: Session, error: MediaError) -> None:
        """Who waits is refused; the others are told. It may not be the only one: until one is still there, the next is asked."""
        for leg in list(self._sides.get(session, {}).values()):
            waited = bool(leg.waiting)
            if leg.inner is not None:
                self._end_service(leg, leg.inner, error)
            self._refuse(leg, error)
            if not waited:
                self.on_lost(leg.name, error)
        self._look_at(session.engine)

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _settle_soon(self, session: Session) -> None:
        """When the loop comes round: what belongs together is told at once."""
        if not self._unsettled:
            self._loop.call_later(0, self._settle)
        self._unsettled[session] = None

    def _settle(self) -> None:
        unsettled, self._unsettled = self._unsettled, {}
        for session in unsettled:
            if not session.gone:
                session.settle()
                self._attend(session)

    def _on_back(self, engine: NgClient) -> None:
        """It was away: it may be another one, with or without what it knew."""
        for session in self._live():
            if session.engine is engine:
                session.verify()

    def _look_later(self) -> None:
        if self._look is None and self._engines:
            self._look = self._loop.call_later(LOOK, self._look_round)

    def _look_round(self) -> None:
        """Ask each engine for one of its sessions, or whether it is there."""
        self._look = None
        self._prune()
        for engine in self._engines:
            # One that does not answer is being probed.
            if engine.answering is not False and not self._look_at(engine):
                engine.probe()
        self._look_later()

    def _prune(self) -> None:
        """Engines that no profile names any more go with the last session that has to do with them."""
        sessions = (*self._sessions.values(), *self._former.values())
        self._engines.keep({*self._watched}.union(*(session.engines for session in sessions)))

    def _look_at(self, engine: NgClient) -> bool:
        """Ask for the session that was not asked for longest, and for one that is in doubt; False: there is none."""
        sessions = [session for session in self._sessions.values() if session.engine is engine and not session.gone]
        doubtful = next((session for session in sessions if session.doubtful), None)
        for session in {sessions[0], doubtful or sessions[0]} if sessions else ():
            self._sessions[session.key] = self._sessions.pop(session.key)  # the next time another one
            session.verify()
        return bool(sessions)

    def _live(self) -> list[Session]:
        return list(self._sessions.values())

    def _forget(self, session: Session) -> None:
        key = session.key
        if self._sessions.pop(key, None) is not None:
            self._former[key] = session
            self._loop.call_later(LINGER, partial(self._on_lingered, key))
        if not self._sides.get(session):
            self._sides.pop(session, None)

    def _on_lingered(self, key: tuple[str, str]) -> None:
        self._former.pop(key, None)
