"""The worker's side of the media process: `MediaClient` asks it for ports, tells it who talks to whom, and hears from it.

The client knows everything it asked for. When the media process dies, the new one gets it all again: the same legs on
the same ports. When the worker dies, the legs go on; its successor opens the same ones and gets the ports they have.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from random import randrange
from typing import Protocol

import msgspec

from node.debug import soa
from node.media import control
from node.media.control import CodecName, Counters, Order, Report
from node.media.errors import MediaError, MediaStopped

log = logging.getLogger(__name__)

DEADLINE = 2.0
"Seconds an order that is answered may take, a restart of the media process included."
HELLO_EVERY = 0.1
"Seconds between attempts to reach a media process that does not answer."
RETRY = 0.002
"Seconds until a datagram that the media process had no room for is sent again."
BACKLOG = 2_000
"Datagrams that may wait for room; with more than that the media process counts as lost."
DRAIN = 64
"Datagrams read in one wake-up."


class Alarm(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None: ...


Opened = Callable[[int | MediaError], None]
Ended = Callable[[MediaError | None], None]
Counted = Callable[[Counters | MediaError], None]


class MediaClient:
    """All methods return at once; what they ask for goes out in one datagram when the loop comes round.

    `then` is never called from within the method it was given to. Orders about a leg that is not open are ignored.
    """

    on_silence: Callable[[str], None]
    "A watched leg sent nothing for as long as `watch` said. Told once for each silence."
    on_digit: Callable[[str, str, int], None]
    "Leg, digit (`0`-`9 * # A`-`D`, or `F` for flash), milliseconds; for legs with `recognise` on."
    on_learned: Callable[[str, str, int], None]
    "Leg, host, port: where its packets really come from, which is not what its SDP says. Worth keeping in its record."
    on_lost: Callable[[str, MediaError], None]
    "A leg that could not be opened again after a restart of the media process."

    def __init__(
        self,
        path: Path,
        slot: str,
        *,
        add_reader: Callable[[int, Callable[[], None]], object],
        remove_reader: Callable[[int], object],
        call_later: Callable[[float, Callable[[], None]], Alarm],
    ) -> None:
        """`path` is the socket of the media process (`media` in the run directory); ours is bound beside it."""
        self.on_silence = lambda leg: None
        self.on_digit = lambda leg, digit, milliseconds: None
        self.on_learned = lambda leg, host, port: None
        self.on_lost = lambda leg, error: None
        self._path = str(path)
        self._slot = slot
        self._remove_reader = remove_reader
        self._call_later = call_later
        self._own = control.client_path(str(path), slot)
        self._socket = _bind(self._own)
        self._legs: dict[str, _Leg] = {}
        # A successor hears what was meant for us: its numbers must be others.
        self._numbers = count(randrange(1 << 48))
        self._waiting: dict[int, _Waiting] = {}
        self._playing: dict[int, tuple[str, Ended]] = {}
        self._swept: list[str] | None = None
        "The last sweep, until the media process has surely heard of it."
        self._marks: list[int] = []
        "Numbers of orders whose only purpose is their answer; some are answered already."
        self._orders: list[Order] = []
        self._backlog: deque[bytes] = deque()
        self._flush_set = self._retry_set = self._expiry_set = False
        self._instance = ""
        self._in_step = False
        "Whether the media process knows all we know; if not, it is told everything when it answers."
        add_reader(self._socket.fileno(), self._on_readable)
        self._say_hello()

    # ---- legs ------------------------------------------------------------------------------------------------------

    def open(
        self, leg: str, *, address: str, first: int, last: int, port: int | None = None, dscp: int = 46, then: Opened
    ) -> None:
        """An even RTP port of `address` in [first, last], RTCP the next one; `port`: exactly this one.

        A leg that is open already, be it by an earlier worker of this slot, keeps its port and goes on forwarding.
        """
        number = next(self._numbers)
        known = self._legs.get(leg)
        if known is None:
            known = self._legs[leg] = _Leg(leg)
        elif port is None and known.opening is not None and known.opening.address == address:
            port = known.opening.port
        known.opening = control.Open(number, leg, address, first, last, port or 0, dscp)
        self._wait(number, leg, then)
        self._post(known.opening)

    def remote(self, leg: str, host: str, port: int, rtcp_port: int, *, learned: tuple[str, int] | None = None) -> None:
        """Where the SDP says the peer is; the first packets may teach otherwise. `learned`: what they taught before."""
        if (known := self._legs.get(leg)) is not None:
            learned_host, learned_port = learned or ("", 0)
            last = known.remote
            if learned is None and last is not None and (last.host, last.port) == (host, port):
                learned_host, learned_port = last.learned_host, last.learned_port
            known.remote = control.Remote(leg, host, port, rtcp_port, learned_host, learned_port)
            self._post(known.remote)

    def join(self, a: str, b: str) -> None:
        """Forward between the two from now on; ends playback, echo and former joins of both."""
        one, other = self._legs.get(a), self._legs.get(b)
        if one is None or other is None or a == b:
            return
        for leg in (one, other):
            self._forget_partner(leg)
            leg.echo, leg.playing = False, None
        one.joined, other.joined = b, a
        self._post(control.Join(a, b))

    def part(self, leg: str) -> None:
        """Forward no more between this leg and the one it was joined with."""
        if (known := self._legs.get(leg)) is not None:
            self._forget_partner(known)
            self._post(control.Part(leg))

    def close(self, leg: str) -> None:
        """Give the leg's ports back."""
        known = self._legs.pop(leg, None)
        if known is not None:
            self._forget_partner(known)
            self._post(control.Close(leg))

    def sweep(self, live: Sequence[str]) -> None:
        """After a recovery: the media process drops every other leg of this slot."""
        self._swept = list(live)
        for order in control.sweep_orders(live):
            self._post(order)

    # ---- what a leg hears, and what we hear of it ------------------------------------------------------------------

    def play(
        self, leg: str, source: str, *, payload_type: int, codec: CodecName, then: Ended, skip: float = 0.0
    ) -> None:
        """Play a WAV file, `tone_stream://` or `silence_stream://`; `then(None)` when it was played to its end.

        The leg is parted from whom it was joined with. `skip`: seconds that it has heard already.

        `then` gets MediaStopped when a stop, a join, another play or the end of the leg cut it short, another
        MediaError when the source cannot be played.
        """
        known = self._legs.get(leg)
        if known is None:
            self._call_later(0, lambda: then(MediaError(f"no open leg {leg} to play to")))
            return
        self._forget_partner(known)
        known.echo = False
        number = next(self._numbers)
        self._playing[number] = (leg, then)
        known.playing = control.Play(number, leg, source, payload_type, codec, skip)
        self._post(known.playing)

    def stop(self, leg: str) -> None:
        """End the playback to this leg."""
        if (known := self._legs.get(leg)) is not None:
            known.playing = None
            self._post(control.Stop(leg))

    def echo(self, leg: str, on: bool) -> None:
        """Send the leg's own packets back to it."""
        if (known := self._legs.get(leg)) is not None:
            known.echo = on
            if on:
                self._forget_partner(known)
                known.playing = None
            self._post(control.Echo(leg, on))

    def watch(self, leg: str, seconds: float) -> None:
        """Call `on_silence` when nothing comes from the leg for so long; 0 watches no more."""
        if (known := self._legs.get(leg)) is not None:
            known.watch = seconds
            self._post(control.Watch(leg, seconds))

    def recognise(self, leg: str, payload_type: int | None) -> None:
        """Call `on_digit` for telephone-events of this payload type (RFC 4733); None listens no more."""
        if (known := self._legs.get(leg)) is not None:
            known.recognise = -1 if payload_type is None else payload_type
            self._post(control.Recognise(leg, known.recognise))

    def counters(self, leg: str, then: Counted) -> None:
        """Packets and octets of the leg since it was opened."""
        number = next(self._numbers)
        self._wait(number, "", then)
        self._post(control.Count(number, leg))

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then` when the media process has done all that it was asked for until now, or cannot say so."""
        number = next(self._numbers)
        self._wait(number, "", lambda _outcome: then())
        self._marks.append(number)
        self._post(control.Count(number, ""))

    def shut(self) -> None:
        """Let go of the socket; nobody is told any more. The legs stay as they are, for a successor."""
        self._flush()
        self._waiting.clear()
        if self._socket.fileno() >= 0:
            self._remove_reader(self._socket.fileno())
            self._socket.close()

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _post(self, order: Order) -> None:
        if soa.level >= 7:
            soa.say("media: %s", order)
        if not self._in_step:
            return  # it is in our books, from which the media process will be told everything
        self._orders.append(order)
        if not self._flush_set:
            self._flush_set = True
            self._call_later(0, self._flush)

    def _flush(self) -> None:
        self._flush_set = False
        if self._orders:
            self._swept = None
            self._backlog.extend(control.encode_orders(self._slot, self._orders))
            self._orders = []
        self._send()

    def _send(self) -> None:
        if self._socket.fileno() < 0:
            return
        while self._backlog:
            try:
                self._socket.sendto(self._backlog[0], self._path)
            except BlockingIOError:
                self._send_later()
                return
            except OSError as error:
                self._lose(f"media process does not answer: {error.strerror}")
                return
            self._backlog.popleft()

    def _send_later(self) -> None:
        """A Unix datagram socket queues few datagrams; the media process empties it in no time, or hangs."""
        if len(self._backlog) > BACKLOG:
            self._lose("media process takes no more orders")
        elif not self._retry_set:
            self._retry_set = True
            self._call_later(RETRY, self._retry)

    def _retry(self) -> None:
        self._retry_set = False
        self._send()

    def _lose(self, reason: str) -> None:
        if self._in_step:
            log.warning("%s; its legs are opened again when it is back", reason)
            self._in_step = False
            self._call_later(HELLO_EVERY, self._say_hello)
        self._orders = []
        self._backlog.clear()

    def _say_hello(self) -> None:
        """Until the media process answers; its answer brings the two into step."""
        if self._in_step or self._socket.fileno() < 0:
            return
        try:
            self._socket.sendto(control.encode_orders(self._slot, [control.Hello()])[0], self._path)
        except OSError:
            pass  # not there yet, or no room: the next attempt follows anyway
        self._call_later(HELLO_EVERY, self._say_hello)

    def _tell_everything(self) -> None:
        """A media process that has just started learns all legs again, on the ports they had."""
        self._in_step = True
        self._give_up_playbacks()
        # First of all, since legs that were opened after the sweep are none of its business.
        self._orders = [] if self._swept is None else list(control.sweep_orders(self._swept))
        self._swept = None
        for leg in self._legs.values():
            if leg.opening is None:
                continue
            if leg.opening.number not in self._waiting:
                again = control.Open(next(self._numbers), *_where(leg.opening))
                leg.opening = again
                self._wait(again.number, leg.name, lambda outcome, name=leg.name: self._reopened(name, outcome))
            self._orders += leg.orders()
        joins = {tuple(sorted((leg.name, leg.joined))) for leg in self._legs.values() if leg.joined}
        self._orders += [control.Join(a, b) for a, b in sorted(joins)]
        self._marks = [number for number in self._marks if number in self._waiting]
        self._orders += [control.Count(number, "") for number in self._marks]
        self._flush()

    def _give_up_playbacks(self) -> None:
        """Those that were stopped while nobody was there to say so."""
        for number, (name, _then) in list(self._playing.items()):
            leg = self._legs.get(name)
            if leg is None or leg.playing is None or leg.playing.number != number:
                self._on_played(number, MediaStopped("stopped"))

    def _reopened(self, leg: str, outcome: int | MediaError) -> None:
        if isinstance(outcome, MediaError):
            log.error("leg %s could not be opened again: %s", leg, outcome)
            self.on_lost(leg, outcome)

    # ---- receiving -------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        for _ in range(DRAIN):
            try:
                datagram = self._socket.recv(65536)
            except OSError:
                return
            try:
                reports = control.decode_reports(datagram)
            except msgspec.MsgspecError as error:
                log.warning("unreadable report of the media process dropped: %s", error)
                continue
            if reports.instance != self._instance or not self._in_step:
                self._meet(reports.instance)
            for report in reports.reports:
                self._hear_safely(report)

    def _meet(self, instance: str) -> None:
        if self._instance and instance != self._instance:
            log.warning("media process was restarted, opening %d legs again", len(self._legs))
        self._instance = instance
        self._tell_everything()

    def _hear_safely(self, report: Report) -> None:
        try:
            self._hear(report)
        except Exception:
            log.exception("report of the media process %s was not taken well", type(report).__name__)

    def _hear(self, report: Report) -> None:
        match report:
            case control.Opened(number, port):
                self._on_opened(number, port)
            case control.Refused(number, reason):
                self._on_refused(number, MediaError(reason))
            case control.Played(number, stopped):
                self._on_played(number, MediaStopped("stopped") if stopped else None)
            case control.Counters():
                self._answer(report.number, report)
            case control.Learned(leg, host, port):
                self._on_learned_address(leg, host, port)
            case control.Silent(leg):
                self.on_silence(leg)
            case control.Pressed(leg, digit, milliseconds):
                self.on_digit(leg, digit, milliseconds)

    def _on_opened(self, number: int, port: int) -> None:
        waiting = self._waiting.get(number)
        leg = self._legs.get(waiting.leg) if waiting else None
        if leg is not None and leg.opening is not None and leg.opening.number == number:
            leg.opening.port = port  # from now on exactly this one
        self._answer(number, port)

    def _on_refused(self, number: int, error: MediaError) -> None:
        if number in self._playing:
            self._on_played(number, error)
            return
        waiting = self._waiting.get(number)
        if waiting is not None and waiting.leg:
            self._drop_unopened(waiting.leg, number)
        self._answer(number, error)

    def _drop_unopened(self, name: str, number: int) -> None:
        leg = self._legs.get(name)
        if leg is not None and leg.opening is not None and leg.opening.number == number:
            self._forget_partner(leg)
            del self._legs[name]

    def _on_played(self, number: int, error: MediaError | None) -> None:
        name, then = self._playing.pop(number, ("", None))
        leg = self._legs.get(name)
        if leg is not None and leg.playing is not None and leg.playing.number == number:
            leg.playing = None
        if then is not None:
            then(error)

    def _on_learned_address(self, name: str, host: str, port: int) -> None:
        leg = self._legs.get(name)
        if leg is not None and leg.remote is not None:
            leg.remote.learned_host, leg.remote.learned_port = host, port
            self.on_learned(name, host, port)

    # ---- waiting for answers ---------------------------------------------------------------------------------------

    def _wait(self, number: int, leg: str, then: Callable[..., None]) -> None:
        self._waiting[number] = _Waiting(leg, then, time.monotonic() + DEADLINE)
        if not self._expiry_set:
            self._expiry_set = True
            self._call_later(DEADLINE / 4, self._expire)

    def _answer(self, number: int, outcome: object) -> None:
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            waiting.then(outcome)

    def _expire(self) -> None:
        self._expiry_set = False
        now = time.monotonic()
        for number, waiting in list(self._waiting.items()):
            if waiting.deadline > now:
                continue
            leg = self._legs.get(waiting.leg)
            if leg is not None and leg.opening is not None and not leg.opening.port:
                self.close(leg.name)  # should it be opened after all; one with a port may be in the middle of a call
            self._answer(number, MediaError(f"media process did not answer within {DEADLINE:g} s"))
        if self._waiting:
            self._expiry_set = True
            self._call_later(DEADLINE / 4, self._expire)

    def _forget_partner(self, leg: _Leg) -> None:
        partner = self._legs.get(leg.joined)
        if partner is not None:
            partner.joined = ""
        leg.joined = ""


class _Leg:
    """What the media process was asked for one leg."""

    __slots__ = ("echo", "joined", "name", "opening", "playing", "recognise", "remote", "watch")

    def __init__(self, name: str) -> None:
        self.name = name
        self.opening: control.Open | None = None
        self.remote: control.Remote | None = None
        self.joined = ""
        self.echo = False
        self.playing: control.Play | None = None
        self.watch = 0.0
        self.recognise = -1

    def orders(self) -> list[Order]:
        """Everything but the join."""
        orders: list[Order] = [order for order in (self.opening, self.remote, self.playing) if order is not None]
        if self.echo:
            orders.append(control.Echo(self.name, True))
        if self.watch:
            orders.append(control.Watch(self.name, self.watch))
        if self.recognise >= 0:
            orders.append(control.Recognise(self.name, self.recognise))
        return orders


class _Waiting:
    """Somebody who waits for the answer to an order."""

    __slots__ = ("deadline", "leg", "then")

    def __init__(self, leg: str, then: Callable[..., None], deadline: float) -> None:
        self.leg = leg
        self.then = then
        self.deadline = deadline


def _where(order: control.Open) -> tuple[str, str, int, int, int]:
    return order.leg, order.address, order.first, order.last, order.port


def _bind(path: str) -> socket.socket:
    """Our socket, in place of one that a crashed worker of this slot left behind."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    sock.bind(path)
    return sock
