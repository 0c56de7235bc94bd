"""What the workers order: legs opened, aimed, joined, played to, closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from node.media import control
from node.media.control import Counters, Order, Report
from node.media.errors import MediaError
from node.media.orphans import Orphans
from node.media.playback import Player
from node.media.ports import Pair, Ports, numeric
from node.media.relay import Address, Leg

log = logging.getLogger(__name__)

EXACT_RETRY = 0.05
"Seconds between attempts to bind a port that was asked for exactly."
EXACT_ATTEMPTS = 20
"The dying owner of the port, or the address itself, may take a moment to move."
WATCH = 0.25
"Seconds between looks at the counters of watched legs."
REAP = 15.0
"Seconds between looks at legs whose worker is gone."
WORD = 200
"Characters of a leg's name at most."


class Loop(Protocol):
    """What the orders need of the server."""

    def admit(self, leg: Leg) -> None: ...
    def dismiss(self, leg: Leg) -> None: ...
    def later(self, delay: float, callback: Callable[[], None]) -> None: ...
    def report(self, slot: str, report: Report) -> None: ...
    def answer(self, slot: str) -> None: ...
    def has_worker(self, slot: str) -> bool: ...


class _Watched:
    """A leg whose silence somebody wants to hear of."""

    __slots__ = ("packets", "seconds", "since", "told")

    def __init__(self, leg: Leg, seconds: float, now: float) -> None:
        self.seconds = seconds
        self.packets = leg.rtp.packets
        self.since = now
        self.told = False


class Orders:
    """The legs of all workers of the node, and what may be done with them.

    A leg's name is a UUID, so it is enough to find it; the slot says who hears of it and whose sweep takes it. A worker
    that takes over another slot's calls opens their legs under its own slot, and with that they are its own.
    """

    def __init__(self, loop: Loop, foreign: str = "") -> None:
        self._loop = loop
        self._ports = Ports(foreign)
        self._legs: dict[str, Leg] = {}
        self._watched: dict[str, _Watched] = {}
        self._looking = False
        self._binding: dict[str, int] = {}
        "Legs whose exact port is still being tried for, with the number of the order."
        self._sweeps: dict[str, tuple[int, set[str]]] = {}
        self._orphans = Orphans()
        self.player = Player(self._on_finished)
        loop.later(REAP, self._reap)

    def obey(self, slot: str, order: Order) -> None:
        """Raises MediaError for what is refused."""
        match order:
            case control.Open():
                self._open(slot, order)
            case control.Remote():
                self._remote(order)
            case control.Join(a, b):
                self._join(a, b)
            case control.Part(name):
                self._part(name)
            case control.Play():
                self._play(slot, order)
            case control.Stop(name):
                self._stop(name)
            case control.Echo(name, on):
                self._echo(name, on)
            case control.Watch(name, seconds):
                self._watch(name, seconds)
            case control.Recognise(name, payload_type):
                self._recognise(name, payload_type)
            case control.Close(name):
                self._close(name)
            case control.Count(number, name):
                self._loop.report(slot, self._count(number, name))
            case control.Sweep():
                self._sweep(slot, order)
            case control.Hello():
                self._loop.answer(slot)

    def release(self) -> None:
        """Another node has our address: nothing comes here any more, and the ports are to be free."""
        if self._legs:
            log.info("%d legs are another node's now", len(self._legs))
        for name in [*self._legs, *self._binding]:
            self._close(name)
        self._ports.close()

    def close(self) -> None:
        for name in list(self._legs):
            self._close(name)
        self._ports.close()

    # ---- opening and closing ---------------------------------------------------------------------------------------

    def _open(self, slot: str, order: control.Open) -> None:
        if not 0 < len(order.leg) <= WORD:
            raise MediaError("a leg needs a name")
        self._binding.pop(order.leg, None)
        leg = self._legs.get(order.leg)
        if leg is not None:
            if leg.pair.address == order.address and order.port in (0, leg.pair.port):
                leg.slot = slot
                self._loop.report(slot, control.Opened(order.number, leg.pair.port))
                return
            self._close(leg.name)
        if order.port:
            self._binding[order.leg] = order.number
            self._open_exactly(slot, order, EXACT_ATTEMPTS)
        else:
            self._admit(slot, order, self._ports.take(order.address, order.first, order.last, time.monotonic()))

    def _open_exactly(self, slot: str, order: control.Open, attempts: int) -> None:
        if self._binding.get(order.leg) != order.number:
            return  # closed, or opened otherwise, in the meantime
        try:
            pair = self._ports.take_exactly(order.address, order.port)
        except OSError as error:
            if attempts:
                self._loop.later(EXACT_RETRY, lambda: self._open_exactly(slot, order, attempts - 1))
                return
            del self._binding[order.leg]
            reason = f"cannot open RTP port {order.port} on {order.address}: {error.strerror}"
            self._loop.report(slot, control.Refused(order.number, reason))
            return
        del self._binding[order.leg]
        self._admit(slot, order, pair)

    def _admit(self, slot: str, order: control.Open, pair: Pair) -> None:
        pair.mark(order.dscp)
        leg = Leg(slot, order.leg, pair)
        leg.rtp.on_learned = lambda source: self._on_learned(leg, source)
        leg.rtp.on_digit = lambda digit, milliseconds: self._on_digit(leg, digit, milliseconds)
        self._legs[order.leg] = leg
        self._loop.admit(leg)
        self._loop.report(slot, control.Opened(order.number, pair.port))

    def _close(self, name: str) -> None:
        self._binding.pop(name, None)
        self._watched.pop(name, None)
        leg = self._legs.pop(name, None)
        if leg is None:
            return
        self.player.forget(leg)
        self._loop.dismiss(leg)
        leg.release()
        self._ports.give_back(leg.pair, time.monotonic())

    def _sweep(self, slot: str, order: control.Sweep) -> None:
        """Parts come in order; a list with a hole (we were started in the middle of it) sweeps nothing."""
        parts, live = self._sweeps.pop(slot, (0, set())) if order.part else (0, set[str]())
        if order.part != parts:
            return
        live.update(order.live)
        if order.part + 1 < order.parts:
            self._sweeps[slot] = (parts + 1, live)
            return
        stale = [leg.name for leg in self._legs.values() if leg.slot == slot and leg.name not in live]
        for name in stale:
            self._close(name)
        if stale:
            log.info("%d legs of %s belong to no call any more and were closed", len(stale), slot)

    def _reap(self) -> None:
        legs = [(leg.name, leg.slot, leg.rtp.packets) for leg in self._legs.values()]
        for name in self._orphans.look(legs, self._loop.has_worker, time.monotonic()):
            log.warning("leg %s has had neither worker nor packets for long and was closed", name)
            self._close(name)
        self._loop.later(REAP, self._reap)

    # ---- what happens on a leg -------------------------------------------------------------------------------------

    def _remote(self, order: control.Remote) -> None:
        if leg := self._legs.get(order.leg):
            learned = numeric(order.learned_host, order.learned_port) if order.learned_port else None
            leg.aim(order.host, order.port, order.rtcp_port, learned)

    def _join(self, a: str, b: str) -> None:
        one, other = self._legs.get(a), self._legs.get(b)
        if one is None or other is None or one is other:
            return
        self.player.stop(one)
        self.player.stop(other)
        if one.partner is not other:
            one.join(other)

    def _part(self, name: str) -> None:
        leg = self._legs.get(name)
        if leg is not None and leg.partner is not leg:
            leg.part()

    def _echo(self, name: str, on: bool) -> None:
        leg = self._legs.get(name)
        if leg is None:
            return
        if on:
            self.player.stop(leg)
            leg.join(leg)
        elif leg.partner is leg:
            leg.part()

    def _play(self, slot: str, order: control.Play) -> None:
        leg = self._legs.get(order.leg)
        if leg is None:
            raise MediaError(f"no open leg {order.leg} to play to")
        leg.part()  # also from itself: an echo
        self.player.play(
            leg,
            order.number,
            order.source,
            order.payload_type,
            order.codec,
            time.monotonic(),
            time.time(),
            skip=order.skip,
        )

    def _stop(self, name: str) -> None:
        if leg := self._legs.get(name):
            self.player.stop(leg)

    def _recognise(self, name: str, payload_type: int) -> None:
        if leg := self._legs.get(name):
            leg.rtp.recognise(payload_type)

    def _count(self, number: int, name: str) -> Counters:
        leg = self._legs.get(name)
        if leg is None:
            raise MediaError(f"no open leg {name} to count")
        packets_out, octets_out = leg.rtp.counted_out
        played = self.player.packets.get(name, 0)
        host, port = leg.rtp.destination[:2] if leg.rtp.destination else ("", 0)
        return Counters(
            number=number,
            packets_in=leg.rtp.packets,
            octets_in=leg.rtp.octets,
            packets_out=packets_out + played,
            octets_out=octets_out + played * 172,
            rtcp_in=leg.rtcp.packets,
            rtcp_out=leg.rtcp.counted_out[0],
            played=played,
            dropped=leg.rtp.dropped + leg.rtcp.dropped,
            remote_host=host,
            remote_port=port,
        )

    # ---- silence ---------------------------------------------------------------------------------------------------

    def _watch(self, name: str, seconds: float) -> None:
        leg = self._legs.get(name)
        if leg is None:
            return
        if seconds <= 0:
            self._watched.pop(name, None)
            return
        if not self._looking:
            self._looking = True
            self._loop.later(WATCH, self._look)
        self._watched[name] = _Watched(leg, seconds, time.monotonic())

    def _look(self) -> None:
        now = time.monotonic()
        for name, watched in self._watched.items():
            leg = self._legs[name]
            if leg.rtp.packets != watched.packets:
                watched.packets, watched.since, watched.told = leg.rtp.packets, now, False
            elif not watched.told and now - watched.since >= watched.seconds:
                watched.told = True
                self._loop.report(leg.slot, control.Silent(name))
        self._looking = bool(self._watched)
        if self._looking:
            self._loop.later(WATCH, self._look)

    # ---- what the packets bring ------------------------------------------------------------------------------------

    def _on_learned(self, leg: Leg, source: Address) -> None:
        leg.learn(source)
        self._loop.report(leg.slot, control.Learned(leg.name, source[0], source[1]))

    def _on_digit(self, leg: Leg, digit: str, milliseconds: int) -> None:
        self._loop.report(leg.slot, control.Pressed(leg.name, digit, milliseconds))

    def _on_finished(self, leg: Leg, number: int, error: MediaError | None, stopped: bool) -> None:
        if error is not None:
            self._loop.report(leg.slot, control.Refused(number, str(error)))
        else:
            self._loop.report(leg.slot, control.Played(number, stopped))
