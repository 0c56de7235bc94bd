"""What is shown of profiles, gateways and registrations: gathered from workers, store and configuration, then printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from node.config.gateway import GatewaySettings
from node.config.profile import ProfileSettings, bracketed
from node.console.site import Site
from store.records import Registration


@dataclass(frozen=True, slots=True)
class Counters:
    """Of a profile, all its workers together."""

    in_use: int = 0
    calls_in: int = 0
    failed_calls_in: int = 0
    calls_out: int = 0
    failed_calls_out: int = 0

    @classmethod
    def sum(cls, answers: Iterable[Any]) -> Counters:
        totals = dict.fromkeys(cls.__dataclass_fields__, 0)
        for answer in answers:
            for name in totals:
                totals[name] += int(answer.get(name, 0)) if isinstance(answer, dict) else 0
        return cls(**totals)


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A gateway, and how it stands. One that does not register is always up."""

    settings: GatewaySettings
    profile: ProfileSettings
    state: str
    status: str

    @property
    def proxy(self) -> str:
        return "sip:" + (self.settings.proxy or self.settings.realm or self.settings.name).removeprefix("sip:")

    @property
    def register_to(self) -> str:
        return f"sip:{self.settings.username}@{self.proxy.removeprefix('sip:')}"

    @property
    def sender(self) -> str:
        user = self.settings.from_user or self.settings.username
        return f"<sip:{user}@{self.settings.from_domain or self.proxy.removeprefix('sip:')}>"

    @property
    def contact(self) -> str:
        one = self.settings
        user = one.extension if one.extension_in_contact and one.extension else f"gw+{one.name}"
        host = self.profile.sip_ip if one.contact_host == "sip-ip" else one.contact_host or self.profile.public_ip
        port = self.profile.tls_sip_port if one.transport == "tls" else self.profile.public_port
        params = f"{one.contact_params.strip(';')};" if one.contact_params else ""
        return f"<sip:{user}@{bracketed(host)}:{port};{params}transport={one.transport};gw={one.name}>"


def gateways_of(profile: ProfileSettings) -> list[GatewayView]:
    """The newest first, as mod_sofia keeps them."""
    return [
        GatewayView(one, profile, *(("UNREGED", "DOWN") if one.register else ("NOREG", "UP")))
        for one in reversed(profile.gateways)
    ]


async def running_profiles(site: Site) -> list[ProfileSettings]:
    """Those that run, in the order of the configuration."""
    states = await site.profile_states()
    return [
        profile
        for name, profile in site.configuration.profiles.items()
        if (state := states.get(name)) is not None and state.running
    ]


async def find_profile(site: Site, name: str) -> ProfileSettings | None:
    """A running profile by its name or an alias, case and all."""
    found = site.configuration.profile(name)
    if found is None:
        return None
    state = (await site.profile_states()).get(found.name)
    return found if state is not None and state.running else None


async def running_gateways(site: Site) -> list[GatewayView]:
    return [gateway for profile in await running_profiles(site) for gateway in gateways_of(profile)]


async def find_gateway(site: Site, name: str) -> GatewayView | None:
    """By `name` or `profile::name`, among those of running profiles."""
    for gateway in await running_gateways(site):
        if name in (gateway.settings.name, f"{gateway.profile.name}::{gateway.settings.name}"):
            return gateway
    return None


async def counters(site: Site, profile: str) -> Counters:
    return Counters.sum(await site.workers.ask_all("profile", [profile]))


# ---- the facts of a profile, in the order of `sofia status profile` -------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: its label in text, its element in XML and JSON, its value."""

    label: str
    element: str
    value: str


def yes(value: bool) -> str:
    return "true" if value else "false"


