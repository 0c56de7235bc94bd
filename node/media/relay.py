"""Legs and their sockets: the hot path.

A stream is one socket of a leg, RTP or RTCP. `receive` and `forward` hold what is to be done with the next packet as a
bound method: for two joined legs with known peers these are `recv` of one socket and `send` of the other, and the loop
has nothing to ask. All else (learning, echo, recognising digits) is another function in the same place.

Learning is FreeSWITCH's auto-adjust: packets go where the SDP says, until the peer shows where it really is. While the
window is open, packets of any source are taken; the first packet from the expected address, or some in a row from
another one, close it: the socket is connected to the source, and the kernel drops everybody else's packets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from node.media.dtmf import Recogniser
from node.media.negotiation import is_unspecified
from node.media.ports import Pair, disconnect, numeric
from node.media.rtp import is_rtcp, is_rtp

SIZE = 2048
"Octets read of a packet; longer than any path to a phone takes."
THRESHOLD = 3
"RTP packets in a row from elsewhere that prove where a peer is: 60 ms of audio (FreeSWITCH waits for ten)."
RTCP_THRESHOLD = 1
"They come every five seconds."
DEPARTED = 50
"As THRESHOLD, for the address a peer has just been moved away from: its last packets are still under way."

Address = tuple[Any, ...]


class Ignored(OSError):
    """A packet that goes nowhere."""


def discard(data: bytes) -> None:
    """Forward to nobody."""


class Stream:
    """One socket of a leg."""

    __slots__ = (
        "_candidate",
        "_departed",
        "_named",
        "_recogniser",
        "_tally",
        "connected",
        "destination",
        "dropped",
        "feeder",
        "forward",
        "is_valid",
        "mark",
        "muted",
        "octets",
        "on_digit",
        "on_learned",
        "packets",
        "receive",
        "sent",
        "socket",
        "threshold",
        "transmit",
    )

    def __init__(self, sock: socket.socket, *, rtcp: bool = False) -> None:
        self.socket = sock
        self.is_valid = is_rtcp if rtcp else is_rtp
        self.threshold = RTCP_THRESHOLD if rtcp else THRESHOLD
        self.receive: Callable[[int], bytes] = self._learn
        "The next packet of the peer; raises OSError where there is none to forward."
        self.forward: Callable[[bytes], object] = discard
        "Where the peer's packets go."
        self.transmit: Callable[[bytes], object] = discard
        "Sends to our peer."
        self.feeder: Stream | None = None
        "The stream whose `forward` is our `transmit`."
        self.destination: Address | None = None
        self.connected = False
        self.muted = False
        self._named: Address | None = None
        "Where the SDP said the peer is."
        self._departed: Address | None = None
        self._candidate: Address | None = None
        self._tally = 0
        self.packets = self.octets = self.dropped = 0
        self.mark = (0, 0)
        "The feeder's counters when it began to feed us."
        self.sent = (0, 0)
        "Packets and octets sent for feeders that no longer feed us."
        self.on_learned: Callable[[Address], None] | None = None
        self._recogniser: Recogniser | None = None
        self.on_digit: Callable[[str, int], None] | None = None

    # ---- whom it talks to ------------------------------------------------------------------------------------------

    def aim(self, named: Address | None, learned: Address | None = None) -> None:
        """The SDP names the peer's address (None: nowhere, as in `c=0.0.0.0`): open the window for learning again.

        The same address as before keeps what was learned: only proof of another one changes it.
        """
        self.muted = named is None
        if named is not None:
            if named != self._named:
                self._departed = self.destination
                self.destination = learned or named
                self._named = named
            elif learned is not None:
                self.destination = learned
            self._open_window()
        self._set_transmit()

    def guess(self, destination: Address) -> None:
        """A better idea of where the peer is, as long as it has not shown itself."""
        if not self.connected and not self.muted:
            self.destination = destination
            self._set_transmit()

    def _open_window(self) -> None:
        if self.connected:
            disconnect(self.socket)
            self.connected = False
        self._candidate, self._tally = None, 0
        self._set_receive(self._learn)

    def _learn(self, size: int) -> bytes:
        data, source = self.socket.recvfrom(size)
        if not self.is_valid(data):
            self.dropped += 1
            raise Ignored
        if self.destination is None:
            return data  # the peer speaks before its SDP is here: heard, not yet believed
        if source == self.destination:
            self._latch(source)
        elif self._is_proof(source):
            self.destination = source
            self._latch(source)
            if self.on_learned is not None:
                self.on_learned(source)
        return data

    def _is_proof(self, source: Address) -> bool:
        if source != self._candidate:
            self._candidate, self._tally = source, 0
        self._tally += 1
        return self._tally >= (DEPARTED if source == self._departed else self.threshold)

    def _latch(self, source: Address) -> None:
        try:
            self.socket.connect(source)
        except OSError:
            return  # no route just now: go on as before, the next packet tries again
        self.connected = True
        self._set_receive(self._settle)
        self._set_transmit()

    def _settle(self, size: int) -> bytes:
        """After the connect, strangers' packets may still be queued: look at sources until the queue was empty once."""
        data, source = self.socket.recvfrom(size)
        try:
            self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._set_receive(self.socket.recv)
        except OSError:
            pass
        if source != self.destination:
            self.dropped += 1
            raise Ignored
        return data

    def _send_to(self, data: bytes) -> None:
        self.socket.sendto(data, self.destination)  # type: ignore[arg-type]

    def _set_transmit(self) -> None:
        if self.muted or self.destination is None:
            self.transmit = discard
        else:
            self.transmit = self.socket.send if self.connected else self._send_to
        if self.feeder is not None:
            self.feeder.forward = self.transmit

    # ---- where the peer's packets go -------------------------------------------------------------------------------

    def feed(self, sink: Stream) -> None:
        """Forward the peer's packets out of `sink` (which may be this stream itself: an echo)."""
        sink.starve()
        sink.feeder = self
        sink.mark = (self.packets, self.octets)
        self.forward = sink.transmit

    def starve(self) -> None:
        """Nothing is forwarded out of this stream any more."""
        if self.feeder is not None:
            self.sent = self.counted_out
            self.feeder.forward = discard
            self.feeder = None

    @property
    def counted_out(self) -> tuple[int, int]:
        """Packets and octets that went out of here, by the counters of who fed us."""
        if self.feeder is None:
            return self.sent
        packets, octets = self.sent
        return packets + self.feeder.packets - self.mark[0], octets + self.feeder.octets - self.mark[1]

    # ---- what is heard in between ----------------------------------------------------------------------------------

    def recognise(self, payload_type: int) -> None:
        """Give telephone-events of this payload type to `on_digit`; -1: no more."""
        inner = self._inner_receive()
        self._recogniser = Recogniser(payload_type) if payload_type >= 0 else None
        self._set_receive(inner)

    def _inner_receive(self) -> Callable[[int], bytes]:
        return self.receive.inner if isinstance(self.receive, _Overhearing) else self.receive

    def _set_receive(self, receive: Callable[[int], bytes]) -> None:
        self.receive = receive if self._recogniser is None else _Overhearing(receive, self.overhear)

    def overhear(self, data: bytes) -> None:
        if self._recogniser is not None and self.on_digit is not None:
            for digit, milliseconds in self._recogniser.feed(data):
                self.on_digit(digit, milliseconds)

    def release(self) -> None:
        """Forget everybody; the socket itself goes back to the ports."""
        self.starve()
        self.forward = discard
        self.receive, self.transmit = _nothing, discard
        self.on_learned = self.on_digit = None


