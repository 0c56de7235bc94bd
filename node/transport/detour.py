"""Another way for what was to go by a connection that is gone.

    by the newest connection its phone has registered by
    else, on TCP and TLS, by a new connection: a request to its next hop, a response to where the Via says (RFC 3261 18.2.2)
    else a request within a dialog waits a while for its phone to come back and register, and all others fail at once

The transport stays what it was: what went by TLS never goes by UDP, and WebSocket phones cannot be called anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from node.sip.errors import SipError, Unresolvable
from node.sip.flow import Flow
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
        if isinstance(message, Response):
            self._answer(message, data, flow, lost)
        elif flow.transport in ("WS", "WSS"):
            self._wait(message, data, flow, lost)
        else:
            self._dial(message, data, flow, lost)

    def _moved(self, data: bytes, flow: Flow, lost: Lost) -> bool:
        """The phone has registered by another connection since."""
        moved = self._roads.moved(flow) if self._roads.moved is not None else None
        if moved is None or moved.connection == flow.connection or moved.transport != flow.transport:
            return False
        return self._roads.pass_on(data, moved, lost)

    def _answer(self, response: Response, data: bytes, flow: Flow, lost: Lost) -> None:
        via = response.via
        host = numeric(via.received or via.host.strip("[]"))
        if flow.transport in ("WS", "WSS") or host is None:
            lost()
            return
        target = flow._replace(remote=(host, via.port or PORTS[flow.transport]), connection="")
        self._roads.streams.send(data, target, lost)

    def _dial(self, request: Request, data: bytes, flow: Flow, lost: Lost) -> None:
        """To the next hop: the topmost Route, or the Request-URI (RFC 3261 8.1.2), by the transport it had."""
        wait = partial(self._wait, request, data, flow, lost)

        def found(flows: list[Flow] | SipError) -> None:
            flows = [] if isinstance(flows, SipError) else [each for each in flows if each.transport == flow.transport]
            if not flows or not self._roads.pass_on(data, flows[0], wait):
                wait()

        try:
            routes = request.headers("Route")
            uri = Uri.parse(routes[0].partition("<")[2].partition(">")[0]) if routes else request.target
            if uri.scheme not in ("sip", "sips"):
                raise Unresolvable(f"{uri.scheme} leads nowhere")
            self._roads.locate(uri.with_param("transport", flow.transport.lower()), flow.profile, found)
        except SipError:
            wait()

    def _wait(self, request: Request, data: bytes, flow: Flow, lost: Lost) -> None:
        """For its phone, if there is a dialog with it."""
        if not request.to_tag or self._waiting >= WAITING:
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