def describe(profile: ProfileSettings, typed: str) -> Iterator[Fact]:
    """Who the profile is and where it listens: the part that JSON has too."""
    yield Fact("Domain Name", "domain-name", profile.domain or "N/A")
    if typed.lower() != profile.name.lower():
        yield Fact("Alias Of", "alias-of", profile.name)
    yield Fact("Auto-NAT", "auto-nat", yes(profile.auto_nat))
    yield Fact("DBName", "db-name", profile.dbname or f"sofia_reg_{profile.name}")
    yield Fact("Pres Hosts", "pres-hosts", profile.presence_hosts)
    yield Fact("Dialplan", "dialplan", profile.dialplan)
    yield Fact("Context", "context", profile.context)
    yield Fact("Challenge Realm", "challenge-realm", profile.challenge_realm or "auto_to")
    for address in sorted(profile.rtp_ips or (profile.rtp_ip,), key=lambda text: ":" in text):
        yield Fact("RTP-IP", "rtp-ip", address)
    if profile.ext_rtp_ip:
        yield Fact("Ext-RTP-IP", "ext-rtp-ip", profile.ext_rtp_ip)
    yield Fact("SIP-IP", "sip-ip", profile.sip_ip)
    if profile.external_ip:
        yield Fact("Ext-SIP-IP", "ext-sip-ip", profile.external_ip)
    yield from _urls(profile)
    yield Fact("HOLD-MUSIC", "hold-music", profile.hold_music or "N/A")
    yield Fact("OUTBOUND-PROXY", "outbound-proxy", profile.outbound_proxy or "N/A")


def _urls(profile: ProfileSettings) -> Iterator[Fact]:
    if not (profile.tls and profile.tls_only):
        yield Fact("URL", "url", profile.url)
        yield Fact("BIND-URL", "bind-url", profile.bind_url)
    if profile.tls:
        yield Fact("TLS-URL", "tls-url", profile.tls_url)
        yield Fact("TLS-BIND-URL", "tls-bind-url", profile.tls_bind_url)
    for name, url in web_socket_urls(profile).items():
        yield Fact(f"{name}-BIND-URL", f"{name.lower()}-bind-url", url)


def web_socket_urls(profile: ProfileSettings) -> dict[str, str]:
    bindings = {"WS": ("sip", profile.ws_binding), "WSS": ("sips", profile.wss_binding)}
    return {
        name: f"{scheme}:{profile.contact_user}@{bracketed(one.host or profile.sip_ip)}:{one.port};transport={name.lower()}"
        for name, (scheme, one) in bindings.items()
        if one is not None
    }


def behaviour(profile: ProfileSettings) -> Iterator[Fact]:
    yield Fact("CODECS IN", "inbound-codecs", ",".join(profile.inbound_codec_prefs))
    yield Fact("CODECS OUT", "outbound-codecs", ",".join(profile.outbound_codec_prefs))
    yield Fact("TEL-EVENT", "tel-event", str(profile.rfc2833_pt))
    yield Fact("DTMF-MODE", "dtmf-mode", profile.dtmf_type)
    yield Fact("CNG", "cng", "0" if profile.suppress_cng else str(profile.cng_pt))
    yield Fact("SESSION-TO", "session-to", str(profile.session_timeout))
    yield Fact("MAX-DIALOG", "max-dialog", str(profile.max_proceeding))
    yield Fact("MAX-RECV-RPS", "max-recv-rps", str(profile.max_recv_requests_per_second))
    yield Fact("NOMEDIA", "nomedia", yes(profile.inbound_bypass_media))
    yield Fact("LATE-NEG", "late-neg", yes(profile.inbound_late_negotiation))
    yield Fact("PROXY-MEDIA", "proxy-media", yes(profile.inbound_proxy_media))
    yield Fact("AGGRESSIVENAT", "aggressive-nat", yes(profile.aggressive_nat_detection))
    if profile.user_agent_filter:
        yield Fact("USER-AGENT-FILTER", "user-agent-filter", profile.user_agent_filter)
    if profile.max_registrations_per_extension > 0:
        number = str(profile.max_registrations_per_extension)
        yield Fact("MAX-REG-PEREXT", "max-registrations-per-extension", number)


# ---- registrations -------------------------------------------------------------------------------------------------


def select(rows: Iterable[Registration], word: str, argument: str) -> list[Registration] | None:
    """The rows of `reg [contact]`, `pres hosts`, `user [user]@domain`; None where nothing is to be listed."""
    match word.lower():
        case "reg":
            return [row for row in rows if argument in row.contact]
        case "pres" if argument:
            return [row for row in rows if argument in row.presence_hosts]
        case "user" if argument:
            user, at, host = argument.rpartition("@")
            return (
                [row for row in rows if (not user or row.sip_user == user) and (row.sip_host == host or not host)]
                if (at)
                else [row for row in rows if row.sip_host == argument]
            )
    return None


def url_of(contact: str) -> str:
    """What stands inside the angle brackets of a stored contact."""
    start, end = contact.find("<"), contact.rfind(">")
    return contact[start + 1 : end] if 0 <= start < end else contact
