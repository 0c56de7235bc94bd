"""`sofia xmlstatus` and `sofia jsonstatus`: the same facts for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from node.config.profile import ProfileSettings
from node.console.format import amp_encode, local_time, pretty, url_encode
from node.console.registry import words
from node.console.site import Site
from node.console.view import (
    Counters,
    GatewayView,
    behaviour,
    counters,
    describe,
    find_gateway,
    find_profile,
    gateways_of,
    running_gateways,
    running_profiles,
    select,
    web_socket_urls,
)
from store.records import Registration

PROLOG = '<?xml version="1.0" encoding="ISO-8859-1"?>\n'


async def xmlstatus(site: Site, rest: str) -> str:
    match words(rest):
        case []:
            rows = [(profile, (await counters(site, profile.name)).in_use) for profile in await running_profiles(site)]
            return profile_list(rows)
        case [_]:
            gateways = await running_gateways(site)
            return PROLOG + "<gateways>\n" + "".join(gateway_element(one) for one in gateways) + "</gateways>\n"
        case [what, name, *_] if what.lower() == "gateway":
            gateway = await find_gateway(site, name)
            return "Invalid Gateway!\n" if gateway is None else PROLOG + gateway_element(gateway)
        case [what, name, *more] if what.lower() == "profile":
            return await _profile(site, name, more)
    return "Invalid Syntax!\n"


def profile_list(profiles: Iterable[tuple[ProfileSettings, int]]) -> str:
    parts = [PROLOG, "<profiles>\n"]
    for profile, in_use in profiles:
        state = f"RUNNING ({in_use})"
        if not (profile.tls and profile.tls_only):
            parts.append(_item("profile", profile.name, profile.url, state))
        if profile.tls:
            parts.append(_item("profile", profile.name, profile.tls_url, f"{state} (TLS)"))
        for kind, url in web_socket_urls(profile).items():
            parts.append(_item("profile", profile.name, url, f"{state} ({kind})"))
        for gateway in gateways_of(profile):
            # The empty line stands where mod_sofia prints the retry time, outside of the element.
            parts.append(_item("gateway", gateway.settings.name, gateway.register_to, gateway.state) + "\n")
        parts += [_item("alias", alias, profile.name, "ALIASED") for alias in profile.aliases]
    parts.append("</profiles>\n")
    return "".join(parts)


def _item(kind: str, name: str, value: str, state: str) -> str:
    return (
        f"<{kind}>\n<name>{amp_encode(name)}</name>\n<type>{kind}</type>\n<data>{amp_encode(value)}</data>\n"
        f"<state>{state}</state>\n</{kind}>\n"
    )


def gateway_element(one: GatewayView) -> str:
    settings = one.settings
    facts = [
        ("name", settings.name),
        ("profile", one.profile.name),
        ("scheme", settings.params.get("scheme", "Digest")),
        ("realm", settings.realm or settings.proxy),
        ("username", settings.username),
        ("password", "yes" if settings.password else "no"),
        ("from", one.sender),
        ("contact", one.contact),
        ("exten", settings.extension or settings.username),
        ("to", one.register_to),
        ("proxy", one.proxy),
        ("context", settings.context or one.profile.context),
        ("expires", str(settings.expire_seconds)),
        ("freq", str(settings.expire_seconds)),
        ("ping", "0"),
        ("pingfreq", str(settings.ping)),
        ("pingmin", str(settings.ping_min if settings.ping else 0)),
        ("pingcount", "0"),
        ("pingmax", str(settings.ping_max if settings.ping else 0)),
        ("pingtime", "0.00"),
        ("pinging", "0"),
        ("state", one.state),
        ("status", one.status),
        ("uptime-usec", "0"),
        ("calls-in", "0"),
        ("calls-out", "0"),
        ("failed-calls-in", "0"),
        ("failed-calls-out", "0"),
    ]
    lines = [f"    <{element}>{amp_encode(value)}</{element}>\n" for element, value in facts]
    return "  <gateway>\n" + "".join(lines) + "  </gateway>\n"


async def _profile(site: Site, name: str, more: Sequence[str]) -> str:
    profile = await find_profile(site, name)
    if profile is None:
        return "Invalid Profile!\n"
    rows = await site.registrations(profile.name)
    word, argument = (*more, "", "")[:2]
    parts = [PROLOG, "<profile>\n"]
    if word.lower() not in ("reg", "user"):
        parts.append(profile_info(profile, name, await counters(site, profile.name), len(rows)))
    chosen = select(rows, word, argument)
    if chosen is not None:
        parts.append(registrations(chosen, site.now()))
    parts.append("</profile>\n")
    return "".join(parts)


def profile_info(profile: ProfileSettings, typed: str, numbers: Counters, registered: int) -> str:
    facts = [("name", typed)]
    facts += [(fact.element, fact.value) for fact in (*describe(profile, typed), *behaviour(profile))]
    facts += [
        ("calls-in", str(numbers.calls_in)),
        ("calls-out", str(numbers.calls_out)),
        ("failed-calls-in", str(numbers.failed_calls_in)),
        ("failed-calls-out", str(numbers.failed_calls_out)),
        ("registrations", str(registered)),
    ]
    lines = [f"    <{element}>{amp_encode(value)}</{element}>\n" for element, value in facts]
    return "  <profile-info>\n" + "".join(lines) + "  </profile-info>\n"


def registrations(rows: Sequence[Registration], now: float) -> str:
    return "  <registrations>\n" + "".join(_registration(row, now) for row in rows) + "  </registrations>\n"


def _registration(row: Registration, now: float) -> str:
    until = f"exp({local_time(row.expires)}) expsecs({row.expires - int(now)})"
    facts = [
        ("call-id", amp_encode(row.call_id)),
        ("user", f"{amp_encode(row.sip_user)}@{amp_encode(row.sip_host)}"),
        ("contact", amp_encode(row.contact)),
        ("agent", amp_encode(row.user_agent)),
        ("status", f"{amp_encode(row.status)}({amp_encode(row.rpid)}) {until}"),
        ("ping-status", row.ping_status),
        ("ping-time", f"{row.ping_time / 1000:.2f}"),
        ("host", amp_encode(row.hostname)),
        ("network-ip", row.network_ip),
        ("network-port", row.network_port),
        ("sip-auth-user", url_encode(row.sip_username)),
        ("sip-auth-realm", amp_encode(row.sip_realm)),
        ("mwi-account", f"{amp_encode(row.mwi_user)}@{amp_encode(row.mwi_host)}"),
    ]
    lines = [f"        <{element}>{value}</{element}>\n" for element, value in facts]
    return "    <registration>\n" + "".join(lines) + "    </registration>\n"


# ---- JSON ----------------------------------------------------------------------------------------------------------


async def jsonstatus(site: Site, rest: str) -> str:
    """Every profile, the stopped ones too, each alias as a member of its own. Arguments have no effect."""
    states = await site.profile_states()
    rows = []
    for name, profile in site.configuration.profiles.items():
        state = states.get(name)
        in_use = (await counters(site, name)).in_use
        rows.append((profile, state is not None and state.running, in_use))
    return pretty({"profiles": json_profiles(rows)}) + "\n"


def json_profiles(rows: Iterable[tuple[ProfileSettings, bool, int]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for profile, running, in_use in rows:
        entry: dict[str, Any] = {
            "status": {
                "type": "profile",
                "state": "RUNNING" if running else "DOWN",
                "in-use": in_use,
                "data": profile.tls_url if profile.tls and profile.tls_only else profile.url,
            }
        }
        gateways = gateways_of(profile) if running else []
        if gateways:
            entry["gateways"] = {
                one.settings.name: {"type": "gateway", "data": one.register_to, "state": one.state} for one in gateways
            }
        entry["info"] = _info(profile, profile.name)
        members[profile.name] = entry
        for alias in profile.aliases:
            status = {"type": "alias", "data": profile.name, "state": "ALIASED"}
            members[alias] = {"status": status, "info": _info(profile, alias)}
    return members


def _info(profile: ProfileSettings, typed: str) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for fact in describe(profile, typed):
        if fact.element == "rtp-ip":
            info.setdefault("rtp-ip", []).append(fact.value)
        else:
            info[fact.element] = fact.value
    return info
