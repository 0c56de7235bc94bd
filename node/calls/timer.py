"""Session timers (RFC 4028), as little of them as a peer may insist on.

The peer refreshes where it can. If we must, it is done by an UPDATE or re-INVITE at half time with what was said last; if the
peer must and does not, the call ends shortly before the session would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.sip.errors import SipError
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call

MINIMUM = 90
"RFC 4028 5."


class IntervalTooSmall(SipError):
    """RFC 4028 6."""

    status = 422
    reason = "Session Interval Too Small"

    def __init__(self, minimum: int) -> None:
        super().__init__(f"session interval below {minimum}")
        self.minimum = minimum

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Min-SE", str(self.minimum))]


def wanted(request: Request, minimum: int) -> tuple[int, str]:
    """Interval and refresher (`uac`, `uas` or empty) that a request asks for; (0, "") for none. Raises IntervalTooSmall."""
    text = request.header("Session-Expires")
    interval, refresher = parse(text)
    if not interval:
        return 0, ""
    if interval < max(minimum, MINIMUM):
        raise IntervalTooSmall(max(minimum, MINIMUM))
    return interval, refresher


def parse(text: str | None) -> tuple[int, str]:
    """`1800;refresher=uac`."""
    if not text:
        return 0, ""
    first, *params = [part.strip() for part in text.split(";")]
    refresher = next((part.partition("=")[2].strip().lower() for part in params if part.startswith("refresher")), "")
    return (int(first) if first.isdigit() else 0), refresher


def arrive(call: Call, leg: Leg, request: Request, minimum: int) -> None:
    """A caller's wish for a session timer. Raises IntervalTooSmall."""
    interval, refresher = wanted(request, minimum)
    if not interval:
        return
    supported = any(tag.lower() == "timer" for tag in request.headers("Supported"))
    leg.session_expires = interval
    leg.session_refresher = "them" if supported and refresher != "uas" else "us"
    start(call, leg)


def refreshed(call: Call, leg: Leg, request: Request) -> tuple[tuple[str, str], ...]:
    """The peer refreshed the session: start anew, and what to answer."""
    interval, refresher = parse(request.header("Session-Expires"))
    if not interval:
        return ()
    leg.session_expires = interval
    leg.session_refresher = "us" if refresher == "uas" else "them"
    start(call, leg)
    who = "uas" if leg.session_refresher == "us" else "uac"
    return (("Require", "timer"), ("Session-Expires", f"{interval};refresher={who}"))


def asking(leg: Leg) -> tuple[tuple[str, str], ...]:
    """What our own re-INVITE says about the session timer."""
    if not leg.session_expires:
        return ()
    who = "uac" if leg.session_refresher == "us" else "uas"
    return (("Session-Expires", f"{leg.session_expires};refresher={who}"),)


def agreed(call: Call, leg: Leg, response: Response) -> None:
    """What a 2xx to our INVITE or UPDATE says about the session timer."""
    interval, refresher = parse(response.header("Session-Expires"))
    leg.session_expires = interval
    leg.session_refresher = ("them" if refresher == "uas" else "us") if interval else ""
    start(call, leg)


def start(call: Call, leg: Leg) -> None:
    """Count anew from now."""
    if leg.refresh is not None:
        leg.refresh.cancel()
        leg.refresh = None
    if not leg.session_expires or not leg.live:
        return
    if leg.session_refresher == "us":
        leg.refresh = call.later(leg.session_expires / 2, call.refresh_session, leg)
    else:
        # RFC 4028 10: BYE by min(32 s, a third) before the session expires.
        margin = min(32.0, leg.session_expires / 3)
        leg.refresh = call.later(leg.session_expires - margin, _expired, call, leg)


def _expired(call: Call, leg: Leg) -> None:
    leg.refresh = None
    if leg.live:
        call.end("RECOVERY_ON_TIMER_EXPIRE")
