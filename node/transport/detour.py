"""Another way for what was to go by a connection that is gone.

    by the newest connection its phone has registered by
    else, on TCP and TLS, by a new connection: a request to its next hop, a response to where the Via says (RFC 3261 18.2.2,
    RFC 3263 5)
    else what belongs to a call that the phone knows waits a while for it to come back and register; the rest fails at once

A phone whose connection breaks while it rings gets the same while: it may come back and answer.

The transport stays what it was: what went by TLS never goes by UDP, and WebSocket phones cannot be called anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from node.sip.errors import SipError, Unresolvable
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, TransactionLayer
from node.sip.machine import State
from node.sip.message import Request, Response, parse
from node.sip.targets import PORTS, numeric
from node.sip.uri import Uri

if TYPE_CHECKING:
    from node.transport.streams import Streams

log = logging.getLogger(__name__)

COMES_BACK = 20.0
"Seconds that a phone in a call may take to connect and register again; its transactions last 32."
LOOK = 0.25
"Seconds between two looks whether it has."
WAITING = 5000
"Requests that may wait for their phones."

Located = Callable[[list[Flow] | SipError], None]
Lost = Callable[[], object]


class Roads(Protocol):
    """The endpoint, as far as it finds ways."""

    streams: Streams
    layer: TransactionLayer
    moved: Callable[[Flow], Flow | None] | None

    def now(self) -> float: ...
    def locate(self, uri: Uri, profile: str, then: Located) -> None: ...
    def pass_on(self, data: bytes, flow: Flow, lost: Lost) -> bool: ...


class Detour:
    """Finds other ways, and holds what waits for one."""

    def __init__(self, roads: Roads, later: Callable[..., object]) -> None:
        self._roads = roads
        self._later = later
        self._waiting = 0

    def take(self, data: bytes, flow: Flow, lost: Lost) -> None:
        """Send this by another way than `flow`, whose connection is gone; `lost` is called if there is none."""
        if self._moved(data, flow, lost):
            return
        try:
            message = parse(data)
        except SipError:
            lost()
            return
        if flow.transport in ("WS", "WSS"):
            self._wait(message, data, flow, lost)
        elif isinstance(message, Response):
            self._answer(message, data, flow, lost)
        else:
            self._dial(message, data, flow, lost)

    def ring_on(self, flow: Flow) -> None:
        """A connection is gone: phones that ring by it may come back for a while."""
        for transaction in self._roads.layer.ringing(flow):
            self._watch(transaction, self._roads.now() + COMES_BACK)

    def _watch(self, transaction: ClientTransaction, until: float) -> None:
        flow = transaction.flow
        moved = self._roads.moved(flow) if self._roads.moved is not None else None
        if transaction.state is not State.PROCEEDING or (moved is not None and moved.connection != flow.connection):
            return
        if self._roads.now() >= until:
            self._roads.layer.abandon(transaction)
        else:
            self._later(LOOK, self._watch, transaction, until)

    def _moved(self, data: bytes, flow: Flow, lost: Lost) -> bool:
        """The phone has registered by another connection since."""
        moved = self._roads.moved(flow) if self._roads.moved is not None else None
        if moved is None or moved.connection == flow.connection or moved.transport != flow.transport:
            return False
        return self._roads.pass_on(data, moved, lost)

    def _answer(self, response: Response, data: bytes, flow: Flow, lost: Lost) -> None:
        """To where the request came from; if nobody listens there, to a proxy by the name it gave itself.

        Proxies connect from addresses they do not listen on. That of a phone's own Via leads nowhere, or behind its NAT.
        """
        via = response.via
        last = partial(self._wait, response, data, flow, lost)
        if len(response.headers("Via")) > 1:
            named = Uri("sip", "", via.host, via.port)
            last = partial(self._reach, named, data, flow, last)
        host = numeric(via.received or via.host.strip("[]"))
        if host is None:
            last()
            return
        target = flow._replace(remote=(host, via.port or PORTS[flow.transport]), connection="")
        if target.remote == flow.local:
            last()  # a proxy on our own host has called us from our own address, where nobody listens but ourselves
            return
        self._roads.streams.send(data, target, last)

    def _dial(self, request: Request, data: bytes, flow: Flow, lost: Lost) -> None:
        """To the next hop: the topmost Route, or the Request-URI (RFC 3261 8.1.2), by the transport it had."""
        wait = partial(self._wait, request, data, flow, lost)
        try:
            routes = request.headers("Route")
            uri = Uri.parse(routes[0].partition("<")[2].partition(">")[0]) if routes else request.target
            if uri.scheme not in ("sip", "sips"):
                raise Unresolvable(f"{uri.scheme} leads nowhere")
        except SipError:
            wait()
        else:
            self._reach(uri, data, flow, wait)

    def _reach(self, uri: Uri, data: bytes, flow: Flow, lost: Lost) -> None:
        """To where a URI leads, by the transport that `flow` had."""

        def found(flows: list[Flow] | SipError) -> None:
            flows = [] if isinstance(flows, SipError) else [each for each in flows if each.transport == flow.transport]
            if not flows or not self._roads.pass_on(data, flows[0], lost):
                lost()

        try:
            self._roads.locate(uri.with_param("transport", flow.transport.lower()), flow.profile, found)
        except SipError:
            lost()

    def _wait(self, message: Request | Response, data: bytes, flow: Flow, lost: Lost) -> None:
        """For its phone, where that is in a call of ours."""
        if not belongs_to_a_call(message) or self._waiting >= WAITING:
            lost()
            return
        self._waiting += 1
        self._look(data, flow, lost, self._roads.now() + COMES_BACK)

    def _look(self, data: bytes, flow: Flow, lost: Lost, until: float) -> None:
        if self._moved(data, flow, lost):
            self._waiting -= 1
        elif self._roads.now() >= until:
            self._waiting -= 1
            lost()
        else:
            self._later(LOOK, self._look, data, flow, lost, until)


def belongs_to_a_call(message: Request | Response) -> bool:
    """Does the phone know the call that this is about, and is it said only once? A 2xx is repeated until it is heard."""
    if isinstance(message, Response):
        # A refusal bears the CSeq of what it refuses, which may be the reason for it.
        return message.status >= 300 and (message.header("CSeq") or "").endswith("INVITE")
    return bool(message.to_tag) or message.method == "CANCEL"
