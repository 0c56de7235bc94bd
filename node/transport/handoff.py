"""The bus between the workers of a node: Unix datagrams at `bus/<token>`.

What arrives at a worker that does not own it goes on as it came, with its flow, for about 2 us. A worker also sends
through a stream connection that another one accepted, and tells the others what they should remember.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from node.sip.flow import Flow

log = logging.getLogger(__name__)

PATIENCE = 1.0
"Seconds for which messages wait for a worker that is not there: its successor is being promoted."
RETRY = 0.01
WAITING = 1024
"Messages that may wait for one worker."
REMEMBERED = 33.0
"Seconds for which something sent by another worker may still go astray: as long as a transaction waits for its answer."
THROUGH = 10_000
BATCH = 64
PEERS = 256
"Places remembered; tags and branches that peers make up name more."
UNPLACED = "spare."
"The token of a worker without a slot begins so."
MISSED = "missed"
"Topic of the notice that says: others were lost."


class Arrived(msgspec.Struct, tag=0, array_like=True):
    """A message that belongs to you, as it came from the network."""

    data: bytes
    flow: Flow


class Through(msgspec.Struct, tag=1, array_like=True):
    """Send this through your connection; tell the sender, by the number, if it goes astray."""

    data: bytes
    flow: Flow
    sender: str = ""
    number: int = 0


class Notices(msgspec.Struct, tag=2, array_like=True):
    """Things to remember, each with its topic, which says what its body means."""

    items: list[tuple[str, bytes]]
    sender: str


class Astray(msgspec.Struct, tag=3, array_like=True):
    """What you had me send was not `sent`, as there is no such connection; or it was, and the connection broke."""

    number: int
    sent: bool


Mail = Arrived | Through | Notices | Astray


class Recipient(Protocol):
    """Who the bus delivers to."""

    def on_arrived(self, data: bytes, flow: Flow) -> None: ...
    def on_through(self, data: bytes, flow: Flow, astray: Callable[[bool], None]) -> None:
        """Send by a connection of ours. `astray` gets False if there is no such, True if it broke before an answer came."""

    def on_bus_notice(self, topic: str, body: bytes, sender: str) -> None: ...
    def on_bus_drained(self) -> None:
        """After a batch of any of these."""


class Bus:
    """One worker's place on the bus."""

    def __init__(self, folder: Path, token: str, loop: asyncio.AbstractEventLoop, recipient: Recipient) -> None:
        self.token = token
        self.handed_on = 0
        self.lost = 0
        "Messages for workers that never came."
        self._folder = folder
        self.expects: Callable[[str], bool] = lambda token: True
        "May a worker come to that place? Only then is waited for one that is not there."
        self._loop = loop
        self._recipient = recipient
        self._peers: dict[str, Peer] = {}
        self._listed = -1.0
        self._others: list[str] = []
        self._behind: set[str] = set()
        self._number = 0
        self._through: dict[int, tuple[float, Callable[[bool], None]]] = {}
        "What others send for us: until when it may go astray, and who is told then."
        self._notices: list[tuple[str, bytes]] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._path = folder / token
        folder.mkdir(parents=True, exist_ok=True)
        # Bound beside its place and moved there: whoever sends meanwhile finds the old socket or the new one.
        temporary = folder / f".{token}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        self._sock.bind(str(temporary))
        temporary.rename(self._path)
        loop.add_reader(self._sock.fileno(), self._drain)

    def send(self, token: str, mail: Mail, otherwise: Callable[[], None] | None = None) -> None:
        """Send to a worker. If it is not there, its successor has a second to come; after that `otherwise` is called.

        At a place where none is expected nobody is waited for: `otherwise` is called soon.
        """
        self.handed_on += 1
        peer = self._peer(token)
        if self.expects(token) or peer.there():
            peer.send(_encoder.encode(mail), otherwise or self._count_lost)
        else:
            self._loop.call_soon(otherwise or self._count_lost)

    def send_through(self, token: str, data: bytes, flow: Flow, astray: Callable[[bool], None]) -> None:
        """Send by a connection that another worker holds; `astray` as in `Recipient.on_through`."""
        now = self._loop.time()
        while self._through and (len(self._through) >= THROUGH or next(iter(self._through.values()))[0] < now):
            del self._through[next(iter(self._through))]
        self._number += 1
        number = self._number
        self._through[number] = now + REMEMBERED, astray
        self.send(token, Through(data, flow, self.token, number), lambda: self._astray(number, False))

    def tell(self, topic: str, body: Callable[[], bytes]) -> None:
        """Tell all other workers of this node, those without a slot included; `body` is asked for if there are any.

        What one turn of the loop has to tell goes out in one datagram.
        """
        if not self._present():
            return
        if not self._notices:
            self._loop.call_soon(self._flush_notices)
        self._notices.append((topic, body()))
        if len(self._notices) >= BATCH:
            self._flush_notices()

    def alive(self, token: str) -> bool:
        """Is there a worker at that place right now?"""
        return self._peer(token).there()

    def close(self) -> None:
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for peer in self._peers.values():
            peer.close()

    def leave(self) -> None:
        """Close, and take the name away, so that nobody waits for us."""
        self._path.unlink(missing_ok=True)
        self.close()

    def _flush_notices(self) -> None:
        notices, self._notices = self._notices, []
        if not notices or self._sock.fileno() < 0:
            return
        data = _encoder.encode(Notices(notices, self.token))
        for token in self._present():
            peer = self._peer(token)
            if peer.there():  # a successor that is yet to come reads the store instead
                peer.send(data, partial(self._missed, token))
            elif token.startswith(UNPLACED):
                # Nobody takes the name of a worker without a slot again: it is gone for good.
                peer.close()
                del self._peers[token]
                (self._folder / token).unlink(missing_ok=True)

    def _present(self) -> list[str]:
        now = self._loop.time()
        if now - self._listed > 0.25:
            self._listed = now
            self._others = [
                name for name in os.listdir(self._folder) if name != self.token and not name.startswith(".")
            ]
        return self._others

    def _peer(self, token: str) -> Peer:
        peer = self._peers.get(token)
        if peer is None:
            if len(self._peers) >= PEERS:
                self._peers = {name: each for name, each in self._peers.items() if not each.idle}
            peer = self._peers[token] = Peer(self._folder / token, self._loop)
        return peer

    def _astray(self, number: int, sent: bool, /) -> None:
        _until, astray = self._through.pop(number, (0.0, None))
        if astray is not None:
            astray(sent)

    def _tell_astray(self, sender: str, number: int, sent: bool, /) -> None:
        if sender and self._sock.fileno() >= 0:
            self.send(sender, Astray(number, sent))

    def _count_lost(self) -> None:
        self.lost += 1

    def _missed(self, token: str) -> None:
        """A notice did not get through to a worker that is there: it must read the store, once it hears again."""
        self.lost += 1
        if token not in self._behind:
            self._behind.add(token)
            self._loop.call_later(PATIENCE, self._tell_missed, token)

    def _tell_missed(self, token: str) -> None:
        self._behind.discard(token)
        peer = self._peer(token)
        if peer.there():
            peer.send(_encoder.encode(Notices([(MISSED, b"")], self.token)), partial(self._missed, token))

    def _drain(self) -> None:
        recipient = self._recipient
        for _ in range(BATCH):
            try:
                data = self._sock.recv(1 << 18)
            except BlockingIOError:
                break
            try:
                mail = _decoder.decode(data)
                if type(mail) is Arrived:
                    recipient.on_arrived(mail.data, Flow(*mail.flow))
                elif type(mail) is Through:
                    recipient.on_through(
                        mail.data, Flow(*mail.flow), partial(self._tell_astray, mail.sender, mail.number)
                    )
                elif type(mail) is Astray:
                    self._astray(mail.number, mail.sent)
                elif type(mail) is Notices:
                    for topic, body in mail.items:
                        recipient.on_bus_notice(topic, body, mail.sender)
            except Exception:
                log.exception("a message on the bus broke")
        recipient.on_bus_drained()


