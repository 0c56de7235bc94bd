"""Where a `sofia/...` target's INVITE goes, and what its URIs are (pure)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from node.calls import dial_string, invite
from node.calls.dial_string import BadDialString, SofiaTarget
from node.config.gateway import GatewaySettings
from node.config.profile import ProfileSettings
from node.registrar import binding
from node.sip.errors import SipError
from node.sip.uri import Uri

if TYPE_CHECKING:
    from node.calls.exchange import Exchange

NOWHERE = Uri("sip", "", "")


class Destination(Struct, frozen=True, kw_only=True):
    """One leg's Request-URI, way and identity; with `user` set, a user whose contact is still to be looked up."""

    profile: str
    uri: Uri = NOWHERE
    hop: Uri = NOWHERE
    "Where it is sent: the way through a NAT, an outbound proxy, the first route, or the URI itself."
    routes: tuple[str, ...] = ()
    contact: str = ""
    "The contact as a registration stores it, to find its flow by."
    to: str = ""
    "What followed `^`."
    to_field: str = ""
    from_field: str = ""
    "A gateway's own From, without its tag."
    contact_user: str = ""
    number: str = ""
    shown: str = ""
    "What follows the profile in the channel's name."
    gateway: str = ""
    username: str = ""
    password: str = ""
    user: str = ""
    domain: str = ""

    def elsewhere(self, uri: Uri) -> Destination:
        """Redirected: another URI, reached as it says itself."""
        return replace(self, uri=uri, hop=uri, routes=(), contact="")


def resolve(exchange: Exchange, arguments: str, variables: dict[str, str]) -> Destination | str:
    """Take apart what follows `sofia/`. The cause, if nobody can be called so."""
    try:
        target = dial_string.sofia(arguments)
        if target.gateway:
            return _by_gateway(exchange, target, variables)
        settings = exchange.profile(target.profile)
        if settings is None:
            return "INVALID_PROFILE"
        if not target.uri:
            domain = target.domain or settings.domain or target.profile
            return Destination(profile=settings.name, user=target.user, domain=domain)
        return _by_uri(
            target,
            settings.name,
            variables.get("sip_transport", "").lower(),
            variables.get("sip_invite_params", ""),
            variables.get("sip_invite_req_uri", ""),
            variables.get("sip_route_uri") or settings.outbound_proxy,
        )
    except (BadDialString, SipError):
        return "INVALID_URL"


@lru_cache(maxsize=4096)
def _by_uri(
    target: SofiaTarget, profile: str, transport: str, params: str, requested: str, outbound: str
) -> Destination:
    """Raises SipError. Kept, as most calls go to few places."""
    written = target.uri if target.uri.startswith(("sip:", "sips:")) else f"sip:{target.uri}"
    contact = written + target.params
    way = binding.destination(contact)
    uri = Uri.parse(way.uri)
    if transport and not uri.transport and transport != "udp":
        uri = uri.with_param("transport", transport)
    wire = invite.wire(uri)
    if params:
        wire = Uri.parse(str(wire) + invite.params(params))
    if requested:
        wire = Uri.parse(requested.strip("<>"))
    routes = way.routes
    hop = _through_nat(Uri.parse(way.hop)) if way.hop else uri
    if routes:
        hop = Uri.parse(routes[0].strip("<>"))
    if outbound and not way.hop:
        hop = Uri.parse(outbound if outbound.startswith("sip") else f"sip:{outbound}")
        routes = (f"<{hop.with_param('lr', None) if hop.param('lr') is None else hop}>", *routes)
    return Destination(
        profile=profile,
        uri=wire,
        hop=hop,
        routes=routes,
        contact=contact,
        to=target.to,
        number=wire.user,
        shown=f"{wire.user}@{wire.host_port}" if wire.user else wire.host_port,
    )


def _through_nat(hop: Uri) -> Uri:
    """The hole that a phone's datagrams have made takes nothing else."""
    return hop if hop.transport or hop.secure else hop.with_param("transport", "udp")


def _by_gateway(exchange: Exchange, target: SofiaTarget, variables: dict[str, str]) -> Destination | str:
    found = _gateway(exchange, target)
    if found is None:
        return "INVALID_GATEWAY"
    settings, gateway = found
    for name, value in gateway.outbound_variables.items():
        variables.setdefault(name, value)
    number, _, host = target.uri.partition("@")
    proxy = Uri.parse(f"sip:{gateway.destination_prefix}{number}@{host or gateway.proxy}{target.params}")
    uri = invite.wire(proxy)
    transport = gateway.transport.lower()
    if transport not in ("", "udp") and not uri.transport:
        uri = uri.with_param("transport", transport)
    hop, routes = uri, ()
    if gateway.outbound_proxy:
        hop = Uri.parse(f"sip:{gateway.outbound_proxy.removeprefix('sip:')}")
    from_user = gateway.from_user or gateway.username
    domain = gateway.from_domain or gateway.realm or gateway.proxy
    if gateway.caller_id_in_from:
        variables.setdefault("sip_invite_domain", domain)
    return Destination(
        profile=settings.name,
        uri=uri,
        hop=hop,
        routes=routes,
        to=target.to,
        from_field="" if gateway.caller_id_in_from else f"<sip:{from_user}@{domain}>",
        contact_user=f"gw+{gateway.name}",
        number=number,
        shown=number,
        gateway=gateway.name,
        username=gateway.auth_username or gateway.username,
        password=gateway.password,
    )


def _gateway(exchange: Exchange, target: SofiaTarget) -> tuple[ProfileSettings, GatewaySettings] | None:
    """A gateway by name, of the profile that was named or of any."""
    for settings in exchange.configuration.profiles.values():
        if target.profile and target.profile != settings.name and target.profile not in settings.aliases:
            continue
        for gateway in settings.gateways:
            if gateway.name == target.gateway:
                return settings, gateway
    return None
