"""The stream connections of a worker: accepted on the kept listening sockets, and those we make; TCP, TLS, WS and WSS alike.

A flow names its connection (`internal.0/7f3a.17`): the token of the worker that holds it, its incarnation, and a number, so
another worker knows whom to ask, and a successor does not take it for one of its own. The name of one that we made
ends in `>`: it can be made again, while the port of who called us is nobody's when the connection is gone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from node.config.profile import ProfileSettings
from node.config.streams import StreamLimits
from node.debug import tport
from node.sip.admission import source_of
from node.sip.errors import Malformed, SipError
from node.sip.fields import Via
from node.sip.flow import Address, Flow, endpoint_text
from node.sip.framing import SipStream
from node.sip.websocket import WebSocket
from node.transport.certificates import Certificates, subjects, vouches
from node.transport.connection import Connection, Framing, Lost
from node.transport.door import Door
from node.transport.marking import mark
from node.transport.tls import TlsLayer
from store.records import Transport

log = logging.getLogger(__name__)

ACCEPTS = 32
"Connections accepted before the loop gets its turn again."
COST = {"TCP": 1.0, "WS": 1.0, "TLS": 4.0, "WSS": 4.0}
"A TLS handshake takes a few times the work."
SHAKES = 16
"Steps of TLS handshakes before the loop gets its turn again: a signature takes half a millisecond and more."
SWEEP = 5.0
"Seconds between two looks at all connections and at the certificate files, at most."
SHORTEST_SWEEP = 0.25
TELL = 30.0
"Seconds between two lines about refused connections."
MAKING = 1000
"Connections of ours that may be in the making at once."
HOSTS = 10_000
FULL = "more than stream-max-connections"
HALF_OPEN = "more than stream-max-half-open"
HALF_OPEN_OF_ONE = "more than stream-max-half-open-per-source"
MARK = ">"
"Ends the name of a connection that we made."
BIND_ADDRESS_NO_PORT = 24
"IP_BIND_ADDRESS_NO_PORT: choose the source port at connect, so that many connections may share one."


class StreamUser(Protocol):
    """Who hears of the connections."""

    def on_message(self, data: bytes, flow: Flow) -> None: ...
    def on_broken(self, data: bytes, flow: Flow, error: SipError) -> None:
        """The stream cannot be cut into messages any more; it is closed."""

    def on_drained(self) -> None:
        """After everything one wake-up brought."""

    def on_crowded(self) -> None:
        """More has come than one read takes."""

    def on_lost(self, flow: Flow) -> None:
        """What was sent on this flow did not get through."""

    def on_closed(self, flow: Flow) -> None:
        """A connection that had been made is gone."""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A kept listening socket."""

    socket: socket.socket
    profile: str
    transport: Transport