class Peer:
    """The way to one other worker: a connected socket, and what waits while the worker is busy or not there yet."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = str(path)
        self._loop = loop
        self._sock: socket.socket | None = None
        self._waiting: deque[tuple[float, bytes, Callable[[], None]]] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._stuck = False
        "Its queue is full (10 datagrams where nobody raised net.unix.max_dgram_qlen), and we wait for room."

    def send(self, data: bytes, otherwise: Callable[[], None]) -> None:
        if not self._waiting and self._try(data):
            return
        if len(self._waiting) >= WAITING:
            otherwise()
            return
        self._waiting.append((self._loop.time() + PATIENCE, data, otherwise))
        if self._retry is None:
            self._retry = self._loop.call_later(RETRY, self._again)

    @property
    def idle(self) -> bool:
        """Nobody is there, and nothing waits for somebody."""
        return self._sock is None and not self._waiting and self._retry is None

    def there(self) -> bool:
        if self._sock is not None:
            return True
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            return False
        self._sock = sock
        return True

    def close(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._drop()

    def _again(self) -> None:
        self._retry = None
        self._flush()
        now = self._loop.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[2]()
        if self._waiting:
            self._retry = self._loop.call_later(RETRY, self._again)

    def _flush(self) -> None:
        while self._waiting and self._try(self._waiting[0][1]):
            self._waiting.popleft()

    def _on_room(self) -> None:
        self._wait_for_room(False)
        self._flush()

    def _try(self, data: bytes) -> bool:
        for _ in range(2):  # once more when what we were connected to has been replaced
            if self._stuck or not self.there():
                return False
            assert self._sock is not None, "connected"
            try:
                self._sock.send(data)
                return True
            except BlockingIOError:
                self._wait_for_room(True)
                return False
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return True  # it can never be sent: not worth waiting for
                self._drop()
        return False

    def _wait_for_room(self, wait: bool, /) -> None:
        if self._sock is None or wait == self._stuck:
            return
        self._stuck = wait
        if wait:
            self._loop.add_writer(self._sock.fileno(), self._on_room)
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _drop(self) -> None:
        if self._sock is not None:
            self._wait_for_room(False)
            self._sock.close()
            self._sock = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Mail)
