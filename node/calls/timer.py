"""Session timers (RFC 4028): how long a session lasts unless refreshed, and which side refreshes it.

Each leg has its own. As in mod_sofia the callee's is refreshed by us and the caller's by the caller, unless the peer wants it
otherwise or knows no timers. What is agreed on is in the record with the moment of the last refresh, by the store's clock:
a successor refreshes, or ends the call, when its predecessor would have. Sending the refresh is in `refresh.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from node.calls.leg import Leg, truth
from node.config.profile import ProfileSettings
from node.sip.errors import SipError
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call

MINIMUM = 90
"RFC 4028 5."
BEHIND_NAT = 90
"What mod_sofia asks of a peer behind NAT: its binding must not run out unnoticed."
GRACE = 10.0
"Seconds a successor gives a peer whose refresh may have been lost with the predecessor, and is being repeated."
EXPIRED = "RECOVERY_ON_TIMER_EXPIRE"

Headers = tuple[tuple[str, str], ...]


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


# ---- what a peer asks ------------------------------------------------------------------------------------------------


def judge(request: Request, settings: ProfileSettings | None) -> None:
    """Refuse an INVITE or UPDATE with an interval below ours. Raises IntervalTooSmall."""
    text = request.header("Session-Expires")
    if text is None or settings is None or not settings.enable_timer:
        return
    interval, _refresher = parse(text)
    if interval and interval < _floor(settings):
        raise IntervalTooSmall(_floor(settings))


def parse(text: str | None) -> tuple[int, str]:
    """`1800;refresher=uac`: interval and refresher; (0, "") for none."""
    if not text:
        return 0, ""
    first, *params = [part.strip() for part in text.split(";")]
    refresher = next((part.partition("=")[2].strip().lower() for part in params if part.startswith("refresher")), "")
    return (int(first[:10]) if first.isdecimal() else 0), refresher


def granted(call: Call, leg: Leg, request: Request) -> Headers:
    """Agree with what the peer's INVITE or UPDATE says, count anew, and say so in its 2xx (RFC 4028 9)."""
    settings = call.exchange.profile(leg.profile)
    leg.session_expires, leg.session_refresher = 0, ""
    if settings is None or not settings.enable_timer:
        start(call, leg)
        return ()
    asked, refresher = parse(request.header("Session-Expires"))
    own = preferred(leg, settings)
    # The interval may be made smaller, but not below what any proxy on the way wants (RFC 4028 9).
    interval = min(asked or own, own or asked)
    if not interval:
        start(call, leg)
        return ()
    wanted = minimum_of(request)
    interval = max(interval, min(wanted, asked) if asked else wanted)
    leg.session_expires = interval
    knows = any(tag.lower() == "timer" for name in ("Supported", "Require") for tag in request.headers(name))
    theirs = refresher == "uac" if refresher else leg.direction == "inbound"
    leg.session_refresher = "them" if knows and theirs else "us"
    start(call, leg)
    value = f"{interval};refresher={'uac' if leg.session_refresher == 'them' else 'uas'}"
    return (("Session-Expires", value), *_required(leg))


def _required(leg: Leg) -> Headers:
    """RFC 4028 9: a client that is to refresh must know how."""
    automatic = truth(leg.variables.get("sip_require_timer", "true"))
    return (("Require", "timer"),) if leg.session_refresher == "them" and automatic else ()


# ---- what we ask --------------------------------------------------------------------------------------------------------


def preferred(leg: Leg, settings: ProfileSettings) -> int:
    """The interval we want for a leg; 0 for no timer."""
    variables, media = leg.variables, leg.media
    wanted = variables.get("sofia_session_timeout", "")
    if wanted.isdecimal():
        interval = int(wanted[:10])
    else:
        interval = BEHIND_NAT if leg.nat else settings.session_timeout
    if not interval or not settings.enable_timer:
        return 0
    if media is not None and "a=setup" in (media.remote_sdp or media.local_sdp):
        return 0  # DTLS would be set up anew by each re-INVITE
    return max(interval, _floor(settings))


def proposed(leg: Leg, settings: ProfileSettings | None) -> Headers:
    """What our INVITE to a new leg says: we refresh."""
    leg.session_refresher = ""
    leg.session_expires = preferred(leg, settings) if settings is not None else 0
    if not leg.session_expires or settings is None:
        return ()
    leg.session_expires = max(leg.session_expires, leg.session_minimum)
    return (("Session-Expires", f"{leg.session_expires};refresher=uac"), *_least(leg, settings))


