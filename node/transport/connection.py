"""One stream connection, whatever lies on it: TCP, TLS over it, WebSocket over either.

    connecting -> TLS handshake -> WebSocket handshake -> open

What is sent before it is open waits. A peer that is slow to shake hands, to read or to finish a message, or that is silent
for long, is cut. All in plain callbacks on a non-blocking socket.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from node.config.streams import StreamLimits
from node.sip.errors import SipError
from node.sip.flow import Address, Flow
from node.transport.certificates import Unverified
from node.transport.tls import TlsLayer
from store.records import Transport

if TYPE_CHECKING:
    from node.transport.streams import Streams

READ = 65536
CONNECT_WITHIN = 5.0
"Seconds for a connection of ours to be made, TLS included."
REMEMBERED = 180.0
"Seconds for which a request that was sent may still wait for its answer: an INVITE rings for long."

Lost = Callable[[], object]


class Framing(Protocol):
    """What cuts a stream into messages: `SipStream`, `WebSocket`."""

    opened: bool
    over: bool
    fault: str

    @property
    def held(self) -> int: ...
    def feed(self, data: bytes) -> list[bytes]: ...
    def outgoing(self) -> bytes: ...
    def wrap(self, message: bytes) -> bytes: ...
    def ping(self) -> bytes: ...
    def farewell(self) -> bytes: ...


class Connection:
    """One connection; `streams` is who made it and hears of it."""

    def __init__(
        self,
        sock: socket.socket,
        flow: Flow,
        streams: Streams,
        loop: asyncio.AbstractEventLoop,
        *,
        framing: Framing,
        layer: TlsLayer | None,
        host: str | None = None,
    ) -> None:
        """`host`: whom we call, by name or address; None for a connection that was accepted."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # A peer that vanished acknowledges nothing; by itself the kernel would believe in it for a quarter of an hour.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, streams.limits.stall_timeout * 1000)
        self.sock = sock
        self.flow = flow
        self.host = host
        self.open = False
        self.proven = False
        "It has brought something whole; until then it may have to make room for a newer one."
        self.layer = layer
        self.buffered = 0
        "Bytes of ours and theirs that it holds."
        self.kept_until = 0.0
        "Until then a phone is registered by it, and may be silent."
        self.keys: list[tuple[str, str, Address]] = []
        "What `Streams` finds it by, beside its name."
        self._streams, self._loop, self._framing = streams, loop, framing
        self._unsent = bytearray()
        self._stuck = False
        "Does what is unsent wait for the peer to read?"
        self._corked = False
        "Is it gathered, to be sent in one piece?"
        self._waiting: list[tuple[bytes, Flow, Lost]] = []
        self._recent: dict[Flow, tuple[float, Lost]] = {}
        "Who sent requests on it lately, and when."
        self._since = self._active = self._moved = loop.time()
        self._begun: float | None = None
        "When the message that is not whole yet began."
        self._pinged = self._asked = 0.0
        self._closed = False
        self._deadline: asyncio.TimerHandle | None = None
        if host is None:
            loop.add_reader(sock.fileno(), self._read)
            self._look_open()
        else:
            self._deadline = loop.call_later(CONNECT_WITHIN, self._give_up)
            loop.add_writer(sock.fileno(), self._on_connected)

    @property
    def name(self) -> str:
        return self.flow.connection

    @property
    def transport(self) -> Transport:
        return self.flow.transport

    @property
    def accepted(self) -> bool:
        return self.host is None

    # ---- what the node wants ---------------------------------------------------------------------------------------

    def send(self, message: bytes, flow: Flow, lost: Lost) -> None:
        """Send now, or when it is open. `lost` is called where it is sure that the message did not get through."""
        if self._closed:
            self._loop.call_soon(lost)
            return
        if not self.open:
            self._waiting.append((message, flow, lost))
            self._account()
            return
        if message[:4] != b"SIP/":
            self._remember(flow, lost)
        self._put(self._framing.wrap(message))

    def judge(self, now: float, limits: StreamLimits, idle: float) -> None:
        """Close it if it has been slow or silent for too long."""
        if not self.open:
            if self.accepted and now - self._since > limits.handshake_timeout:
                self._fail("its handshake took too long")
        elif (self._begun is not None and now - self._begun > limits.message_timeout) or (
            not self.proven and now - self._since > limits.message_timeout
        ):
            self._fail("it took too long over a message")
        elif self._unsent and now - self._moved > limits.stall_timeout:
            self._fail("it does not read")
        elif now - self._active > idle and now > self.kept_until:
            self.close()

    def keep_alive(self, now: float, every: float, answered_within: float) -> None:
        """Ping it when its time has come; close it if the last ping was answered by nothing."""
        if not self.open:
            return
        if answered_within and self._asked and now - self._asked > answered_within:
            self._fail("it does not answer pings")
        elif now - self._pinged >= every:
            self._pinged = now
            self._asked = self._asked or now
            self._put(self._framing.ping())

    def close(self) -> None:
        """In order, as far as the peer reads; who waits for a response on it is told."""
        if not self._closed and self.open and not self._unsent:
            self._put(self._framing.farewell())
            if self.layer is not None:
                self._write(self.layer.farewell())
        self.drop()

    def drop(self) -> None:
        """At once and without a word."""
        if self._closed:
            return
        self._closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        self._loop.remove_reader(self.sock.fileno())
        self._loop.remove_writer(self.sock.fileno())
        self.sock.close()
        now = self._loop.time()
        lost = [each for _message, _flow, each in self._waiting]
        lost += [each for at, each in self._recent.values() if now - at < REMEMBERED]
        self._waiting.clear()
        self._recent.clear()
        self._unsent.clear()
        self._streams.forget(self)
        for each in lost if not self._streams.closing else ():
            # Not at once: whoever sends is in the middle of something.
            self._loop.call_soon(each)

    # ---- being opened ----------------------------------------------------------------------------------------------

    def _on_connected(self) -> None:
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lose(OSError(error, os.strerror(error)))
            return
        self._loop.remove_writer(self.sock.fileno())
        self._loop.add_reader(self.sock.fileno(), self._read)
        name = self.sock.getsockname()
        self.flow = self.flow._replace(local=(name[0], name[1]))
        self._active = self._loop.time()
        if self.layer is not None:
            self.layer.begin()
            self._write(self.layer.outgoing())
        self._look_open()

    def _look_open(self) -> None:
        """Has the last handshake come through?"""
        if self.open or self._closed or (self.layer is not None and not self.layer.made) or not self._framing.opened:
            return
        self.open = True
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if not self.accepted or self.transport in ("WS", "WSS"):
            self._prove()
        waiting, self._waiting = self._waiting, []
        for message, flow, lost in waiting:
            self.send(message, flow, lost)
        self._account()

    def _prove(self) -> None:
        self.proven = True
        self._streams.proved(self)

    def _give_up(self) -> None:
        self._lose(TimeoutError(errno.ETIMEDOUT, "no answer"))

    # ---- what the socket brings ------------------------------------------------------------------------------------

    def _read(self) -> None:
        if self.layer is not None and not self.layer.made and not self._streams.may_shake():
            return  # what came stays in the kernel, and the loop will say so again
        try:
            data = self.sock.recv(READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        if not data:
            self.drop()
            return
        self._active = self._loop.time()
        self._asked = 0.0
        if len(data) == READ:
            self._streams.crowded()  # a hundred messages and more, and that is not all
        try:
            plain = data if self.layer is None else self._decipher(self.layer, data)
            if plain:
                self._take(plain)
        except SipError as error:
            self._streams.broken(plain, self.flow, error)
            self.close()
        except (ssl.SSLError, Unverified) as error:
            if self.layer is not None:
                self._write(self.layer.outgoing())  # the alert that says why
            self._fail(f"TLS: {getattr(error, 'reason', None) or error}".replace("_", " ").lower())
        if not self._closed and self.layer is not None and self.layer.ended:
            self.close()

    def _decipher(self, layer: TlsLayer, data: bytes) -> bytes:
        """What it says in clear; the end of the handshake is noticed here."""
        made = layer.made
        plain = layer.feed(data)
        if not made and layer.made:
            self._streams.verify(self)
        self._write(layer.outgoing())
        self._look_open()
        return plain

    def _take(self, plain: bytes) -> None:
        framing = self._framing
        messages = framing.feed(plain)
        self._put(framing.outgoing())
        self._look_open()
        held = framing.held
        if (messages or not held) and not self.proven and self.open:
            self._prove()
        self._begun = None if not held else self._active if messages or self._begun is None else self._begun
        self._account()
        if messages:
            self._deliver(messages)
        if getattr(framing, "broken", False):
            framing.feed(b"")  # raises what comes after the good messages
        if framing.over:
            if framing.fault:
                self._fail(framing.fault)
            else:
                self.close()

    def _deliver(self, messages: list[bytes]) -> None:
        """Hand them over; what is answered meanwhile goes out in one piece."""
        self._corked = True
        try:
            for message in messages:
                self._streams.deliver(message, self)
            self._streams.drained()
        finally:
            self._corked = False
            if self._unsent and not self._stuck:
                waiting, self._unsent = self._unsent, bytearray()
                self._write(waiting)

    # ---- writing ---------------------------------------------------------------------------------------------------

    def _put(self, plain: bytes) -> None:
        """Say this, in cipher where it must be."""
        if not plain or self._closed:
            return
        if self.layer is None:
            self._write(plain)
            return
        try:
            self.layer.write(plain)
        except ssl.SSLError as error:
            self._fail(f"TLS: {error.reason or error}")
            return
        self._write(self.layer.outgoing())

    def _write(self, data: bytes | bytearray) -> None:
        if not data or self._closed:
            return
        if not self._unsent and not self._corked:
            try:
                sent = self.sock.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._lose(error)
                return
            if sent == len(data):
                return
            data = data[sent:]
            self._moved = self._loop.time()
            self._stuck = True
            self._loop.add_writer(self.sock.fileno(), self._flush)
        self._unsent += data
        if len(self._unsent) > self._streams.limits.max_unsent:
            self._fail("it reads too slowly")
        elif not self._corked:
            self._account()

    def _flush(self) -> None:
        try:
            sent = self.sock.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lose(error)
            return
        self._moved = self._loop.time()
        del self._unsent[:sent]
        if not self._unsent:
            self._stuck = False
            self._loop.remove_writer(self.sock.fileno())
            self._account()

    def _account(self) -> None:
        """Tell how much it holds, where that has changed."""
        held = self._framing.held + len(self._unsent) + sum(len(each[0]) for each in self._waiting)
        if held != self.buffered and not self._closed:
            more, self.buffered = held - self.buffered, held
            if not self._streams.account(more):
                self._fail("too much is buffered for all connections together")

    def _remember(self, flow: Flow, lost: Lost) -> None:
        now = self._loop.time()
        if len(self._recent) >= 64:
            self._recent = {each: kept for each, kept in self._recent.items() if now - kept[0] < REMEMBERED}
        self._recent[flow] = now, lost

    def _lose(self, error: OSError) -> None:
        """The network, or the peer without a farewell, has ended it."""
        if not self._closed:
            self._streams.lost(self, error)
            self.drop()

    def _fail(self, why: str) -> None:
        """It is cut, and the peer is to blame."""
        if not self._closed:
            self._streams.failed(self, why)
            self.drop()
