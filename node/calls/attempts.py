"""What is known of the legs that are being called: each by itself, and the part of a dial string that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.destination import Destination
from node.calls.dial_string import DialString, Group
from node.calls.leg import Leg
from node.calls.targets import Targets

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm


class Part:
    """One part of a dial string, with the group that is being tried."""

    __slots__ = ("alarm", "groups", "left", "tried", "variables")

    def __init__(self, string: DialString) -> None:
        self.groups: list[Group] = list(string.groups)
        self.variables = string.variables
        self.tried = 0
        "Groups begun."
        self.left = 0
        "Legs of this group that have not failed."
        self.alarm: Alarm | None = None

    def stop(self) -> None:
        """Its time is not measured any more."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None


class Attempt:
    """One leg being called."""

    __slots__ = ("alarm", "answers", "destination", "leg", "part", "progress_alarm", "redirects", "targets")

    def __init__(self, call: Call, leg: Leg, part: Part | None) -> None:
        self.leg = leg
        self.part = part
        self.destination: Destination | None = None
        self.targets = Targets(call, leg)
        self.answers = 0
        "How many challenges were answered."
        self.redirects = 0
        self.alarm: Alarm | None = None
        self.progress_alarm: Alarm | None = None

    def progressed(self) -> None:
        """It rings: only how long is measured from now on."""
        if self.progress_alarm is not None:
            self.progress_alarm.cancel()
            self.progress_alarm = None

    def stop(self) -> None:
        """Its time is not measured any more."""
        self.progressed()
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
