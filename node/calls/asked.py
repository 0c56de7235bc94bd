"""Who asked: the owner of a request of ours, until nobody wants to hear of it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip.flow import Flow
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ClientTransaction

Then = Callable[[Leg, int, Response | None], None]


class Remains:
    """What is left of a leg for half a minute: what it takes to end whoever answers its INVITE after all, or again.

    A forking proxy passes on the 2xx of each phone that answers (RFC 3261 13.2.2.4).
    """

    __slots__ = ("credentials", "flow", "profile", "tags")

    def __init__(self, profile: str, flow: Flow, tag: str = "", credentials: tuple[tuple[str, str], ...] = ()) -> None:
        """`tag`: of the peer whose dialog is over."""
        self.profile = profile
        self.flow = flow
        self.tags: tuple[str, ...] = (tag,) if tag else ()
        "Of peers whose dialogs are over: they want their ACK again, and no BYE."
        self.credentials = credentials


class Asked:
    """The owner of a request of ours: who hears of its responses."""

    __slots__ = ("_leg", "call", "remains", "then")

    def __init__(self, call: Call, leg: Leg, then: Then) -> None:
        self.call: Call | None = call
        self._leg: Leg | None = leg
        self.then: Then | None = then
        self.remains: Remains | None = None

    def hear(self, status: int, response: Response | None) -> None:
        """A response, or none."""
        if self.call is not None:
            self.call.post(self._tell, status, response)

    def hear_refusal(self, transaction: ClientTransaction, response: Response) -> None:
        """A refusal of our INVITE. It is acknowledged when what we make of it is on record: until then it comes again."""
        if self.call is not None:
            self.call.post(self._refused, self.call, transaction, response)

    def _refused(self, call: Call, transaction: ClientTransaction, response: Response) -> None:
        call.once_stored(call.exchange.endpoint.acknowledge, transaction)
        self._tell(response.status, response)

    def _tell(self, status: int, response: Response | None) -> None:
        """It may have been forgotten since it was posted."""
        if self.then is not None and self._leg is not None:
            self.then(self._leg, status, response)

    def forget(self, *, remains: bool = False) -> None:
        """Nobody wants to hear of it any more; of a leg that is over something `remains`."""
        leg = self._leg
        if remains and leg is not None and leg.flow is not None:
            tag = leg.dialog.remote_tag if leg.dialog is not None and leg.answered else ""
            self.remains = Remains(leg.profile, leg.flow, tag, leg.credentials)
        self.call = self._leg = self.then = None
