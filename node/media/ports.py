"""Where the sockets of legs come from: pairs of an even port for RTP and the next one for RTCP (RFC 3550 11).

A pair that is given back rests for some seconds, so that the last packets of its call do not fall into the next one,
and is then used again: that costs a quarter of opening a new one.
"""

from __future__ import annotations

import ctypes
import errno
import resource
import socket
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from random import randrange
from typing import Any

from node.media.errors import MediaError

REST = 5.0
"Seconds a pair that was given back is left alone."
POOL = 512
"Pairs of one address that are kept open for the next calls."
AVOID = 10.0
"Seconds for which a port that somebody else holds is not tried again."
EXPEDITED = 46
"DSCP EF, for voice (RFC 4594): what a new pair bears."

FREE, FREE_IPV6 = (socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78)
"IP_FREEBIND and IPV6_FREEBIND: an address may be bound before it is here (ip(7))."

_libc = ctypes.CDLL(None, use_errno=True)
_UNSPEC = int(socket.AF_UNSPEC).to_bytes(2, sys.byteorder) + bytes(14)


@dataclass(slots=True, eq=False)
class Pair:
    address: str
    port: int
    rtp: socket.socket
    rtcp: socket.socket
    dscp: int = EXPEDITED

    def mark(self, dscp: int) -> None:
        """What its packets are to bear from now on."""
        if dscp != self.dscp:
            _mark(self.rtp, dscp)
            _mark(self.rtcp, dscp)
            self.dscp = dscp

    def close(self) -> None:
        self.rtp.close()
        self.rtcp.close()


@dataclass(slots=True)
class _Address:
    """What we hold and have seen on one local address."""

    held: set[int] = field(default_factory=set)
    resting: OrderedDict[int, tuple[float, Pair]] = field(default_factory=OrderedDict)
    "Oldest first, with the time it was given back."
    avoided: dict[int, float] = field(default_factory=dict)
    cursor: int = field(default_factory=lambda: 2 * randrange(32768))


class Ports:
    """Gives pairs out and takes them back. `now` is any clock that only goes forward."""

    def __init__(self, foreign: str = "") -> None:
        """`foreign`: an address whose ports are opened also while this host does not have it."""
        self._foreign = foreign
        self._addresses: dict[str, _Address] = {}

    def take(self, address: str, first: int, last: int, now: float) -> Pair:
        """Some free pair with RTP at an even port from `first` on and RTCP not beyond `last`. Raises MediaError."""
        if numeric(address, 1) is None:
            raise MediaError(f"{address!r} is no address to open RTP ports on")
        place = self._addresses.setdefault(address, _Address())
        pair = self._rested(place, first, last, now) or self._opened(place, address, first, last, now)
        if pair is None:
            raise MediaError(f"no free RTP port on {address} from {first} to {last} ({len(place.held)} in use)")
        place.held.add(pair.port)
        return pair

    def take_exactly(self, address: str, port: int) -> Pair:
        """The pair at this very port. Raises OSError where it cannot be bound now: somebody may be about to let go."""
        place = self._addresses.setdefault(address, _Address())
        if port in place.held:
            raise OSError(errno.EADDRINUSE, "another leg has it")
        resting = place.resting.pop(port, None)
        pair = _emptied(resting[1]) if resting else bind(address, port, free=address == self._foreign)
        place.held.add(port)
        return pair

    def give_back(self, pair: Pair, now: float) -> None:
        place = self._addresses[pair.address]
        place.held.discard(pair.port)
        place.resting[pair.port] = (now, pair)
        disconnect(pair.rtp)
        disconnect(pair.rtcp)
        if len(place.resting) > POOL:
            place.resting.popitem(last=False)[1][1].close()

    def close(self) -> None:
        for place in self._addresses.values():
            for _since, pair in place.resting.values():
                pair.close()
            place.resting.clear()
        self._addresses.clear()

    def _rested(self, place: _Address, first: int, last: int, now: float) -> Pair | None:
        for port, (since, pair) in place.resting.items():
            if since + REST > now:
                return None
            if first <= port < last:
                del place.resting[port]
                return _emptied(pair)
        return None

    def _opened(self, place: _Address, address: str, first: int, last: int, now: float) -> Pair | None:
        first += first % 2
        count = (last - first + 1) // 2
        if count <= 0:
            return None
        for turn in range(count):
            port = first + (place.cursor - first + 2 * turn) % (2 * count)
            if port in place.held or port in place.resting or place.avoided.get(port, 0.0) > now:
                continue
            try:
                pair = bind(address, port, free=address == self._foreign)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise MediaError(f"cannot open RTP ports on {address}: {error.strerror}") from None
                place.avoided[port] = now + AVOID
                continue
            place.cursor = port + 2
            return pair
        return self._oldest(place, first, last)

    def _oldest(self, place: _Address, first: int, last: int) -> Pair | None:
        """Nothing else is left: then one that has not rested long enough."""
        port = next((port for port in place.resting if first <= port < last), None)
        return None if port is None else _emptied(place.resting.pop(port)[1])


def bind(address: str, port: int, *, free: bool = False) -> Pair:
    """Open both sockets; `free`: also where this host does not have the address yet. Raises OSError."""
    rtp = _bound(address, port, free=free)
    try:
        return Pair(address, port, rtp, _bound(address, port + 1, free=free))
    except OSError:
        rtp.close()
        raise


def _bound(address: str, port: int, *, free: bool = False) -> socket.socket:
    if numeric(address, port) is None:
        raise OSError(errno.EINVAL, "no such address or port")
    six = ":" in address
    sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if six:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if free:
            sock.setsockopt(*(FREE_IPV6 if six else FREE), 1)
        _mark(sock, EXPEDITED)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _mark(sock: socket.socket, dscp: int) -> None:
    """The DSCP is the upper six bits of the TOS byte (RFC 2474 3). An IPv6 socket keeps it under another name."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)


def disconnect(sock: socket.socket) -> None:
    """Take packets from anybody again (connect(2) with AF_UNSPEC, which Python's connect does not offer).

    Address and port stay, since both were bound by name; what waits in the queue stays too.
    """
    _libc.connect(sock.fileno(), _UNSPEC, len(_UNSPEC))


def numeric(host: str, port: int) -> tuple[Any, ...] | None:
    """The address as `recvfrom` would name it, or None for a name or nonsense: nobody waits for DNS here."""
    if not 0 < port < 65536:
        return None
    try:
        if ":" in host:
            return (socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host)), port, 0, 0)
        return (socket.inet_ntop(socket.AF_INET, socket.inet_pton(socket.AF_INET, host)), port)
    except (OSError, ValueError):
        return None


def _emptied(pair: Pair) -> Pair:
    """Without what arrived while it rested."""
    for sock in (pair.rtp, pair.rtcp):
        for _ in range(1000):
            try:
                sock.recv(1)
            except BlockingIOError:
                break
            except OSError:
                continue
    return pair


def raise_descriptor_limit() -> None:
    """As many sockets as the system lets us have."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
