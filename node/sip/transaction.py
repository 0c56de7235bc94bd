"""Transactions: what one remembers, and how a cause moves it. The tables are in `tables.py`, matching in `layer.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from node.debug import nta
from node.sip.answered import Answered
from node.sip.flow import Flow
from node.sip.machine import Cause, Machine, State
from node.sip.message import Request, Response
from node.sip.timers import Timers
from node.sip.token import Names
from node.sip.wheel import Alarm, Wheel

Failure = Literal["timeout", "transport"]
Happening: TypeAlias = Request | Response | None
"The message that a cause comes with; None for alarms."


GONE = Request("", "", "")
"In the place of a request of which nothing is needed any more."


class TransactionUser(Protocol):
    """Who hears of what happens. Called from within receive(), wake(), request(), ...; may call the layer back at once."""

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        """A new request; without a transaction: the ACK to a 2xx (or a stray one). May refuse it by raising a SipError."""

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        """CANCEL for this INVITE, already answered 200; answer the INVITE 487."""

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        """A provisional, a final, and each 2xx to INVITE again (forked or retransmitted)."""

    def on_failure(self, transaction: ClientTransaction, cause: Failure) -> None:
        """No final response will come."""

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        """A final failure to an INVITE was never acknowledged (timer H)."""

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        """A revived INVITE was acknowledged although we refused nothing: the predecessor had done so already."""

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response that matches no transaction."""

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """A CANCEL that matches no INVITE: answer its own transaction 481, unless you know better."""


class Ground:
    """What all transactions of a layer share: user, time, names, the way out, and the tables they are found in."""

    __slots__ = ("answered", "clients", "names", "out", "sent_by", "servers", "timers", "user", "wheel")

    def __init__(self, user: TransactionUser, names: Names, sent_by: Callable[[Flow], str], timers: Timers) -> None:
        self.user = user
        self.names = names
        self.sent_by = sent_by
        self.timers = timers
        self.wheel: Wheel[tuple[Transaction, Cause]] = Wheel()
        self.out: list[tuple[bytes, Flow]] = []
        self.servers: dict[Sequence[str], ServerTransaction] = {}
        self.clients: dict[Sequence[str], ClientTransaction] = {}
        self.answered = Answered()


class Transaction:
    """What both sides have in common."""

    __slots__ = (
        "_alarms",
        "_machine",
        "branch",
        "flow",
        "ground",
        "key",
        "method",
        "owner",
        "repeats",
        "request",
        "state",
    )

    def __init__(
        self, ground: Ground, machine: Machine[Any, Happening], key: Sequence[str], request: Request, flow: Flow
    ) -> None:
        self.ground = ground
        self.key = key
        self.request = request
        self.method = request.method
        self.flow = flow
        self.branch = key[0]
        self.state = machine.start
        self.repeats = 0
        "How often the resend alarm went off in a row."
        self.owner: Any = None
        "Free for the transaction user."
        self._machine = machine
        self._alarms: list[Alarm[tuple[Transaction, Cause]]] = []

    @property
    def alive(self) -> bool:
        return self.state is not State.TERMINATED

    def begin(self, state: State, now: float) -> None:
        """Be in this state from now on: the start, or where a predecessor stood."""
        self.state = state
        self._set_alarms((), now)

    def happen(self, cause: Cause, message: Happening, now: float) -> None:
        """The one way to move: look up the rule, change the state, act."""
        rule = self._machine.rules[self.state].get(cause)
        if rule is None:
            if nta.level >= 9:
                nta.say("%s %s is %s, %s changes nothing", self.method, self.branch, self.state, cause)
            return
        state, actions = rule
        at_once = None
        if state is not self.state:
            at_once = self._enter(state, now)
        for act in actions:
            act(self, message, now)
        if at_once is not None and self.state is state:
            self.happen(at_once, None, now)

    def on_alarm(self, cause: Cause, now: float) -> None:
        """An alarm of this state went off."""
        alarms = self._alarms
        alarms[:] = [alarm for alarm in alarms if alarm.item is not None]
        state = self.state
        self.repeats += 1
        if nta.level >= 7:
            nta.say("%s %s is %s: time to %s", self.method, self.branch, state, cause)
        self.happen(cause, None, now)
        if self.state is state and cause in self._machine.alarms.get(state, ()):
            delay = self._machine.alarms[state][cause](self.ground.timers, self)
            if delay:
                alarms.append(self.ground.wheel.set(delay, (self, cause), now))

    def forget(self) -> None:
        """End it without a word to anybody."""
        if self.state is not State.TERMINATED:
            for alarm in self._alarms:
                self.ground.wheel.cancel(alarm)
            self._alarms = []
            self.state = State.TERMINATED
            self._leave()

    def shed(self) -> None:
        """Nobody asks for what its request said any more: half a minute of requests would be most of what a stack holds."""
        self.request = GONE

    def _enter(self, state: State, now: float) -> Cause | None:
        old, self.state = self.state, state
        if nta.level >= 7:
            nta.say("%s %s: %s -> %s", self.method, self.branch, old, state)
        kept = self._machine.shared.get((old, state), ())
        running: tuple[Cause, ...] = ()
        if self._alarms:
            staying = []
            for alarm in self._alarms:
                if kept and alarm.item is not None and alarm.item[1] in kept:
                    staying.append(alarm)
                    running += (alarm.item[1],)
                else:
                    self.ground.wheel.cancel(alarm)
            self._alarms = staying
        if state is State.TERMINATED:
            self._leave()
            return None
        if not kept:
            self.repeats = 0
        return self._set_alarms(running, now)

    def _set_alarms(self, running: Sequence[Cause], now: float) -> Cause | None:
        """Set those of the state that do not run yet; tell the one that is due at once."""
        at_once = None
        ground = self.ground
        for cause, delay in self._machine.alarms.get(self.state, {}).items():
            if cause in running:
                continue
            seconds = delay(ground.timers, self)
            if seconds == 0:
                at_once = cause
            elif seconds is not None:
                self._alarms.append(ground.wheel.set(seconds, (self, cause), now))
        return at_once

    def _leave(self) -> None:
        """Nobody finds it any more."""
        raise NotImplementedError