class _Overhearing:
    """A `receive` that shows each packet to somebody before it goes on."""

    __slots__ = ("inner", "show")

    def __init__(self, inner: Callable[[int], bytes], show: Callable[[bytes], None]) -> None:
        self.inner = inner
        self.show = show

    def __call__(self, size: int) -> bytes:
        data = self.inner(size)
        self.show(data)
        return data


def _nothing(size: int) -> bytes:
    raise Ignored


def _next_port(address: Address) -> Address:
    return (address[0], min(address[1] + 1, 65535), *address[2:])


class Leg:
    """Two streams, and whom they are joined with."""

    __slots__ = ("name", "pair", "partner", "rtcp", "rtp", "slot")

    def __init__(self, slot: str, name: str, pair: Pair) -> None:
        self.slot = slot
        self.name = name
        self.pair = pair
        self.rtp = Stream(pair.rtp)
        self.rtcp = Stream(pair.rtcp, rtcp=True)
        self.partner: Leg | None = None
        "The leg it is joined with; itself for an echo."

    def aim(self, host: str, port: int, rtcp_port: int, learned: Address | None) -> None:
        """Where the SDP says the peer is: nowhere for a hold by `c=0.0.0.0`, a name, the other address family."""
        if is_unspecified(host) or (":" in host) != (":" in self.pair.address):
            port = rtcp_port = 0
        if learned is not None and (":" in learned[0]) != (":" in self.pair.address):
            learned = None
        guessed = None if learned is None else _next_port(learned)
        self.rtp.aim(numeric(host, port), learned)
        self.rtcp.aim(numeric(host, rtcp_port), guessed)

    def learn(self, source: Address) -> None:
        """RTP comes from elsewhere than the SDP says: RTCP probably goes there too."""
        self.rtcp.guess(_next_port(source))

    def join(self, other: Leg) -> None:
        """Forward both ways. `other` may be this leg: an echo."""
        for leg in (self, other):
            leg.part()
        self.partner, other.partner = other, self
        self.rtp.feed(other.rtp)
        other.rtp.feed(self.rtp)
        if self is not other:
            self.rtcp.feed(other.rtcp)
            other.rtcp.feed(self.rtcp)

    def part(self) -> None:
        """Forward nothing more from or to this leg."""
        for leg in (self, self.partner):
            if leg is not None:
                leg.rtp.starve()
                leg.rtcp.starve()
                leg.partner = None

    def release(self) -> None:
        self.part()
        self.rtp.release()
        self.rtcp.release()
