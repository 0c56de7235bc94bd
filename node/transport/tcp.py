"""TCP: connections accepted on the kept listening sockets, and those we make; each is found again by its peer's address.

A flow names its connection (`internal.0/17`): the token of the worker that holds it and a number of its own, so another
worker knows whom to ask. A peer that is slow to read, sends half a message and stops, or sends nothing for long, is cut.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Protocol

from node.sip.errors import SipError
from node.sip.flow import Address, Flow
from node.sip.framing import Ping, StreamFramer

log = logging.getLogger(__name__)

READ = 65536
ACCEPTS = 32
"Connections accepted before the loop gets its turn again."
CONNECTIONS = 20_000
"Held by one worker; more are closed as they come."
UNSENT = 1 << 20
"Bytes that may wait for a peer to read; then it is cut."
CONNECT_WITHIN = 5.0
HALF_MESSAGE = 20.0
"Seconds a peer may take over one message."
IDLE = 3600.0
"Seconds of silence after which a connection is closed."
SWEEP = 5.0


class StreamUser(Protocol):
    """Who hears of the connections."""

    def on_message(self, data: bytes, flow: Flow) -> None: ...
    def on_broken(self, data: bytes, flow: Flow, error: SipError) -> None:
        """The stream cannot be cut into messages any more; it is closed."""

    def on_drained(self) -> None:
        """After everything one wake-up brought."""

    def on_lost(self, flow: Flow) -> None:
        """What was sent on this flow did not get through."""

    def on_closed(self, flow: Flow) -> None:
        """A connection that had been made is gone."""


class Streams:
    """All stream connections of one worker."""

    def __init__(self, token: str, loop: asyncio.AbstractEventLoop, user: StreamUser) -> None:
        self.token = token
        self.refused = 0
        self._loop = loop
        self._user = user
        self._listening: list[tuple[socket.socket, str]] = []
        self._by_name: dict[str, Connection] = {}
        self._by_remote: dict[tuple[str, str, Address], Connection] = {}
        self._count = 0
        self._sweeping: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._by_name)

    def listen(self, sock: socket.socket, profile: str) -> None:
        """Accept on a kept listening socket from now on."""
        sock.setblocking(False)
        self._listening.append((sock, profile))
        self._loop.add_reader(sock.fileno(), self._accept, sock, profile)
        self._keep_sweeping()

    def send(self, data: bytes, flow: Flow) -> None:
        """Send on the flow's connection, else on any to the same peer, else on a new one."""
        connection = self._by_name.get(flow.connection)
        if connection is None:
            connection = self._by_remote.get((flow.profile, flow.transport, flow.remote))
        if connection is None:
            connection = self._connect(flow)
        if connection is not None:
            connection.send(data, flow)

    def has(self, flow: Flow) -> bool:
        """Is there a connection for this flow?"""
        return flow.connection in self._by_name or (flow.profile, flow.transport, flow.remote) in self._by_remote

    def connection_to(self, profile: str, transport: str, remote: Address) -> str:
        """Name of a live connection to that peer, or ``."""
        connection = self._by_remote.get((profile, transport, remote))
        return connection.name if connection is not None else ""

    def ping(self, profile: str) -> None:
        """CRLF ping on every connection of a profile (RFC 5626 3.5.1)."""
        for connection in list(self._by_name.values()):
            if connection.profile == profile and connection.open:
                connection.write(Ping.PING.value)

    def deafen(self) -> None:
        """Stop accepting and reading."""
        for sock, _profile in self._listening:
            self._loop.remove_reader(sock.fileno())
        for connection in self._by_name.values():
            self._loop.remove_reader(connection.sock.fileno())

    def close(self) -> None:
        self.deafen()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._by_name.values()):
            connection.close()
        for sock, _profile in self._listening:
            sock.close()
        self._listening.clear()

    # ---- for the connections ---------------------------------------------------------------------------------------

    def forget(self, connection: Connection) -> None:
        self._by_name.pop(connection.name, None)
        key = (connection.profile, connection.transport, connection.remote)
        if self._by_remote.get(key) is connection:
            del self._by_remote[key]

    def _accept(self, listening: socket.socket, profile: str) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, remote = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(listening, profile, error)
                    return
                continue  # the peer was gone before we looked
            if len(self._by_name) >= CONNECTIONS:
                self.refused += 1
                sock.close()
                continue
            self._adopt(sock, profile, (remote[0], remote[1]), connecting=False)

    def _pause(self, listening: socket.socket, profile: str, error: OSError) -> None:
        """Out of descriptors: accepting again at once would spin."""
        self.refused += 1
        log.warning("profile %s accepts no connections for a second: %s", profile, error)
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(1.0, self._resume, listening, profile)

    def _resume(self, listening: socket.socket, profile: str) -> None:
        if (listening, profile) in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening, profile)

    def _connect(self, flow: Flow) -> Connection | None:
        family = socket.AF_INET6 if ":" in flow.remote[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if flow.local[0]:
                if family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
                sock.bind((flow.local[0], 0))
            sock.connect(flow.remote)
        except BlockingIOError:
            pass
        except OSError as error:
            log.info("profile %s cannot connect to %s:%d: %s", flow.profile, *flow.remote, error)
            sock.close()
            # Not at once: whoever sends is in the middle of something.
            self._loop.call_soon(self._user.on_lost, flow)
            return None
        return self._adopt(sock, flow.profile, flow.remote, connecting=True)

    def _adopt(self, sock: socket.socket, profile: str, remote: Address, *, connecting: bool) -> Connection:
        self._count += 1
        name = f"{self.token}/{self._count}"
        connection = Connection(sock, name, profile, remote, self, self._loop, self._user, connecting=connecting)
        self._by_name[name] = connection
        # The newest wins: after a reconnect from the same port the old one is dead.
        self._by_remote[profile, connection.transport, remote] = connection
        self._keep_sweeping()
        return connection

    def _keep_sweeping(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP, self._sweep)

    def _sweep(self) -> None:
        self._sweeping = None
        now = self._loop.time()
        for connection in list(self._by_name.values()):
            connection.judge(now)
        self._keep_sweeping()


class Connection:
    """One TCP connection."""

    def __init__(
        self,
        sock: socket.socket,
        name: str,
        profile: str,
        remote: Address,
        streams: Streams,
        loop: asyncio.AbstractEventLoop,
        user: StreamUser,
        *,
        connecting: bool,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.sock = sock
        self.name = name
        self.profile = profile
        self.transport = "TCP"
        self.remote = remote
        self.open = not connecting
        self._streams = streams
        self._loop = loop
        self._user = user
        self._framer = StreamFramer()
        self._unsent = bytearray()
        self._sent_on: set[Flow] = set()
        "Flows that were sent on while the connection is not made: they fail with it."
        self._since = self._active = loop.time()
        self._begun: float | None = None
        "When the message that is not whole yet began."
        self._closed = False
        self.flow = Flow(profile, "TCP", self._local(), remote, name)
        if connecting:
            loop.add_writer(sock.fileno(), self._on_connected)
        else:
            loop.add_reader(sock.fileno(), self._read)

    def send(self, data: bytes, flow: Flow) -> None:
        if not self.open:
            self._sent_on.add(flow)
        self.write(data)

    def write(self, data: bytes) -> None:
        if self._closed:
            return
        if self.open and not self._unsent:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._break(error)
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self.sock.fileno(), self._write)
        self._unsent += data
        if len(self._unsent) > UNSENT:
            log.info("connection %s to %s:%d reads too slowly, closing", self.name, *self.remote)
            self.close()

    def judge(self, now: float) -> None:
        """Close it if it has been slow or silent for too long."""
        if not self.open:
            if now - self._since > CONNECT_WITHIN:
                self._break(TimeoutError("no answer"))
        elif (self._begun is not None and now - self._begun > HALF_MESSAGE) or now - self._active > IDLE:
            self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self._streams.forget(self)
        self.sock.close()
        if self.open:
            self._loop.call_soon(self._user.on_closed, self.flow)

    def _local(self) -> Address:
        try:
            name = self.sock.getsockname()
        except OSError:
            return "", 0
        return name[0], name[1]

    def _on_connected(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._break(OSError(error, errno.errorcode.get(error, "")))
            return
        self.open = True
        self._sent_on.clear()
        self._active = self._loop.time()
        self.flow = self.flow._replace(local=self._local())
        self._loop.add_reader(self.sock.fileno(), self._read)
        self._write()

    def _write(self) -> None:
        try:
            sent = self.sock.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self.sock.fileno())

    def _read(self) -> None:
        try:
            data = self.sock.recv(READ)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if not data:
            self.close()
            return
        self._active = self._loop.time()
        try:
            frames = self._framer.feed(data)
        except SipError as error:
            self._user.on_broken(data, self.flow, error)
            self._user.on_drained()
            self.close()
            return
        self._deliver(frames)

    def _deliver(self, frames: list[bytes | Ping]) -> None:
        if frames:
            self._begun = None
        elif self._begun is None:
            self._begun = self._active
        for frame in frames:
            if isinstance(frame, Ping):
                if frame is Ping.PING:
                    self.write(Ping.PONG.value)
            else:
                self._user.on_message(frame, self.flow)
        self._user.on_drained()

    def _break(self, error: OSError) -> None:
        """It could not be made, or broke while in use."""
        log.info("connection %s to %s:%d broke: %s", self.name, *self.remote, error)
        lost = self._sent_on | ({self.flow} if self._unsent else set())
        self.close()
        for flow in lost:
            self._loop.call_soon(self._user.on_lost, flow)


_BIND_ADDRESS_NO_PORT = 24
"IP_BIND_ADDRESS_NO_PORT: choose the source port at connect, so that many connections may share one."
