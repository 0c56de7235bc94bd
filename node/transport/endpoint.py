"""The endpoint of a worker: drives the transaction layer on its sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, ServerTransaction, TransactionLayer
from node.sip.message import Request, Response
from node.sip.uri import Uri


class Alarm(Protocol):
    """Something that will happen, and can be called off."""

    def cancel(self) -> None: ...


class Endpoint:
    """Owns the sockets, the resolver and the TransactionLayer of one worker."""

    layer: TransactionLayer

    def request(self, request: Request, flow: Flow) -> ClientTransaction:
        """Send a request in a transaction of its own; the layer adds our Via."""
        raise NotImplementedError

    def respond(self, transaction: ServerTransaction, response: Response) -> None:
        """Answer."""
        raise NotImplementedError

    def cancel(self, transaction: ClientTransaction, headers: Sequence[tuple[str, str]] = ()) -> None:
        """CANCEL an INVITE of ours (RFC 3261 9.1), once it has had a provisional response."""
        raise NotImplementedError

    def revive_server(self, request: Request, flow: Flow, last_response: bytes) -> ServerTransaction:
        """An INVITE transaction taken over: retransmissions are answered with `last_response` (b"" for none)."""
        raise NotImplementedError

    def revive_client(self, request: Request, flow: Flow, *, proceeding: bool) -> ClientTransaction:
        """An INVITE of the former owner: `request` with the Via it was sent with."""
        raise NotImplementedError

    def send(self, data: bytes, flow: Flow) -> None:
        """Send outside any transaction: the ACK for a 2xx, the 2xx again."""
        raise NotImplementedError

    def now(self) -> float:
        """The loop's time, which the transaction layer goes by."""
        raise NotImplementedError

    def later(self, delay: float, callback: Callable[[], None]) -> Alarm:
        """Call back once after `delay` seconds of loop time."""
        raise NotImplementedError

    def locate(self, uri: Uri, profile: str, then: Callable[[list[Flow] | SipError], None]) -> None:
        """Where a request to `uri` goes (RFC 3263), best first. Called back at once for a numeric host."""
        raise NotImplementedError

    def contact(self, profile: str, transport: str, user: str = "mod_sofia") -> str:
        """Our Contact on a profile: `<sip:mod_sofia@192.0.2.1:5060;transport=tcp>`."""
        raise NotImplementedError

    def address(self, profile: str) -> tuple[str, int]:
        """The address and port a profile names itself by: ext-sip-ip or sip-ip, and its port."""
        raise NotImplementedError
