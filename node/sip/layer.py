"""The transaction layer: matches messages to transactions, runs their machines, and sends what they want sent (RFC 3261 17)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.timers import Timers

Failure = Literal["timeout", "transport"]


class ServerTransaction:
    request: Request
    flow: Flow
    "The way the request came."
    reply_flow: Flow
    "The way the responses go (RFC 3261 18.2.2, RFC 3581)."
    state: Any
    branch: str
    method: str
    owner: Any
    "Free for the transaction user."
    last_response: bytes
    "Bytes of the last response sent; empty before the first."

    @property
    def final(self) -> bool:
        """Has a final response been sent?"""
        raise NotImplementedError


class ClientTransaction:
    request: Request
    "With our Via on top."
    flow: Flow
    state: Any
    branch: str
    method: str
    owner: Any
    cancelled: bool


class TransactionUser(Protocol):
    """Who hears of what happens. Called from within receive(), wake(), request(), ...; may call the layer back at once."""

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        """A new request; without a transaction: the ACK to a 2xx."""

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        """CANCEL for this INVITE, already answered 200; answer the INVITE 487."""

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        """A provisional, a final, and each 2xx to INVITE again (forked or retransmitted)."""

    def on_failure(self, transaction: ClientTransaction, cause: Failure) -> None:
        """No final response will come."""

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        """A final failure to an INVITE was never acknowledged (timer H)."""

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        """A revived INVITE was acknowledged although we answered nothing: the predecessor had refused it already."""

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A response that matches no transaction."""

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """A CANCEL that matches no INVITE: answer its transaction 481, unless you know better."""


class TransactionLayer:
    def __init__(
        self, user: TransactionUser, *, slot_token: str, sent_by: Callable[[Flow], str], timers: Timers = Timers()
    ) -> None: ...

    def receive(self, message: Request | Response, flow: Flow, now: float) -> None:
        """A parsed message came in."""

    def wake(self, now: float) -> None:
        """The time of `next_wake` has come (or any other time)."""

    def next_wake(self) -> float | None:
        raise NotImplementedError

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        """What is to be sent now, in order; handed out once."""
        raise NotImplementedError

    def request(self, request: Request, flow: Flow, now: float) -> ClientTransaction:
        """Send a request (not ACK, not CANCEL) by a new transaction; adds the Via."""
        raise NotImplementedError

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None: ...
    def cancel(self, transaction: ClientTransaction, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Cancel an INVITE; waits by itself for a provisional. Ignored when a final response was there already."""

    def with_via(self, request: Request, flow: Flow) -> Request:
        """With a Via of ours on top, for what goes outside transactions: the ACK to a 2xx."""
        raise NotImplementedError

    def merged(self, transaction: ServerTransaction) -> bool:
        """Did the same request arrive before by another path (RFC 3261 8.2.2.2)? Then answer 482."""
        raise NotImplementedError

    def revive_server(self, request: Request, flow: Flow, last_response: bytes, now: float) -> ServerTransaction:
        """An INVITE of a predecessor that is not over: Proceeding; Accepted if the last response is a 2xx, Completed if a failure."""
        raise NotImplementedError

    def revive_client(self, request: Request, flow: Flow, now: float, *, proceeding: bool) -> ClientTransaction:
        """An INVITE (or other request) a predecessor sent; `request` bears its Via. Not `proceeding`: it is sent again at once."""
        raise NotImplementedError

    def transport_failed(self, flow: Flow, now: float) -> None:
        """What was sent on this flow did not get through: its client transactions fail, its server transactions end."""
