"""Who asked: the owner of a request of ours, until nobody wants to hear of it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call

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

    def forget(self) -> None:
        """Nobody wants to hear of it any more."""
        self.call = None
        self.then = _unheard
