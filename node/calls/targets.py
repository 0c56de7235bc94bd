"""The targets of one leg, called one after the other (RFC 3263 4.3): after a transport error, a 503, or silence.

The INVITE stays the same, CSeq and all; only its branch and its way are new. So a phone that both ways lead to rings
once (482, RFC 3261 8.2.2.2). Each INVITE is in the record with its way before it leaves: a successor waits for this one,
and looks up the others anew if it needs them. Who was left behind and answers after all is thanked and hung up on; who
only begins to ring is cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from node.calls.asked import Remains
from node.calls.leg import Leg
from node.sip.flow import Flow
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm


class Targets:
    """Where one leg may be called."""

    __slots__ = ("_alarm", "_call", "_leg", "flows", "known")

    def __init__(self, call: Call, leg: Leg) -> None:
        self.flows: list[Flow] = []
        "Those not tried yet, the best first."
        self.known = False
        "Have they been looked up? A successor knows only the one that its record names."
        self._call = call
        self._leg = leg
        self._alarm: Alarm | None = None

    def restart(self) -> None:
        """The leg is called somewhere else altogether."""
        self.flows = []
        self.known = False

    def add(self, flows: Iterable[Flow], besides: Flow | None = None) -> None:
        """All that was found, `besides` the one under way."""
        for flow in flows:
            tried = besides is not None and (flow.transport, flow.remote) == (besides.transport, besides.remote)
            if not tried and flow not in self.flows:
                self.flows.append(flow)
        self.known = True

    def watch(self, then: Callable[[], None]) -> None:
        """The INVITE has left: call back if nothing is heard for a while and there are others to try."""
        self.heard()
        if self.flows or not self.known:
            patience = self._call.exchange.endpoint.routes.patience(self._leg.profile)
            self._alarm = self._call.later(patience, then)

    def heard(self) -> None:
        """Something came, or nobody cares any more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def worth(self, response: Response | None) -> bool:
        """Is another target to be tried after this end of the INVITE?"""
        if not self.flows and self.known:
            return False
        return response is None or self._call.exchange.endpoint.routes.passes_over(response, self._leg.profile)

    def advance(self) -> None:
        """Go on to the next one. What the present one may still say is seen to."""
        leg, call = self._leg, self._call
        transaction = leg.transaction
        if transaction is not None and transaction.alive and not transaction.status:
            endpoint = call.exchange.endpoint
            endpoint.routes.unreached(transaction, "timeout")
            transaction.owner = Remains(leg.profile, transaction.flow)
            endpoint.cancel(transaction)
        leg.transaction = None
        leg.flow = self.flows.pop(0)
        leg.invite_cseq -= 1  # so that the INVITE is written with the number it had
