"""Challenges to requests of ours: answered with a leg's own credentials, and only towards whom they are meant for.

Anybody we talk to may challenge a BYE or a re-INVITE, and an answer is all it takes to try passwords on at leisure. So a
leg answers only at an address that its own destination resolves to (or, for a gateway, one that its `gw-auth-acl` lets
pass), never where a redirection or the peer's Contact led us, and never one that has called us.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import refresh
from node.calls.asked import Then
from node.calls.destination import Destination, resolve
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.config import acl
from node.config.gateway import GatewaySettings
from node.events import Event
from node.sip import keyring
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.keyring import Headers, Key, Keyring
from node.sip.message import Request, Response
from node.sip.uri import Uri

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

Answered = Callable[[Headers | None], None]


def hearing(call: Call, leg: Leg, request: Request, then: Then, answers: int = 0) -> Then:
    """`then` for a request of ours in a dialog; where the leg may answer a challenge, `then` hears of what follows it."""
    if leg.direction == "inbound" and not leg.gateway:
        return then
    return partial(_hear, call, request, then, answers)


def _hear(
    call: Call, request: Request, then: Then, answers: int, leg: Leg, status: int, response: Response | None
) -> None:
    if status not in (401, 407) or response is None:
        then(leg, status, response)
        return

    def answered(credentials: Headers | None) -> None:
        if credentials is None or leg.flow is None or _taken_back(leg, request):
            then(leg, status, response)
        else:
            _ask_again(call, leg, request, credentials, then, answers + 1)

    answer(call, leg, request, response, answered, answers)


def _ask_again(call: Call, leg: Leg, request: Request, credentials: Headers, then: Then, answers: int) -> None:
    assert leg.flow is not None
    repeated = keyring.again(request, credentials, _next_cseq(leg, request))
    if request.method != "INVITE":
        call.ask(leg, repeated, then, answers)
        return
    leg.credentials = tuple(credentials)
    if leg.variables.get(refresh.SWAPPED) == str(request.cseq.number):
        leg.variables[refresh.SWAPPED] = str(repeated.cseq.number)
    call.send_written(leg, repeated, then, answers)


def _taken_back(leg: Leg, request: Request) -> bool:
    return request.method == "INVITE" and (not leg.live or leg.pending is None or leg.pending.cancelled)


def _next_cseq(leg: Leg, request: Request) -> int:
    dialog = leg.dialog
    # Either way round: with `sip_recovery_break_rfc` From and To change places.
    if dialog is None or {request.from_tag, request.to_tag} != {dialog.local_tag, dialog.remote_tag}:
        return request.cseq.number + 1
    dialog.cseq += 1
    return dialog.cseq


# ---- who may ask -------------------------------------------------------------------------------------------------------


def answer(
    call: Call,
    leg: Leg,
    request: Request,
    response: Response,
    then: Answered,
    answers: int = 0,
    *,
    flow: Flow | None = None,
) -> None:
    """Find the credentials to send this request of the leg again with; None where they are not to be given.

    At once where the destination is numeric, else when it is resolved. `flow`: the way the request went, if that is not
    the leg's own.
    """
    exchange, flow = call.exchange, flow or leg.flow
    destination, gateway = _destination(exchange, leg), _gateway(exchange, leg)
    keys = _keys(exchange, leg, destination, gateway)
    if flow is None or not keys or (destination is None and gateway is None):
        then(None)
        return

    def known(*, meant: bool) -> None:
        if not meant:
            _tell_stranger(call, leg, gateway, flow, response)
            then(None)
            return
        if leg.keyring is None:
            leg.keyring = Keyring(keys)
        then(leg.keyring.answer(request, response, answers))

    listed = _listed(exchange, gateway, flow)
    if listed is not None:
        known(meant=listed)
        return
    _Search(call, leg.profile, _hops(destination, gateway), flow, known).next()


class _Search:
    """Whether the address of a flow is one that some URIs resolve to, one after the other."""

    def __init__(self, call: Call, profile: str, hops: list[Uri], flow: Flow, then: Callable[..., None]) -> None:
        self._call, self._profile, self._hops, self._flow, self._then = call, profile, hops, flow, then

    def next(self) -> None:
        if not self._hops:
            self._then(meant=False)
            return
        found = partial(self._call.post, self._on_found)
        self._call.exchange.endpoint.locate(self._hops.pop(0), self._profile, found)

    def _on_found(self, flows: list[Flow] | SipError) -> None:
        here = self._flow.remote[0]
        if not isinstance(flows, SipError) and any(each.remote[0] == here for each in flows):
            self._then(meant=True)
        else:
            self.next()


def _destination(exchange: Exchange, leg: Leg) -> Destination | None:
    """Whom the leg was to reach before anybody sent it elsewhere; None for one that called us."""
    dialed = leg.variables.get("sip_dialed")
    if leg.direction == "inbound" or not dialed:
        return None
    found = resolve(exchange, dialed, dict(leg.variables))
    return found if isinstance(found, Destination) and not found.user else None


def _gateway(exchange: Exchange, leg: Leg) -> GatewaySettings | None:
    """The leg's own, or the one whose credentials it is to use."""
    name = leg.gateway or leg.variables.get("sip_use_gateway", "")
    profiles = exchange.configuration.profiles.values() if name else ()
    return next((each for settings in profiles for each in settings.gateways if each.name == name), None)


def _keys(exchange: Exchange, leg: Leg, destination: Destination | None, gateway: GatewaySettings | None) -> list[Key]:
    """mod_sofia's order: the leg's variables, the gateway's, what the directory says of the user we called."""
    variables = leg.variables
    username, password = variables.get("sip_auth_username", ""), variables.get("sip_auth_password", "")
    if username and password:
        return [Key(username, password)]
    if gateway is not None:
        return [Key(username or gateway.auth_username or gateway.username, password or gateway.password)]
    if destination is None:
        return []
    called = variables.get("dialed_user") or destination.uri.user
    user = exchange.directory.find(called, variables.get("dialed_domain") or destination.uri.host)
    if user is None or not user.params.get("reverse-auth-user"):
        return []
    return [Key(user.params.get("reverse-auth-user"), user.params.get("reverse-auth-pass"))]


def _hops(destination: Destination | None, gateway: GatewaySettings | None) -> list[Uri]:
    """Where the credentials are meant for."""
    hops = [destination.hop] if destination is not None else []
    if gateway is not None:
        for text in (gateway.proxy, gateway.register_proxy, gateway.outbound_proxy):
            with contextlib.suppress(SipError):
                if text:
                    hops.append(Uri.parse(f"sip:{text.removeprefix('sip:')}"))
    return list(dict.fromkeys(hops))


def _listed(exchange: Exchange, gateway: GatewaySettings | None, flow: Flow) -> bool | None:
    """What `gw-auth-acl` says of the address; None where there is none."""
    if gateway is None or not gateway.auth_acl:
        return None
    return acl.check(exchange.configuration.acl, gateway.auth_acl, flow.remote[0])[0]


def _tell_stranger(call: Call, leg: Leg, gateway: GatewaySettings | None, flow: Flow, response: Response) -> None:
    realms = ", ".join(keyring.challenged_realms(response))
    log.warning(
        "call %s: %s asks for credentials (realm %s) that are not meant for it", call.uuid, flow.remote[0], realms
    )
    events = call.exchange.events
    if gateway is not None and events.wanted("sofia::gateway_invalid_digest_req"):
        headers = [("Gateway", gateway.name), ("profile-name", leg.profile), ("realm", realms)]
        events.fire(Event(name="CUSTOM", subclass="sofia::gateway_invalid_digest_req", headers=headers))
