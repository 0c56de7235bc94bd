"""Requests too long for a datagram go by TCP where the peer takes it (RFC 3261 18.1.1).

That happens below the transactions, as the RFC has it: only the transport in the top Via changes. Retransmissions of what
went by TCP are held back; the ACK to a refusal, and a CANCEL, follow their INVITE. A peer that refuses the connection, or
does not make it within a second, gets the datagram after all, and is not asked for TCP again for a while. Nor is one that
asked for UDP by name, or that is reached through a NAT. None of this outlives the process: a successor finds out anew.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from node.config.profile import ProfileSettings
from node.sip.flow import Address, Flow, endpoint_text

log = logging.getLogger(__name__)

CONNECT_WITHIN = 1.0
"Seconds until a connection that is not made is not waited for any more. It is looked at when the request is due again."
REFUSED = 300.0
"Seconds for which a peer without TCP is not asked for it again."
REMEMBERED = 4096
LIVES = 64.0
"Seconds that a request's branch is remembered: as long as any of its messages may come."

_UDP, _TCP = b"SIP/2.0/UDP ", b"SIP/2.0/TCP "
Place = tuple[str, Address]


class Held(Protocol):
    """A stream connection, as far as it is looked at here."""

    open: bool


class Connections(Protocol):
    """The stream connections."""

    def send(self, data: bytes, flow: Flow, lost: Callable[[], None] | None = None) -> bool: ...
    def find(self, flow: Flow) -> Held | None: ...


class Oversize:
    """Decides for each datagram whether it goes by TCP instead."""

    def __init__(
        self,
        settings: Mapping[str, ProfileSettings],
        connections: Connections,
        *,
        send: Callable[[bytes, Flow], None],
        show: Callable[[bytes, Flow], None],
        now: Callable[[], float],
    ) -> None:
        """`send` sends a datagram after all; `show` is told what goes by TCP."""
        self.least = math.inf
        "Nothing shorter need be brought here while there is no `branches`."
        self.branches: dict[bytes, float] = {}
        "Of what went by TCP, and when."
        self._connections = connections
        self._send = send
        self._show = show
        self._now = now
        self._mtu: dict[str, int] = {}
        self._refused: dict[Place, float] = {}
        self._plain: dict[Place, None] = {}
        self.configure(settings)

    def configure(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Go by other settings."""
        self._mtu = {name: each.udp_mtu for name, each in settings.items() if each.udp_mtu and "tcp" in each.transports}
        self.least = min(self._mtu.values(), default=math.inf)

    def keep(self, flow: Flow) -> None:
        """This peer is to be reached by UDP and nothing else."""
        place = flow.profile, flow.remote
        self._plain.pop(place, None)
        _bound(self._plain)
        self._plain[place] = None

    def takes(self, data: bytes, flow: Flow) -> bool:
        """Has it gone by TCP, or has it already? False: it is to go as a datagram."""
        if data[:4] == b"SIP/":
            return False  # a response goes the way its request came (RFC 3261 18.2.2)
        branch = _branch(data)
        since = self.branches.get(branch)
        if since is None and len(data) <= self._mtu.get(flow.profile, math.inf):
            return False
        if branch == b"" or self._has_no_tcp(flow):
            return False
        way = flow._replace(transport="TCP", connection="")
        if since is not None and data[:4] != b"ACK " and data[:7] != b"CANCEL ":
            return self._goes_on(way, flow, since)
        self._by_tcp(data, way, flow, branch)
        return True

    def _goes_on(self, way: Flow, flow: Flow, since: float) -> bool:
        """It is due again (timers A and E, which TCP does not want)."""
        connection = self._connections.find(way)
        if connection is not None and (connection.open or self._now() - since < CONNECT_WITHIN):
            return True
        self._give_up(flow, "takes too long to connect" if connection is not None else "hangs up")
        return False

    def _by_tcp(self, data: bytes, way: Flow, flow: Flow, branch: bytes) -> None:
        now = self._now()
        while self.branches and (len(self.branches) >= REMEMBERED or next(iter(self.branches.values())) + LIVES < now):
            del self.branches[next(iter(self.branches))]
        self.branches.setdefault(branch, now)
        changed = data.replace(_UDP, _TCP, 1)
        self._show(changed, way)
        if not self._connections.send(changed, way, partial(self._on_lost, data, flow)):
            self._on_lost(data, flow)

    def _on_lost(self, data: bytes, flow: Flow) -> None:
        """There is no TCP there: try again by UDP at once (RFC 3261 18.1.1)."""
        self._give_up(flow, "refuses it")
        self._send(data, flow)

    def _give_up(self, flow: Flow, why: str) -> None:
        if not self._has_no_tcp(flow):
            log.info("long requests to %s go by UDP: TCP %s", endpoint_text(flow.remote), why)
        place = flow.profile, flow.remote
        self._refused.pop(place, None)
        _bound(self._refused)
        self._refused[place] = self._now() + REFUSED

    def _has_no_tcp(self, flow: Flow) -> bool:
        place = flow.profile, flow.remote
        return place in self._plain or self._refused.get(place, 0.0) > self._now()


def _bound(places: dict[Place, None] | dict[Place, float]) -> None:
    while len(places) >= REMEMBERED:
        del places[next(iter(places))]


def _branch(data: bytes) -> bytes:
    """Of our own Via on top, as we write it; `` if there is none of that kind."""
    start = data.find(b"\r\nVia: " + _UDP)
    end = data.find(b"\r\n", start + 2)
    return data[start:end].partition(b";branch=")[2].partition(b";")[0] if start >= 0 else b""
