"""Two legs made one: what is decided about them, as pure functions from what is seen to what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from node.calls import causes
from node.calls.leg import truth

# ---- an offer inside a dialog ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfferView:
    """What is seen when a leg sends a re-INVITE or an UPDATE with an offer."""

    bridged: bool
    "There is another leg to ask."
    ours_pending: bool
    "An offer of ours to this leg has no final answer yet."
    theirs_pending: bool
    "An offer of this leg has no final answer yet, or our 2xx to it no ACK."
    partner_pending: bool
    "The other leg is in the middle of an offer or answer, in either direction."


class OfferStep(Enum):
    RELAY = auto()
    "Ask the other leg, and answer with its answer."
    ANSWER = auto()
    "Answer by ourselves: nobody is behind us."
    GLARE = auto()
    "491: try again a little later (RFC 3261 14.2, RFC 3311 5.2)."
    TOO_SOON = auto()
    "500 with Retry-After: its former offer is not through yet (RFC 3261 14.2)."


def judge_offer(view: OfferView) -> OfferStep:
    """What to do with an offer that comes in an established dialog."""
    match view:
        case OfferView(theirs_pending=True):
            return OfferStep.TOO_SOON
        case OfferView(ours_pending=True):
            return OfferStep.GLARE
        case OfferView(bridged=False):
            return OfferStep.ANSWER
        case OfferView(partner_pending=True):
            return OfferStep.GLARE
        case _:
            return OfferStep.RELAY


@dataclass(frozen=True, slots=True)
class EarlyOfferView:
    """What is seen when an UPDATE with an offer comes before the INVITE is answered (RFC 3311 5.1, 5.2)."""

    complete: bool
    "The INVITE's offer has its answer already, told reliably and acknowledged."
    ours_open: bool
    "An offer of ours has no answer yet."


def judge_early_offer(view: EarlyOfferView) -> OfferStep:
    """What to do with it."""
    match view:
        case EarlyOfferView(ours_open=True):
            return OfferStep.GLARE
        case EarlyOfferView(complete=False):
            return OfferStep.TOO_SOON
        case _:
            return OfferStep.ANSWER


def ends_dialog(status: int) -> bool:
    """Whether this answer to a request inside a dialog says that the dialog is gone (RFC 5057 5.1, RFC 3261 12.2.1.2)."""
    return status in (404, 408, 410, 416, 481, 482, 484, 485, 502, 604)


# ---- what follows -------------------------------------------------------------------------------------------------------


def goes_on_after_failure(cause: str, variables: Mapping[str, str]) -> bool:
    """Whether the caller's dialplan goes on when nobody could be reached (`switch_channel_handle_cause`)."""
    if cause == "ATTENDED_TRANSFER":
        return False
    if cause in ("NO_ANSWER", "NO_USER_RESPONSE", "ORIGINATOR_CANCEL"):
        return True
    if (wanted := variables.get("continue_on_fail")) is not None:
        return truth(wanted) or causes.listed(cause, wanted)
    if (fatal := variables.get("failure_causes")) is not None:
        return not causes.listed(cause, fatal)
    return False


def goes_on_after_bridge(variables: Mapping[str, str]) -> bool:
    """Whether the caller's dialplan goes on when the called side hangs up after they talked."""
    word = variables.get("hangup_after_bridge", "")
    return not (truth(word) or word.lower() == "explicit")


DISPOSITIONS = {
    "USER_BUSY": "BUSY",
    "NO_ANSWER": "NOANSWER",
    "NO_USER_RESPONSE": "NOANSWER",
    "ORIGINATOR_CANCEL": "CANCEL",
    "INVALID_URL": "INVALIDARGS",
    "CALL_REJECTED": "DONTCALL",
    "SUCCESS": "SUCCESS",
}


def dial_status(cause: str) -> str:
    """`DIALSTATUS`."""
    return DISPOSITIONS.get(cause, cause)


# ---- hold ----------------------------------------------------------------------------------------------------------------


def held_by(direction: str, host: str) -> bool:
    """Whether an offer of this direction and address puts the other side on hold (RFC 3264 8.4)."""
    return direction in ("sendonly", "inactive") or host in ("0.0.0.0", "::")