def asking(call: Call, leg: Leg) -> Headers:
    """What our re-INVITE or UPDATE says."""
    settings = call.exchange.profile(leg.profile)
    if not leg.session_expires or settings is None:
        return ()
    who = "uac" if leg.session_refresher == "us" else "uas"
    return (("Session-Expires", f"{leg.session_expires};refresher={who}"), *_least(leg, settings))


def _least(leg: Leg, settings: ProfileSettings) -> Headers:
    least = max(leg.session_minimum, settings.minimum_session_expires)
    return (("Min-SE", str(least)),) if least else ()


def enlarge(leg: Leg, response: Response) -> bool:
    """A 422: ask for as much as it wants, if that is more than we asked for (RFC 4028 7.3)."""
    least = minimum_of(response)
    if least <= max(leg.session_expires, leg.session_minimum):
        return False
    leg.session_minimum = leg.session_expires = least
    return True


def minimum_of(message: Request | Response) -> int:
    """Min-SE of a message; 0 where there is none that can be read."""
    first = (message.header("Min-SE") or "").partition(";")[0].strip()
    return int(first[:10]) if first.isdecimal() else 0


def agreed(call: Call, leg: Leg, response: Response) -> None:
    """What a 2xx to our INVITE or UPDATE says about the session timer."""
    text = response.header("Session-Expires")
    if text is None and not leg.session_expires:
        return
    settings = call.exchange.profile(leg.profile)
    leg.session_expires, refresher = parse(text)
    leg.session_refresher = "them" if refresher == "uas" else "us"
    if settings is None or not settings.enable_timer:
        leg.session_expires = 0
    elif not leg.session_expires and (own := preferred(leg, settings)):
        # It knows no timers: whether it is still there, we ask all the same.
        leg.session_expires, leg.session_refresher = max(own, leg.session_minimum), "us"
    start(call, leg)


# ---- the clock -----------------------------------------------------------------------------------------------------------


def start(call: Call, leg: Leg) -> None:
    """Count anew from now."""
    if leg.session_expires:
        leg.session_refreshed = call.exchange.writer.store_time()
    _set(call, leg, 0.0)


def carry_on(call: Call, leg: Leg) -> None:
    """The leg belongs to this call now: its session is as old as it was."""
    _set(call, leg, 0.0)


def resume(call: Call, leg: Leg) -> None:
    """Taken over: go on counting."""
    # Calls taken over together are not refreshed in the same instant.
    _set(call, leg, random.uniform(0.0, 2.0) if leg.session_refresher == "us" else GRACE)


def _set(call: Call, leg: Leg, least: float) -> None:
    if leg.refresh is not None:
        leg.refresh.cancel()
        leg.refresh = None
    if leg.session_expires and leg.session_refresher and leg.live:
        beat = leg.session_expires / 2 if leg.session_refresher == "us" else lasts(leg)
        left = leg.session_refreshed + beat - call.exchange.writer.store_time()
        leg.refresh = call.later(max(left, least), call.on_session_due, leg)


def lasts(leg: Leg) -> float:
    """Seconds from a refresh to the moment we give the session up (RFC 4028 10)."""
    return leg.session_expires - min(32.0, leg.session_expires / 3)


def left(call: Call, leg: Leg) -> float:
    """Seconds until we give it up."""
    return leg.session_refreshed + lasts(leg) - call.exchange.writer.store_time()


def again(call: Call, leg: Leg, delay: float) -> None:
    """Refresh a little later, or find that it is too late."""
    if leg.refresh is not None:
        leg.refresh.cancel()
    leg.refresh = call.later(max(0.0, min(delay, left(call, leg))), call.on_session_due, leg)


def by_update(leg: Leg, settings: ProfileSettings | None) -> bool:
    """Whether a leg is refreshed by UPDATE: where it allows that, and nobody prefers a re-INVITE."""
    if settings is None or not settings.allow_update or "UPDATE" not in leg.variables.get("sip_allow", ""):
        return False
    wanted = leg.variables.get("sip_update_refresher") or settings.params.get("update-refresher", "true")
    return truth(wanted)


def _floor(settings: ProfileSettings) -> int:
    return max(settings.minimum_session_expires, MINIMUM)
