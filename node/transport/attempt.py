"""A request outside of any dialog, sent to one target after the other until somebody answers (RFC 3263 4.3).

    endpoint.request_to(uri, profile, write, then)

Each target gets a transaction and a branch of its own; the request is the same otherwise. The next one is tried after a
transport error, after a 503 (unless the profile has `disable-srv503`), after 64*T1 without an answer, and as long as
others are left already after `next-target-timeout`. INVITEs go their own way: `node/calls/retarget.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, Failure
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.transport.endpoint import Alarm, Endpoint

Then = Callable[[Response | None], None]
"Gets the final response, or None: nobody answered anywhere."


class Attempt:
    """One such request; the owner of its transactions."""

    __slots__ = ("_alarm", "_endpoint", "_flows", "_profile", "_then", "_transaction", "_write")

    def __init__(self, endpoint: Endpoint, profile: str, write: Callable[[Flow], Request], then: Then) -> None:
        self._endpoint = endpoint
        self._profile = profile
        self._write = write
        self._then: Then | None = then
        self._flows: list[Flow] = []
        self._transaction: ClientTransaction | None = None
        self._alarm: Alarm | None = None

    def on_located(self, flows: Sequence[Flow] | SipError) -> None:
        """Where it may go, best first."""
        if isinstance(flows, SipError):
            self._end(None)
        else:
            self._flows = list(flows)
            self._next()

    def hear(self, response: Response) -> None:
        """A response to it."""
        self._calm()
        routes = self._endpoint.routes
        if self._transaction is not None:
            routes.heard(response, self._transaction)
        if response.status < 200:
            return
        if self._flows and routes.passes_over(response, self._profile):
            self._next()
        else:
            self._end(response)

    def fail(self, cause: Failure) -> None:
        """Its transaction failed."""
        self._calm()
        if self._transaction is not None:
            self._endpoint.routes.unreached(self._transaction, cause)
        if self._flows:
            self._next()
        else:
            self._end(None)

    def give_up(self) -> None:
        """Nobody wants to know any more."""
        self._then = None
        self._flows.clear()
        self._calm()

    def _next(self) -> None:
        flow = self._flows.pop(0)
        if self._flows:
            self._alarm = self._endpoint.later(self._endpoint.routes.patience(self._profile), self._on_silence)
        transaction = self._transaction = self._endpoint.request(self._write(flow), flow)
        transaction.owner = self

    def _on_silence(self) -> None:
        self._alarm = None
        transaction = self._transaction
        if transaction is None or transaction.status or not self._flows:
            return
        self._endpoint.routes.unreached(transaction, "timeout")
        transaction.owner = None
        transaction.forget()
        self._next()

    def _calm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _end(self, response: Response | None) -> None:
        then, self._then = self._then, None
        self._transaction = None
        if then is not None:
            then(response)
