"""Who asked: the owner of a request of ours, until nobody wants to hear of it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ClientTransaction

Then = Callable[[Leg, int, Response | None], None]


def _unheard(_leg: Leg, _status: int, _response: Response | None) -> None:
    """Nobody is there any more."""


class Asked:
    """The owner of a request of ours: who hears of its responses."""

    __slots__ = ("call", "leg", "then")

    def __init__(self, call: Call, leg: Leg, then: Then) -> None:
        self.call: Call | None = call
        self.leg = leg
        self.then = then

    def hear(self, status: int, response: Response | None) -> None:
        """A response, or none."""
        if self.call is not None:
            self.call.post(self.then, self.leg, status, response)

    def hear_refusal(self, transaction: ClientTransaction, response: Response) -> None:
        """A refusal of our INVITE. It is acknowledged when what we make of it is on record: until then it comes again."""
        if self.call is not None:
            self.call.post(self._refused, self.call, transaction, response)

    def _refused(self, call: Call, transaction: ClientTransaction, response: Response) -> None:
        call.once_stored(call.exchange.endpoint.acknowledge, transaction)
        self.then(self.leg, response.status, response)

    def forget(self) -> None:
        """Nobody wants to hear of it any more."""
        self.call = None
        self.then = _unheard
