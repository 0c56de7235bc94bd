"""The endpoint of a worker: drives the transaction layer on its sockets.

A worker reads the UDP socket of its own slot and accepts on the listening sockets of its profile; it sends by the socket
of any profile. What is not its own goes to the owner over the bus. All in plain callbacks: what one wake-up brings is
taken in a batch, and the layer is settled once after it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from node.config.profile import ProfileSettings
from node.debug import tport
from node.link import SocketName
from node.sip import compose
from node.sip.errors import Malformed, SipError
from node.sip.flow import Address, Flow, endpoint_text
from node.sip.layer import ClientTransaction, ServerTransaction, TransactionLayer, TransactionUser
from node.sip.message import Request, Response, check, check_response, parse
from node.sip.timers import Timers
from node.sip.token import token as token_of
from node.sip.transaction import reply_flow
from node.sip.uri import Uri
from node.transport.addresses import Addresses
from node.transport.attempt import Attempt
from node.transport.attempt import Then as Answered
from node.transport.detour import Detour, Lost
from node.transport.gate import Gate
from node.transport.handoff import Arrived, Bus
from node.transport.intake import Intake
from node.transport.limits import limits_of
from node.transport.oversize import Oversize
from node.transport.ownership import owner_of
from node.transport.recess import Recess
from node.transport.resolver import Resolver
from node.transport.routes import Located, Routes
from node.transport.streams import Streams
from node.transport.suspects import Suspects
from node.transport.trace import Trace
from node.transport.udp import PASSING, Datagrams
from store.records import Transport

log = logging.getLogger(__name__)

Message = Request | Response

LOT = 32
"Messages that are read, all of them, before the first is served."

LISTENING: dict[str, Transport] = {"tcp": "TCP", "tls": "TLS", "ws": "WS", "wss": "WSS"}
"The transports of the kinds of listening sockets."


class Alarm(Protocol):
    """Something that will happen, and can be called off."""

    def cancel(self) -> None: ...


class Endpoint:
    """Owns the sockets, the bus and the TransactionLayer of one worker."""

    def __init__(
        self,
        settings: Mapping[str, ProfileSettings],
        user: TransactionUser,
        *,
        profile: str,
        token: str,
        bus_folder: Path,
        loop: asyncio.AbstractEventLoop,
        resolver: Resolver | None = None,
    ) -> None:
        self.profile = profile
        "The profile whose messages this worker receives."
        self.token = token
        self.received = 0
        self.sent = 0
        self.until = math.inf
        "Moment of the monotonic clock until which this worker may act; after it nothing is heard any more."
        self.recess = Recess()
        self.suspects = Suspects()
        self.hold: Callable[[Message, Flow], bool] | None = None
        "While records are being claimed: keeps what may belong to them, and says so."
        self.adopt: Callable[[Message, Flow], None] | None = None
        "Who takes a message of a slot that nobody here has, and calls `take` when it knows better."
        self.on_served: Callable[[], object] = bool
        "Told when all that came together is served: the user may have put something off."
        self.on_notice: Callable[[str, bytes, str], None] | None = None
        self.on_connection_closed: Callable[[Flow], None] | None = None
        self.moved: Callable[[Flow], Flow | None] | None = None
        "Knows by which connection the phone of a connection that is gone has registered since."
        self._settings = settings
        self._loop = loop
        self.named = Addresses(settings)
        own = settings[profile]
        self._limits = limits_of(own)
        self.layer = TransactionLayer(
            user,
            slot_token=token,
            sent_by=self.named.sent_by,
            timers=Timers(own.timer_t1 / 1000, own.timer_t2 / 1000, own.timer_t4 / 1000),
        )
        self.gate = Gate(
            own,
            send=self._transmit,
            knows=self.layer.knows,
            repeat=self._repeat,
            suspects=self.suspects,
            later=loop.call_later,
        )
        "Judges requests before they are read."
        self.bus = Bus(bus_folder, token, loop, self)
        self.streams = Streams(token, loop, self, settings, profile)
        self.streams.exceeded = self.gate.closed_for
        self.routes = Routes(resolver or Resolver(loop), settings, self.streams, now=loop.time, locals_of=self._locals)
        self._detour = Detour(self, loop.call_later)
        self.oversize = Oversize(settings, self.streams, send=self._transmit, show=self._show, now=loop.time)
        self.intake = Intake(self.gate, loop, read=self._read, settle=self._end_batch, may=self._may_act)
        "Reads the UDP sockets, what is urgent first."
        self._sending: dict[tuple[str, Address], Datagrams] = {}
        self._by_profile: dict[str, Datagrams] = {}
        self.trace = Trace(loop, settings, os.environ)
        self._heard: list[tuple[Message, bytes, Flow]] = []
        "Read, and not served yet."
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._settling = False

    # ---- what the transaction user asks for ------------------------------------------------------------------------

    def request(self, request: Request, flow: Flow) -> ClientTransaction:
        """Send a request in a transaction of its own; the layer adds our Via."""
        transaction = self.layer.request(request, flow, self._loop.time())
        self._settle()
        return transaction

    def respond(self, transaction: ServerTransaction, response: Response) -> None:
        """Answer."""
        self.layer.respond(transaction, response, self._loop.time())
        self._settle()

    def respond_statelessly(self, transaction: ServerTransaction, response: Response) -> None:
        """Refuse, and keep nothing of it (RFC 3261 8.2.7)."""
        self.layer.respond_statelessly(transaction, response)
        self._settle()

    def cancel(self, transaction: ClientTransaction, headers: Sequence[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE of ours (RFC 3261 9.1), once it has had a provisional response."""
        self.layer.cancel(transaction, self._loop.time(), headers)
        self._settle()

    def acknowledge(self, transaction: ClientTransaction) -> None:
        """ACK the refusal of an INVITE that was `reserved`."""
        self.layer.acknowledge(transaction, self._loop.time())
        self._settle()

    def meet(self, request: Request, transaction: ServerTransaction) -> bool:
        """Has a CANCEL that came too early its INVITE here by now? Then it takes effect."""
        met = self.layer.meet(request, transaction, self._loop.time())
        self._settle()
        return met

    def revive_server(self, request: Request, flow: Flow, last_response: bytes) -> ServerTransaction:
        """An INVITE transaction taken over: retransmissions are answered with `last_response` (b"" for none)."""
        transaction = self.layer.revive_server(request, flow, last_response, self._loop.time())
        self._settle()
        return transaction

    def revive_client(self, request: Request, flow: Flow, *, proceeding: bool) -> ClientTransaction:
        """An INVITE of the former owner: `request` with the Via it was sent with."""
        transaction = self.layer.revive_client(request, flow, self._loop.time(), proceeding=proceeding)
        self._settle()
        return transaction

    def is_full(self, method: str) -> bool:
        """Is there no room for a new request of this method? For `max-transactions`, and `max-proceeding` for INVITE."""
        own = self._settings.get(self.profile)
        if own is None:
            return False
        if self.layer.transactions > own.max_transactions:
            return self.gate.is_full("max-transactions")
        if method == "INVITE" and own.max_proceeding and self.layer.proceeding() > own.max_proceeding:
            return self.gate.is_full("max-proceeding")
        return False

    def send(self, data: bytes, flow: Flow) -> None:
        """Send outside any transaction: the ACK for a 2xx, the 2xx again."""
        self._transmit(data, flow)

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is asked for within is sent at its end, all at once: it takes less than one by one."""
        outermost, self.intake.batch = not self.intake.batch, True
        try:
            yield
        finally:
            if outermost:
                self.intake.batch = False
                self._settle()

    def now(self) -> float:
        """The loop's time, which the transaction layer goes by."""
        return self._loop.time()

    def later(self, delay: float, callback: Callable[[], None]) -> Alarm:
        """Call back once after `delay` seconds of loop time."""
        return self._loop.call_later(delay, callback)

    def locate(self, uri: Uri, profile: str, then: Located) -> None:
        """Where a request to `uri` goes (RFC 3263), best first. Called back at once for a numeric host."""
        self.routes.locate(uri, profile, then, self.oversize.keep)

    def request_to(self, uri: Uri, profile: str, write: Callable[[Flow], Request], then: Answered) -> Attempt:
        """Send a request outside of dialogs, not an INVITE, to the first target of `uri` that answers.

        `write` makes it for the way it goes; `then` gets the final response, or None.
        """
        attempt = Attempt(self, profile, write, then)
        self.locate(uri, profile, attempt.on_located)
        return attempt

    def contact(self, flow: Flow, user: str = "mod_sofia", *, secure: bool = False) -> str:
        """Our Contact towards a peer: `<sip:mod_sofia@192.0.2.1:5060;transport=tcp>`; `secure`: where sips is demanded."""
        return self.named.contact(flow.profile, flow.transport, user, secure=secure, towards=flow.remote[0])

    def address(self, flow: Flow) -> Address:
        """The address and port by which a profile names itself to a peer."""
        return self.named.public(flow.profile, flow.transport, flow.remote[0])

    def local(self, profile: str) -> Address:
        """The address and port a profile's socket is bound to."""
        return self.named.local(profile)

    # ---- life ------------------------------------------------------------------------------------------------------

    def open(self, sockets: Sequence[tuple[SocketName, int]]) -> None:
        """Adopt kept sockets and read at once. The descriptors are ours from now on."""
        for name, descriptor in sockets:
            if name.kind == "udp":
                self._open_udp(name, socket.socket(fileno=descriptor))
            elif name.profile == self.profile:
                transport = LISTENING[name.kind]
                self.named.listen(name.profile, transport, name.port)
                self.streams.listen(socket.socket(fileno=descriptor), name.profile, transport)
            else:
                os.close(descriptor)
        self.intake.open()

    def add(self, sockets: Sequence[tuple[SocketName, int]]) -> None:
        """Sockets of profiles that were started later, to send by."""
        for name, descriptor in sockets:
            if name.kind != "udp":
                os.close(descriptor)
                continue
            datagrams = Datagrams(socket.socket(fileno=descriptor), name.profile, arrived=self.on_message)
            datagrams.mark(self._settings)
            old = self._sending.get((name.profile, datagrams.local))
            self._sending[name.profile, datagrams.local] = datagrams
            self._by_profile[name.profile] = datagrams
            self.named.bind(name.profile, datagrams.local)
            if old is not None:
                old.close()

    def configure(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Go by another configuration; sockets stay as they are."""
        self._settings = settings
        self.routes.configure(settings)
        self.streams.configure(settings)
        self.oversize.configure(settings)
        for datagrams in self._sending.values():
            datagrams.mark(settings)
        self.named.configure(settings)
        if self.profile in settings:
            self._limits = limits_of(settings[self.profile])
            self.gate.configure(settings[self.profile])

    def addresses(self) -> Set[Address]:
        """The addresses we send UDP from."""
        return {local for _profile, local in self._sending}

    def pause(self) -> None:
        """Our time to act is over: say nothing, and keep what comes, until `resume`."""
        self.recess.on = True

    def resume(self) -> None:
        """There is more time: go on where we were."""
        said, heard = self.recess.end()
        for data, flow in said:
            self._transmit(data, flow)
        for data, flow in heard:
            self.on_message(data, flow)
        self.on_drained()  # under stress they have only been put into a queue

    def deafen(self) -> None:
        """Stop reading. What is being sent still goes out."""
        self.intake.deafen()
        self.streams.deafen()

    def close(self) -> None:
        self.deafen()
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None
        self.intake.close()
        self.streams.close()
        self.bus.close()
        self.routes.resolver.close()
        self.trace.close()
        for datagrams in (*self.intake.sockets, *self._sending.values()):
            datagrams.close()

    @property
    def unsent(self) -> int:
        """Datagrams the kernel did not take."""
        return sum(each.failures for each in {*self.intake.sockets, *self._sending.values()})

    def _open_udp(self, name: SocketName, sock: socket.socket) -> None:
        datagrams = Datagrams(sock, name.profile, arrived=self.on_message)
        datagrams.mark(self._settings)
        if name.profile == self.profile and owns(name.slot, self.token):
            self.intake.add(datagrams)
            self._by_profile[name.profile] = datagrams
            self._sending[name.profile, datagrams.local] = datagrams
            self.named.bind(name.profile, datagrams.local)
        else:
            self._sending.setdefault((name.profile, datagrams.local), datagrams)
            self._by_profile.setdefault(name.profile, datagrams)
            if not self.named.has(name.profile):
                self.named.bind(name.profile, datagrams.local)

    # ---- what the network and the clock bring ----------------------------------------------------------------------

    def on_message(self, data: bytes, flow: Flow) -> None:
        """One datagram, or one message cut out of a stream."""
        now = time.monotonic()
        if now >= self.until:
            # Our time is over, and whoever stopped us for a while let us wake up only now; there may be more of it.
            self.recess.hear(data, flow)
            return
        self.received += 1
        watched = self.trace.profiles
        if watched and flow.profile in watched and len(data) > 4:
            self.trace.seen("recv", data, flow)
        if data[:8] == b"SIP/2.0 ":
            if self.gate.wary and self.gate.shuns(flow, now):
                return
        elif len(data) <= 4:
            return  # a keepalive (RFC 5626 3.5.1, or what NAT boxes are fed with)
        elif not self.gate.admits(data, flow, now):
            return
        self._read(data, flow)

    def _read(self, data: bytes, flow: Flow) -> None:
        """Read one message, and serve it; within a batch when a lot of them is read.

        What reads and what serves have no room beside each other where the processor keeps what it needs next: by turns
        for each message they take a tenth more.
        """
        if tport.level >= 7:
            tport.say("received %d bytes from %s", len(data), flow)
        message = None
        try:
            message = parse(data, self._limits)
            if isinstance(message, Request):
                check(message)
            else:
                check_response(message)
        except SipError as error:
            self._refuse(error, data, flow, message)
            return
        except Exception:
            log.exception("a message from %s broke", endpoint_text(flow.remote))
            return
        self._heard.append((message, data, flow))
        if not self.intake.batch or len(self._heard) >= LOT:
            self._serve_heard()

    def _serve_heard(self) -> None:
        heard, self._heard = self._heard, []
        for message, data, flow in heard:
            if time.monotonic() >= self.until:
                self.recess.hear(data, flow)
                continue
            try:
                owner = owner_of(message)
                if owner is None or owner == self.token:
                    self.take(message, flow)
                else:
                    self._hand_on(owner, message, data, flow)
            except SipError as error:
                self._refuse(error, data, flow, message)
            except Exception:
                log.exception("a message from %s broke", endpoint_text(flow.remote))
        self.on_served()

    def _end_batch(self) -> None:
        """All that came is read: serve the rest of it, then send."""
        with self.together():
            self._serve_heard()

    def take(self, message: Message, flow: Flow) -> None:
        """A message for this worker, whatever its tags say."""
        if self.hold is not None and self.hold(message, flow):
            return
        self.layer.receive(message, flow, self._loop.time())
        if not self.intake.batch:
            self._settle()

    def on_broken(self, data: bytes, flow: Flow, error: SipError) -> None:
        """A stream that cannot be cut any further, and is closed after this."""
        self._refuse(error, data, flow, None)

    def on_drained(self) -> None:
        self._settle()
        self.intake.on_streams_drained()

    def on_crowded(self) -> None:
        self.gate.stress(time.monotonic())

    def on_lost(self, flow: Flow) -> None:
        if tport.level >= 3:
            tport.say("cannot send to %s", flow)
        self.layer.transport_failed(flow, self._loop.time())
        if flow.reliable:
            self._detour.ring_on(flow)
        self._settle()

    def on_closed(self, flow: Flow) -> None:
        if tport.level >= 5:
            tport.say("connection %s is closed (%s)", flow.connection, flow)
        if self.on_connection_closed is not None:
            self.on_connection_closed(flow)

    def on_arrived(self, data: bytes, flow: Flow) -> None:
        """Handed on by another worker, which has judged that it is ours."""
        if tport.level >= 7:
            tport.say("%d bytes from %s, handed on to us", len(data), flow)
        try:
            self.take(parse(data), flow)
        except SipError as error:
            self.suspects.note(flow.remote[0], error, self._loop.time())

    def on_through(self, data: bytes, flow: Flow, astray: Callable[[bool], None]) -> None:
        if time.monotonic() >= self.until:
            self.recess.say(data, flow)
        elif not self.streams.send(data, flow, partial(astray, True), dial=False):
            astray(False)

    def on_bus_notice(self, topic: str, body: bytes, sender: str) -> None:
        if self.on_notice is not None:
            self.on_notice(topic, body, sender)

    def on_bus_drained(self) -> None:
        self._settle()

    def _repeat(self, key: tuple[str, str, str], flow: Flow) -> bool:
        return self.layer.repeat(key, flow, self._loop.time())

    def _may_act(self, now: float) -> bool:
        return now < self.until

    def _on_alarm(self) -> None:
        self._alarm = None
        try:
            self.layer.wake(self._loop.time())
        except Exception:
            log.exception("an alarm broke")
        self._settle()

    def _settle(self) -> None:
        """After every touch of the layer: send what it wants sent, set the alarm it wants set."""
        if self.intake.batch or self._settling:
            return
        self._settling = True
        try:
            self.on_served()
            for data, flow in self.layer.outgoing():
                self._transmit(data, flow)
        finally:
            self._settling = False
        at = self.layer.next_wake()
        if at is None or (self._alarm is not None and self._alarm_at <= at):
            return  # an alarm that rings early only looks and sets the next one
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_at(at, self._on_alarm)

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _transmit(self, data: bytes, flow: Flow) -> None:
        # Who was stopped may wake with an answer in hand before it has noticed how late it is.
        if self.recess.on or time.monotonic() >= self.until:
            self.recess.say(data, flow)
            return
        oversize = self.oversize
        if (len(data) > oversize.least or oversize.branches) and flow.transport == "UDP" and oversize.takes(data, flow):
            return
        self._show(data, flow)
        if flow.transport != "UDP":
            self._send_by_stream(data, flow)
            return
        datagrams = self._sending.get((flow.profile, flow.local)) or self._by_profile.get(flow.profile)
        if datagrams is None:
            log.warning("profile %s has no UDP socket to send by", flow.profile)
            self._loop.call_soon(self.on_lost, flow)
            return
        failure = datagrams.send(data, flow.remote)
        if failure and failure not in PASSING:
            log.info("cannot send to %s: %s", endpoint_text(flow.remote), errno.errorcode.get(failure, failure))
            # Not at once: the layer is in the middle of something.
            self._loop.call_soon(self.on_lost, flow)

    def _show(self, data: bytes, flow: Flow) -> None:
        """Count it, and tell who watches."""
        self.sent += 1
        watched = self.trace.profiles
        if watched and flow.profile in watched:
            self.trace.seen("send", data, flow)
        if tport.level >= 7:
            tport.say("sends %d bytes to %s", len(data), flow)

    def _send_by_stream(self, data: bytes, flow: Flow) -> None:
        """By the connection there is, or by another way."""
        # Who is told is told later: the layer is in the middle of something.
        lost = partial(self._loop.call_soon, self.on_lost, flow)
        if not self.pass_on(data, flow, lost):
            self._detour.take(data, flow, lost)

    def pass_on(self, data: bytes, flow: Flow, lost: Lost) -> bool:
        """By our connection, by a new one, or by another worker's (RFC 3261 18.1.1, 18.2.2). False if there is none."""
        if self.streams.send(data, flow, lost):
            return True
        holder = flow.connection.partition("/")[0]
        if not holder or holder == self.token or not self.bus.alive(holder):
            return False

        def astray(sent: bool, /) -> None:
            if sent:
                lost()
            else:
                self._detour.take(data, flow, lost)

        self.bus.send_through(holder, data, flow, astray)
        return True

    def stands(self, flow: Flow) -> bool:
        """May its connection still be there, here or on another worker?"""
        holder = flow.connection.partition("/")[0]
        elsewhere = holder != self.token and self.bus.alive(holder)
        return elsewhere or self.streams.find(flow) is not None

    def _locals(self, profile: str) -> list[Address]:
        """The addresses that a profile sends by, its own first."""
        return [self.local(profile), *(local for name, local in self._sending if name == profile)]

    # ---- what is not ours, and what nobody can read ----------------------------------------------------------------

    def _hand_on(self, owner: str, message: Message, data: bytes, flow: Flow) -> None:
        if tport.level >= 7:
            tport.say("%d bytes from %s are for %s", len(data), flow, owner)

        def nobody() -> None:
            if self.adopt is not None:
                self.adopt(message, flow)
            else:
                self.take(message, flow)

        self.bus.send(owner, Arrived(data, flow), nobody)

    def _refuse(self, error: SipError, data: bytes, flow: Flow, message: Message | None) -> None:
        """Answer what can be answered, without a transaction (RFC 3261 8.2.7); never an ACK, never a response."""
        self.suspects.note(flow.remote[0], error, self._loop.time())
        if data[:8] == b"SIP/2.0 ":
            self.gate.charge(flow, time.monotonic())
            return
        request = message if message is not None else getattr(error, "request", None)
        if not isinstance(request, Request) or request.method == "ACK":
            return
        try:
            request.stamp(*flow.remote)
            self._transmit(compose.refuse(request, error).encode(), reply_flow(request, flow))
        except Malformed:
            return  # not even that much of it can be read


def owns(slot: str, token: str) -> bool:
    """Is this the slot of the token? A socket without a slot belongs to each worker of its profile."""
    return not slot or token_of(slot) == token