class ServerTransaction(Transaction):
    """A request that came in, and what we answered."""

    __slots__ = ("last_response", "origin", "reply_flow", "status")

    def __init__(
        self, ground: Ground, machine: Machine[Any, Happening], key: Sequence[str], request: Request, flow: Flow
    ) -> None:
        super().__init__(ground, machine, key, request, flow)
        port = request.reply_port
        self.reply_flow = flow if port is None else reply_flow(request, flow)
        "The way the responses go."
        self.last_response = b""
        "Bytes of the last response sent; empty before the first."
        self.status = 0
        "Status of the last response sent; 0 before the first."
        self.origin: Sequence[str] | None = None
        "Noted for merged requests."

    @property
    def final(self) -> bool:
        """Has a final response been sent?"""
        return self.status >= 200

    def shed(self) -> None:
        """Once it is answered. A 2xx is its user's to repeat, but where a predecessor may have sent it."""
        if self.final:
            super().shed()
            if self.state is State.ACCEPTED and Cause.REPEATED not in self._machine.rules[State.ACCEPTED]:
                self.last_response = b""

    def move(self, request: Request, flow: Flow) -> None:
        """The client repeated its request by another way: answer there."""
        self.flow = flow
        self.reply_flow = reply_flow(request, flow)

    def _leave(self) -> None:
        ground = self.ground
        if ground.servers.get(self.key) is self:
            del ground.servers[self.key]
        if self.origin is not None and ground.answered.origins.get(self.origin) is self.key:
            del ground.answered.origins[self.origin]


class ClientTransaction(Transaction):
    """A request that we sent. `request` has our Via on top."""

    __slots__ = ("_cancel_headers", "ack", "cancelled", "quiet", "refusal", "reserved", "status")

    def __init__(
        self, ground: Ground, machine: Machine[Any, Happening], key: Sequence[str], request: Request, flow: Flow
    ) -> None:
        super().__init__(ground, machine, key, request, flow)
        self.cancelled = False
        "Has the user wished to cancel it?"
        self.quiet = False
        "Our own CANCEL: its fate is nobody's business."
        self.reserved = False
        "The user says when a refusal is acknowledged (`layer.acknowledge`); until then its author repeats it."
        self.refusal: Response | None = None
        "The refusal that waits for that."
        self.ack = b""
        "Our ACK to its refusal, as it is sent."
        self.status = 0
        "Status of the last response; 0 before the first."
        self._cancel_headers: tuple[tuple[str, str], ...] = ()

    def shed(self) -> None:
        """Once its end is known, and the ACK made that it may take."""
        completed = self.state is State.COMPLETED and (self.ack or self.method != "INVITE")
        if completed or self.state in (State.ACCEPTED, State.TERMINATED):
            super().shed()

    def wish_cancelled(self, headers: tuple[tuple[str, str], ...]) -> None:
        self.cancelled = True
        self._cancel_headers = headers

    @property
    def cancel_headers(self) -> tuple[tuple[str, str], ...]:
        """Fields for the CANCEL, as Reason (RFC 3326)."""
        return self._cancel_headers

    def _leave(self) -> None:
        if self.ground.clients.get(self.key) is self:
            del self.ground.clients[self.key]


def reply_flow(request: Request, flow: Flow) -> Flow:
    """The way the responses go (RFC 3261 18.2.2, RFC 3581 4).

    On streams the connection. On UDP where the request came from, if rport was asked for; else to the port of the Via.
    `maddr` is not followed: nobody uses it but to aim us at others.
    """
    if flow.transport != "UDP":
        return flow
    port = request.reply_port
    return flow if port is None or port == flow.remote[1] else flow._replace(remote=(flow.remote[0], port))