class Streams:
    """All stream connections of one worker."""

    def __init__(
        self,
        token: str,
        loop: asyncio.AbstractEventLoop,
        user: StreamUser,
        settings: Mapping[str, ProfileSettings],
        profile: str,
    ) -> None:
        self.token = token
        self.refused = 0
        "Connections closed as they came, or to make room."
        self.buffered = 0
        "Bytes that all connections hold."
        self.exceeded: Callable[[str, str], None] = _unheard
        "Told of each connection that goes for a limit: which, and whose."
        self.closing = False
        self._loop, self._user, self._settings, self._profile = loop, user, settings, profile
        self._incarnation = os.urandom(3).hex()
        self.door = Door(settings[profile].streams, loop.time())
        self._certificates: dict[str, Certificates] = {}
        self._listening: list[Listener] = []
        self._by_name: dict[str, Connection] = {}
        self._by_remote: dict[tuple[str, str, Address], Connection] = {}
        self._half_open: dict[str, Connection] = {}
        self._half_open_of: dict[str, dict[str, Connection]] = {}
        "The same by their source."
        self._making = 0
        self._shaken = 0
        "Steps of TLS handshakes since the loop had its turn."
        self._deaf = False
        self._count = 0
        self._sweeping: asyncio.TimerHandle | None = None
        self._told: dict[str, tuple[float, int]] = {}
        self._hosts: dict[tuple[str, Address], str] = {}
        "Who was sought at an address."

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def limits(self) -> StreamLimits:
        return self.door.limits

    @property
    def half_open(self) -> int:
        """Connections that have not brought anything whole yet."""
        return len(self._half_open)

    def listen(self, sock: socket.socket, profile: str, transport: Transport) -> None:
        """Accept on a kept listening socket from now on."""
        sock.setblocking(False)
        listener = Listener(sock, profile, transport)
        self._listening.append(listener)
        if transport in ("TLS", "WSS"):
            self._certificates_of(profile).refresh()
        self._loop.add_reader(sock.fileno(), self._accept, listener)
        self._keep_sweeping()

    def configure(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Go by other settings; certificates are read again, connections stay."""
        own = settings.get(self._profile)
        if own is None:  # taken out of the configuration: it goes on as it is until it is stopped
            settings = {**settings, self._profile: self._settings[self._profile]}
        else:
            self.door.configure(own.streams, self._loop.time())
        self._settings = settings
        for name, certificates in list(self._certificates.items()):
            if name in settings:
                certificates.configure(settings[name])
            else:
                del self._certificates[name]

    # ---- sending ---------------------------------------------------------------------------------------------------

    def send(self, data: bytes, flow: Flow, lost: Lost | None = None, *, dial: bool = True) -> bool:
        """Send on the flow's connection, else on any to the same peer, else on a new one.

        False if there is none and it cannot be made: the peer had connected to us, or speaks WebSocket. `lost` is called,
        instead of the user's `on_lost`, when the peer is not reached after all.
        """
        connection = self.find(flow)
        if connection is None:
            if not dial or not self.dialable(flow):
                return False
            connection = self._connect(flow)
        lost = lost or partial(self._user.on_lost, flow)
        if connection is None:
            self._loop.call_soon(lost)  # not at once: whoever sends is in the middle of something
        else:
            connection.send(data, flow, lost)
        return True

    def find(self, flow: Flow) -> Connection | None:
        """The flow's connection, or another one to the same peer."""
        found = self._by_name.get(flow.connection)
        return found if found is not None else self._to(flow.profile, flow.transport, flow.remote)

    @staticmethod
    def dialable(flow: Flow) -> bool:
        """May a connection be made to the flow's remote address?"""
        if flow.transport not in ("TCP", "TLS"):
            return False
        return not flow.connection or flow.connection.endswith(MARK)

    def connection_to(self, profile: str, transport: str, remote: Address, host: str = "") -> str:
        """Name of a live connection to that peer, or ``. `host` is remembered: TLS wants to know who is called there."""
        if transport == "TLS":
            if len(self._hosts) >= HOSTS:
                self._hosts.clear()
            self._hosts[profile, remote] = host
        connection = self._to(profile, transport, remote)
        return connection.name if connection is not None else ""

    def _to(self, profile: str, transport: str, remote: Address) -> Connection | None:
        """A connection to that peer. Where names matter, one that was made for another host is none (RFC 5922 7.3)."""
        found = self._by_remote.get((profile, transport, remote))
        if found is None or transport != "TLS" or profile not in self._settings:
            return found
        if not self._certificates_of(profile).names_matter:
            return found
        host = self._hosts.get((profile, remote), remote[0])
        if found.host == host:
            return found
        layer = found.layer
        if layer is None or not layer.made or not vouches(subjects(layer.connection.getpeercert() or {}), host):
            return None
        return found

    def keep(self, name: str, until: float) -> None:
        """A phone is registered by this connection until this moment of the loop's clock: it may be silent so long."""
        connection = self._by_name.get(name)
        if connection is not None:
            connection.kept_until = max(connection.kept_until, until)

    def deafen(self) -> None:
        """Stop accepting and reading."""
        self._deaf = True
        for listener in self._listening:
            self._loop.remove_reader(listener.socket.fileno())
        for connection in self._by_name.values():
            self._loop.remove_reader(connection.sock.fileno())

    def close(self) -> None:
        """Let go of all, and tell nobody: who comes after us goes on with the calls and the registrations."""
        self.deafen()
        self.closing = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._by_name.values()):
            connection.close()
        for listener in self._listening:
            listener.socket.close()
        self._listening.clear()

    # ---- for the connections ---------------------------------------------------------------------------------------

    def deliver(self, message: bytes, connection: Connection) -> None:
        if connection.accepted and not connection.keys[1:] and b";alias" in message[:2048]:
            self._alias(message, connection)
        self._user.on_message(message, connection.flow)

    def drained(self) -> None:
        self._user.on_drained()

    def crowded(self) -> None:
        self._user.on_crowded()

    def broken(self, data: bytes, flow: Flow, error: SipError) -> None:
        self._user.on_broken(data, flow, error)
        self._user.on_drained()

    def verify(self, connection: Connection) -> None:
        """Its TLS handshake is through. Raises Unverified."""
        if tport.level >= 5 and connection.layer is not None:
            made = connection.layer.connection
            tport.say("%s: %s, %s", connection.name, made.version(), (made.cipher() or ("no cipher",))[0])
        if connection.transport == "TLS" and connection.layer is not None:
            certificates = self._certificates_of(connection.flow.profile)
            certificates.verify(connection.layer.connection, inbound=connection.accepted, host=connection.host or "")

    def may_shake(self) -> bool:
        """May one more step of a TLS handshake be made before the loop gets its turn? Who may not, asks again then."""
        if self._shaken >= SHAKES:
            return False
        if not self._shaken:
            self._loop.call_soon(self._rest)
        self._shaken += 1
        return True

    def _rest(self) -> None:
        self._shaken = 0

    def proved(self, connection: Connection) -> None:
        """It is more than half open."""
        self._not_half_open(connection)
        if not connection.accepted:
            self._making -= 1

    def account(self, more: int) -> bool:
        """So many bytes more (or fewer) are held. Is there room for them?"""
        self.buffered += more
        return more <= 0 or self.buffered <= self.limits.max_buffered

    def failed(self, connection: Connection, why: str) -> None:
        """It is cut, for what the peer does or is."""
        self._tell(endpoint_text(connection.flow.remote), why)

    def lost(self, connection: Connection, error: OSError) -> None:
        """It broke, or could not be made: daily bread of a phone, news of a peer we call."""
        level = logging.DEBUG if connection.accepted else logging.INFO
        where = endpoint_text(connection.flow.remote)
        log.log(level, "connection %s to %s: %s", connection.name, where, error.strerror or error)

    def forget(self, connection: Connection) -> None:
        """It is gone."""
        if self._by_name.pop(connection.name, None) is None:
            return
        self._not_half_open(connection)
        self.buffered -= connection.buffered
        for key in connection.keys:
            if self._by_remote.get(key) is connection:
                del self._by_remote[key]
        if connection.accepted:
            self.door.left(connection.flow.remote[0])
        elif not connection.open:
            self._making -= 1
        if connection.open and not self.closing:
            self._loop.call_soon(self._user.on_closed, connection.flow)

    def _not_half_open(self, connection: Connection) -> None:
        if self._half_open.pop(connection.name, None) is None:
            return
        source = source_of(connection.flow.remote[0])
        its = self._half_open_of[source]
        del its[connection.name]
        if not its:
            del self._half_open_of[source]

    # ---- accepting -------------------------------------------------------------------------------------------------

    def _accept(self, listener: Listener) -> None:
        cost, now = COST[listener.transport], self._loop.time()
        for _ in range(ACCEPTS):
            pause = self.door.pause(now, cost)
            if pause:
                self._pause(listener, pause)
                return
            try:
                sock, remote = listener.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self.refused += 1
                    log.warning("profile %s accepts no connections for a second: %s", listener.profile, error)
                    self._pause(listener, 1.0)
                    return
                continue  # the peer was gone before we looked
            self._admit(sock, listener, (remote[0], remote[1]), now, cost)

    def _admit(self, sock: socket.socket, listener: Listener, remote: Address, now: float, cost: float) -> None:
        limit = self.door.refusal(remote[0], now, cost)
        if not limit and len(self._by_name) >= self.limits.max_connections:
            limit = FULL
        if limit:
            self._exceed(limit, "" if limit is FULL else remote[0])
            sock.close()
            return
        layer = None
        if listener.transport in ("TLS", "WSS"):
            context = self._certificates_of(listener.profile).server("TLS" if listener.transport == "TLS" else "WSS")
            if context is None:
                self._tell(endpoint_text(remote), f"{listener.transport} has no usable certificate")
                sock.close()
                return
            layer = TlsLayer(context, inbound=True)
        self._make_room(remote[0])
        self._adopt(sock, listener.profile, listener.transport, remote, layer=layer)

    def _make_room(self, host: str) -> None:
        """The oldest connection that has brought nothing yet gives way, one of the same source first."""
        own = self._half_open_of.get(source_of(host), {})
        if len(own) >= self.limits.max_half_open_per_source and not self.door.exempt(host):
            self._exceed(HALF_OPEN_OF_ONE, host)
            next(iter(own.values())).drop()
        elif len(self._half_open) >= self.limits.max_half_open:
            self._exceed(HALF_OPEN, "")
            next(iter(self._half_open.values())).drop()

    def _pause(self, listener: Listener, seconds: float) -> None:
        """What comes meanwhile waits in the kernel."""
        self._loop.remove_reader(listener.socket.fileno())
        self._loop.call_later(max(seconds, 0.01), self._resume, listener)

    def _resume(self, listener: Listener) -> None:
        if listener in self._listening and not self._deaf:
            self._loop.add_reader(listener.socket.fileno(), self._accept, listener)

    def _exceed(self, limit: str, host: str) -> None:
        """A connection has to go for a limit of its source; without a `host`, of all."""
        self.refused += 1
        self.exceeded(limit, source_of(host) if host else f"profile {self._profile}")

    def _tell(self, where: str, why: str) -> None:
        """One line a period for each reason: a flood must not fill the log."""
        self.refused += 1
        now = self._loop.time()
        since, count = self._told.get(why, (-TELL, 0))
        if now - since < TELL:
            self._told[why] = since, count + 1
            return
        if len(self._told) >= 1000:
            self._told.clear()
        self._told[why] = now, 0
        before = f" ({count} more since the last line)" if count else ""
        log.warning("profile %s closes a connection with %s: %s%s", self._profile, where, why, before)

    # ---- making ----------------------------------------------------------------------------------------------------

    def _connect(self, flow: Flow) -> Connection | None:
        """Begin a connection to the flow's remote address; None if that fails at once."""
        host = self._hosts.get((flow.profile, flow.remote), "") or flow.remote[0]
        where = endpoint_text(flow.remote)
        layer = None
        if flow.transport == "TLS":
            context = self._certificates_of(flow.profile).client() if flow.profile in self._settings else None
            if context is None:
                log.warning("profile %s cannot connect to %s: it has no usable certificate", flow.profile, where)
                return None
            layer = TlsLayer(context, inbound=False, host=host)
        if self._making >= MAKING or len(self._by_name) >= self.limits.max_connections:
            log.warning("profile %s cannot connect to %s: too many connections", flow.profile, where)
            return None
        family = socket.AF_INET6 if ":" in flow.remote[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if flow.local[0]:
                if family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
                sock.bind((flow.local[0], 0))
            sock.connect(flow.remote)
        except BlockingIOError:
            pass
        except OSError as error:
            log.info("profile %s cannot connect to %s: %s", flow.profile, where, error)
            sock.close()
            return None
        return self._adopt(sock, flow.profile, flow.transport, flow.remote, layer=layer, host=host)

    def _adopt(
        self,
        sock: socket.socket,
        profile: str,
        transport: Transport,
        remote: Address,
        *,
        layer: TlsLayer | None,
        host: str | None = None,
    ) -> Connection:
        if self._settings[profile].sip_dscp:
            mark(sock, self._settings[profile].sip_dscp)
        self._count += 1
        name = f"{self.token}/{self._incarnation}.{self._count}{'' if host is None else MARK}"
        framing: Framing = WebSocket() if transport in ("WS", "WSS") else SipStream()
        flow = Flow(profile, transport, _local(sock), remote, name)
        if tport.level >= 5:
            tport.say("%s: %s %s", name, "accepted" if host is None else f"connecting to {host} for", flow)
        if host is None:
            self.door.entered(remote[0])
        else:
            self._making += 1
        connection = Connection(sock, flow, self, self._loop, framing=framing, layer=layer, host=host)
        self._by_name[name] = connection
        if host is None and not connection.proven:
            self._half_open[name] = connection
            self._half_open_of.setdefault(source_of(remote[0]), {})[name] = connection
        if host is not None or self._settings[profile].reuse_connections:
            # The newest wins: after a reconnect from the same port the old one is dead.
            self._known_by(connection, remote)
        self._keep_sweeping()
        return connection

    def _known_by(self, connection: Connection, remote: Address) -> None:
        key = connection.flow.profile, connection.transport, remote
        connection.keys.append(key)
        self._by_remote[key] = connection

    def _alias(self, message: bytes, connection: Connection) -> None:
        """RFC 5923 5: who calls us from any port asks to be called back by the same connection.

        For the address that it really has, and the port it says it listens on.
        """
        if connection.transport not in ("TCP", "TLS") or not self._settings[connection.flow.profile].reuse_connections:
            return
        via = top_via(message)
        if via is None or via.param("alias") is None or via.host.strip("[]") != connection.flow.remote[0]:
            return
        self._known_by(
            connection, (connection.flow.remote[0], via.port or (5061 if connection.transport == "TLS" else 5060))
        )

    def _certificates_of(self, profile: str) -> Certificates:
        found = self._certificates.get(profile)
        if found is None:
            found = self._certificates[profile] = Certificates(self._settings[profile])
        return found

    # ---- now and then ----------------------------------------------------------------------------------------------

    def _keep_sweeping(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(self._period(), self._sweep)

    def _period(self) -> float:
        limits, pings = self.limits, self._settings[self._profile].tcp_keepalive / 1000
        times = [limits.handshake_timeout, limits.message_timeout, limits.stall_timeout, limits.idle_timeout]
        return max(SHORTEST_SWEEP, min(SWEEP, min(times) / 4, pings / 2 or SWEEP))

    def _sweep(self) -> None:
        self._sweeping = None
        now = self._loop.time()
        for connection in list(self._by_name.values()):
            settings = self._settings.get(connection.flow.profile)
            if settings is None:
                connection.close()
                continue
            tls = connection.transport == "TLS"
            connection.judge(now, self.limits, float(settings.tls_timeout if tls else self.limits.idle_timeout))
            if settings.tcp_keepalive:
                connection.keep_alive(now, settings.tcp_keepalive / 1000, settings.tcp_pingpong / 1000)
        for certificates in self._certificates.values():
            certificates.refresh()
        self._keep_sweeping()


def top_via(message: bytes) -> Via | None:
    """The first Via of a message, however it is written; None if it cannot be read."""
    for line in message[:4096].split(b"\n")[1:]:
        name, _colon, value = line.partition(b":")
        if name.strip().lower() in (b"via", b"v"):
            try:
                return Via.parse(value.decode("utf-8", "surrogateescape").split(",")[0].strip())
            except Malformed:
                return None
    return None


def _local(sock: socket.socket) -> Address:
    try:
        name = sock.getsockname()
    except OSError:
        return "", 0
    return name[0], name[1]


def _unheard(_limit: str, _source: str, /) -> None:
    return
