"""State machines as tables: states, causes, rules, and the alarms that belong to states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

from node.sip.timers import Timers


class State(StrEnum):
    """Of RFC 3261 17 and RFC 6026. Trying of an INVITE server: nothing was answered yet. Cancelling: CANCEL is sent."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    CANCELLING = "cancelling"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Cause(StrEnum):
    """What can happen to a transaction."""

    # A response: received by a client, sent by the user of a server.
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    # A request received by a server.
    REPEATED = "request again"
    ACK = "ACK"
    # Received by a server, wished by the user of a client.
    CANCEL = "CANCEL"
    # Alarms.
    RESEND = "resend"
    HURRY = "hurry"
    GIVE_UP = "give up"
    SETTLED = "settled"
    # The transport says so.
    BROKEN = "transport error"


T = TypeVar("T")
M = TypeVar("M")
Action = Callable[[T, M, float], None]
Delay = Callable[[Timers, T], float | None]
"Seconds until the alarm; None: not needed here; 0: at once, when the rule's actions are done."
Rule = tuple[State, tuple[Action[T, M], ...]]


@dataclass(frozen=True, slots=True)
class Machine(Generic[T, M]):
    """A table. A cause without a rule is ignored.

    Entering a state sets its alarms, leaving it drops them; one that both states have, by the same rule, goes on
    running. One that went off without a change of state is set again.
    """

    start: State
    rules: Mapping[State, Mapping[Cause, Rule[T, M]]]
    alarms: Mapping[State, Mapping[Cause, Delay[T]]]
    shared: Mapping[tuple[State, State], frozenset[Cause]] = field(init=False, repr=False)
    "Alarms that go on running from one state to another."

    def __post_init__(self) -> None:
        shared = {
            (old, new): frozenset(cause for cause, delay in before.items() if after.get(cause) is delay)
            for old, before in self.alarms.items()
            for new, after in self.alarms.items()
        }
        object.__setattr__(self, "shared", {pair: causes for pair, causes in shared.items() if causes})
