"""The link to the other supervisor: each dials the other, so there are two connections, and either will do."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Callable

from ha.loop import READ, WRITE, Loop
from ha.session import Refused, Said, Session, Side
from ha.settings import PeerSettings

log = logging.getLogger(__name__)

REDIAL = 0.25
"Seconds between two attempts to reach the peer."
GREETING = 2.0
"Seconds that a connection may take to prove itself."
STRANGERS = 4
"Connections of others that may be unproven at once."
STUCK = 1 << 16
"Bytes that may wait to be sent before a connection is given up."


class PeerLink:
    """Says everything on every proven connection and hears from all; says when the last one is gone."""

    def __init__(
        self,
        loop: Loop,
        settings: PeerSettings,
        *,
        node: str,
        on_said: Callable[[Said], None],
        on_closed: Callable[[], None],
    ) -> None:
        self.name = ""
        "Of the peer, as proven last."
        self._loop, self._settings, self._node = loop, settings, node
        self._on_said, self._on_closed = on_said, on_closed
        self._secret = settings.secret
        self._listening: socket.socket | None = None
        self._connections: list[Connection] = []
        self._complaint = ""

    def listen(self) -> None:
        """Raises OSError when the address is taken."""
        if self._settings.listen is None:
            return
        host = self._settings.listen[0]
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setblocking(False)
            sock.bind(self._settings.listen)
            sock.listen(64)
        except OSError:
            sock.close()
            raise
        self._listening = sock

    def start(self, secret: bytes) -> None:
        """Talk from now on: before the secret is known nobody can be believed."""
        self._secret = self._secret or secret
        if self._listening is not None:
            self._loop.watch(self._listening, self._accept)
            self._loop.every(REDIAL, self._dial)

    def say(self, message: Said) -> None:
        for connection in list(self._connections):
            connection.say(message)

    @property
    def open(self) -> bool:
        return any(connection.session.open for connection in self._connections)

    def close(self) -> None:
        if self._listening is not None:
            self._loop.forget(self._listening)
            self._listening.close()
            self._listening = None
        for connection in list(self._connections):
            connection.close()

    # ---- connections -----------------------------------------------------------------------------------------------

    def _dial(self) -> None:
        if self._settings.address is None or any(c.side == "dialler" for c in self._connections):
            return
        host = self._settings.address[0]
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        failed = sock.connect_ex(self._settings.address)
        if failed not in (0, errno.EINPROGRESS):
            sock.close()
            return
        self._add(sock, "dialler")

    def _accept(self) -> None:
        assert self._listening is not None, "only a listening socket is watched"
        with contextlib.suppress(OSError):
            sock, _address = self._listening.accept()
            strangers = [c for c in self._connections if c.side == "listener" and not c.session.open]
            if len(strangers) >= STRANGERS:
                sock.close()
                return
            self._add(sock, "listener")

    def _add(self, sock: socket.socket, side: Side) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(self._loop, sock, Session(side, self._node, self._secret), side, self)
        self._connections.append(connection)
        self._loop.after(GREETING, connection.must_be_open)

    # ---- what a connection brings ----------------------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        self._complaint = ""
        if self.name != connection.session.peer or len([c for c in self._connections if c.session.open]) == 1:
            log.info("peer %s is linked", connection.session.peer)
        self.name = connection.session.peer
        # A peer that was started anew leaves its former connection behind.
        for other in list(self._connections):
            if other is not connection and other.side == connection.side and other.session.open:
                other.close()

    def on_said(self, message: Said) -> None:
        self._on_said(message)

    def on_closed(self, connection: Connection, why: str) -> None:
        self._connections.remove(connection)
        if why and why != self._complaint:
            self._complaint = why
            log.warning("peer refused: %s", why)
        if connection.session.open and not self.open:
            log.warning("the link to peer %s is closed", connection.session.peer)
            self._on_closed()


class Connection:
    """One TCP connection with its session."""

    def __init__(self, loop: Loop, sock: socket.socket, session: Session, side: Side, link: PeerLink) -> None:
        self.session, self.side = session, side
        self._loop, self._socket, self._link = loop, sock, link
        self._out = session.outgoing()
        self._closed = False
        self._loop.watch(sock, self._on_event, READ | WRITE)

    def say(self, message: Said) -> None:
        self.session.say(message)
        self._flush()

    def must_be_open(self) -> None:
        if not self._closed and not self.session.open:
            self.close()

    def close(self, why: str = "") -> None:
        if not self._closed:
            self._closed = True
            self._loop.forget(self._socket)
            self._socket.close()
            self._link.on_closed(self, why)

    def _on_event(self) -> None:
        was_open = self.session.open
        try:
            data = self._socket.recv(65536)
            if not data:
                self.close()
                return
            said = self.session.receive(data)
        except BlockingIOError:
            said = []
        except OSError:
            self.close()
            return
        except Refused as refused:
            # Our own proof goes out first: the other side shall see by itself that the secrets differ.
            self._flush()
            self.close(str(refused))
            return
        self._flush()
        if self.session.open and not was_open and not self._closed:
            self._link.on_open(self)
        for message in said:
            self._link.on_said(message)

    def _flush(self) -> None:
        if self._closed:
            return
        self._out += self.session.outgoing()
        try:
            sent = self._socket.send(self._out) if self._out else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._out = self._out[sent:]
        if len(self._out) > STUCK:
            self.close()
            return
        self._loop.watch(self._socket, self._on_event, READ | WRITE if self._out else READ)
