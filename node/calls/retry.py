"""What an INVITE of ours that came to nothing is tried again with: another place, credentials, another flow, the next target."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from node.calls import causes, challenged, flows
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.keyring import Headers
from node.sip.message import Request, Response, parse

if TYPE_CHECKING:
    from node.calls.attempts import Attempt
    from node.calls.dial import Dialing

MAXIMUM_REDIRECTS = 5


def redirect(dialing: Dialing, attempt: Attempt, response: Response) -> bool:
    """Follow a 3xx to its best contact (RFC 3261 8.1.3.4)."""
    leg = attempt.leg
    contacts = sorted(response.contacts, key=lambda contact: -contact.q)
    if attempt.redirects >= MAXIMUM_REDIRECTS or not contacts or leg.is_true("outbound_redirect_fatal"):
        dialing.give_up(attempt, "REQUESTED_CHAN_UNAVAIL", response.status)
        return True
    if attempt.destination is None:
        return False
    attempt.redirects += 1
    uri = contacts[0].uri
    for one in (leg, dialing.caller):
        if one is not None:
            one.variables["sip_redirected_to"] = f"<{uri}>"
            one.variables["sip_redirect_contact_user_0"] = uri.user
            one.variables["sip_redirect_contact_host_0"] = uri.host
    attempt.destination = attempt.destination.elsewhere(uri)
    attempt.targets.restart()
    dialing.locate(attempt)
    return True


def other_flow(dialing: Dialing, attempt: Attempt) -> bool:
    """A phone with several flows (RFC 5626): by another one, if there is one left."""
    found = flows.other(dialing.call, attempt.leg, attempt.destination)
    if found is None:
        return False
    attempt.destination = found
    attempt.targets.restart()
    dialing.locate(attempt)
    return True


# ---- challenges ----------------------------------------------------------------------------------------------------------


def authorize(dialing: Dialing, attempt: Attempt, response: Response) -> bool:
    """Answer a challenge, if the leg has credentials that are meant for who asks."""
    leg = attempt.leg
    if leg.pending is None:
        return False
    request = parse(leg.pending.request)
    assert isinstance(request, Request)
    then = partial(_on_credentials, dialing, attempt, response)
    challenged.answer(dialing.call, leg, request, response, then, attempt.answers)
    return True


def _on_credentials(dialing: Dialing, attempt: Attempt, response: Response, credentials: Headers | None) -> None:
    if not dialing.active(attempt):
        return
    if credentials is None:
        dialing.give_up(attempt, causes.from_status(response.status), response.status)
        return
    attempt.answers += 1
    dialing.send(attempt, credentials=tuple(credentials))


# ---- the next target -----------------------------------------------------------------------------------------------------


def try_next(dialing: Dialing, attempt: Attempt, status: int = 0, response: Response | None = None) -> None:
    """The next target. With a status it replaces an INVITE that failed, without one an INVITE nobody answers."""
    targets, destination = attempt.targets, attempt.destination
    if not dialing.active(attempt):
        return
    if not targets.known and destination is not None:
        found = partial(dialing.call.post, _on_located_again, dialing, attempt, status, response)
        dialing.call.exchange.endpoint.locate(destination.hop, destination.profile, found)
    elif targets.flows:
        targets.advance()
        attempt.answers = 0
        dialing.send(attempt)
    elif status:
        dialing.refused(attempt, status, response)


def _on_located_again(
    dialing: Dialing, attempt: Attempt, status: int, response: Response | None, found: list[Flow] | SipError
) -> None:
    """A predecessor chose the target; here are the others there may be."""
    attempt.targets.add(() if isinstance(found, SipError) else found, attempt.leg.flow)
    if status or attempt.leg.pending is None or not attempt.leg.pending.response:
        try_next(dialing, attempt, status, response)
