"""`sofia status`: the tables that operators know by heart. Formats to the byte as mod_sofia's `cmd_status`."""

from __future__ import annotations

from collections.abc import Sequence

from node.config.profile import ProfileSettings
from node.console.engines import engine_lines
from node.console.format import local_time
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
)
from store.records import Registration

RULE = "=" * 97 + "\n"


async def status(site: Site, rest: str) -> str:
    match words(rest):
        case []:
            return await _overview(site)
        case [_]:
            return gateway_table(await running_gateways(site))
        case [what, name, *_] if what.lower() == "gateway":
            gateway = await find_gateway(site, name)
            return "Invalid Gateway!\n" if gateway is None else gateway_page(gateway)
        case [what, name, *more] if what.lower() == "profile":
            return await _profile(site, name, more)
    return "Invalid Syntax!\n"


# ---- sofia status --------------------------------------------------------------------------------------------------


async def _overview(site: Site) -> str:
    rows = [(profile, await counters(site, profile.name)) for profile in await running_profiles(site)]
    return overview([(profile, numbers.in_use) for profile, numbers in rows])


def overview(profiles: Sequence[tuple[ProfileSettings, int]]) -> str:
    """One line a profile, gateway and alias, and how many there are."""
    lines = [_row("Name", "   Type", "Data", "State"), RULE]
    aliases = 0
    for profile, in_use in profiles:
        if not (profile.tls and profile.tls_only):
            lines.append(_row(profile.name, "profile", profile.url, f"RUNNING ({in_use})"))
        if profile.tls:
            lines.append(_row(profile.name, "profile", profile.tls_url, f"RUNNING ({in_use}) (TLS)"))
        for gateway in gateways_of(profile):
            name = f"{profile.name}::{gateway.settings.name}"
            lines.append(_row(name, "gateway", gateway.register_to, gateway.state))
        for alias in profile.aliases:
            lines.append(_row(alias, "  alias", profile.name, "ALIASED"))
        aliases += len(profile.aliases)
    lines.append(RULE)
    lines.append(f"{len(profiles)} profile{_s(len(profiles))} {aliases} alias{_es(aliases)}\n")
    return "".join(lines)


def _row(name: str, kind: str, data: str, state: str) -> str:
    return f"{name:>25}\t{kind}\t  {data:>40}\t{state}\n"


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def _es(number: int) -> str:
    return "" if number == 1 else "es"


# ---- gateways ------------------------------------------------------------------------------------------------------


def gateway_table(gateways: Sequence[GatewayView]) -> str:
    lines = [
        f"{'Profile::Gateway-Name':>25}\t{'    Data    ':>32}\tState\t{'Ping Time':>9}\tIB Calls(F/T)\tOB Calls(F/T)\n",
        RULE,
    ]
    for one in gateways:
        name = f"{one.profile.name}::{one.settings.name}"
        lines.append(f"{name:>25}\t{one.register_to:>32}\t{one.state}\t{0.0:6.2f}\t0/0\t0/0\n")
    lines.append(RULE)
    number = len(gateways)
    lines.append(f"{number} gateway{_s(number)}: Inbound(Failed/Total): 0/0,Outbound(Failed/Total):0/0\n")
    return "".join(lines)


def gateway_page(one: GatewayView) -> str:
    settings = one.settings
    facts = [
        ("Name", settings.name),
        ("Profile", one.profile.name),
        ("Scheme", settings.params.get("scheme", "Digest")),
        ("Realm", settings.realm or settings.proxy),
        ("Username", settings.username),
        ("Password", "yes" if settings.password else "no"),
        ("From", one.sender),
        ("Contact", one.contact),
        ("Exten", settings.extension or settings.username),
        ("To", one.register_to),
        ("Proxy", one.proxy),
        ("Context", settings.context or one.profile.context),
        ("Expires", str(settings.expire_seconds)),
        ("Freq", str(settings.expire_seconds)),
        ("Ping", "0"),
        ("PingFreq", str(settings.ping)),
        ("PingTime", "0.00"),
        ("PingState", f"{settings.ping_min}/0/{settings.ping_max}" if settings.ping else "0/0/0"),
        ("State", one.state),
        ("Status", one.status),
        ("Uptime", "0s"),
        ("CallsIN", "0"),
        ("CallsOUT", "0"),
        ("FailedCallsIN", "0"),
        ("FailedCallsOUT", "0"),
    ]
    return RULE + "".join(f"{label:<8}\t{value}\n" for label, value in facts) + RULE


# ---- sofia status profile ------------------------------------------------------------------------------------------


async def _profile(site: Site, name: str, more: Sequence[str]) -> str:
    profile = await find_profile(site, name)
    if profile is None:
        return "Invalid Profile!\n"
    rows = await site.registrations(profile.name)
    word, argument = (*more, "", "")[:2]
    text = ""
    if word.lower() not in ("reg", "user"):
        text = profile_page(profile, name, await counters(site, profile.name), len(rows))
        if profile.media_engine == "rtpengine":
            text += engine_lines(profile.rtpengine_ng, await site.workers.ask_all("media_engines", []))
    chosen = select(rows, word, argument)
    return text if chosen is None else text + registration_list(chosen, site.now())


def profile_page(profile: ProfileSettings, typed: str, numbers: Counters, registrations: int) -> str:
    """Everything about a profile. mod_sofia draws the rule above it only."""
    lines = [RULE, f"{'Name':<17}\t{typed}\n"]
    for fact in (*describe(profile, typed), *behaviour(profile)):
        # mod_sofia pads this one label differently.
        width = 16 if fact.label == "WS-BIND-URL" else 17
        lines.append(f"{fact.label:<{width}}\t{fact.value}\n")
    for label, number in (
        ("CALLS-IN", numbers.calls_in),
        ("FAILED-CALLS-IN", numbers.failed_calls_in),
        ("CALLS-OUT", numbers.calls_out),
        ("FAILED-CALLS-OUT", numbers.failed_calls_out),
        ("REGISTRATIONS", registrations),
    ):
        lines.append(f"{label:<17}\t{number}\n")
    return "".join(lines)


def registration_list(rows: Sequence[Registration], now: float) -> str:
    lines = ["\nRegistrations:\n", RULE]
    lines += [_registration(row, now) for row in rows]
    lines.append(f"Total items returned: {len(rows)}\n{RULE}")
    return "".join(lines)


def _registration(row: Registration, now: float) -> str:
    until = f"EXP({local_time(row.expires)}) EXPSECS({row.expires - int(now)})"
    return (
        f"Call-ID:    \t{row.call_id}\n"
        f"User:       \t{row.sip_user}@{row.sip_host}\n"
        f"Contact:    \t{row.contact}\n"
        f"Agent:      \t{row.user_agent}\n"
        f"Status:     \t{row.status}({row.rpid}) {until}\n"
        f"Ping-Status:\t{row.ping_status}\n"
        f"Ping-Time:\t{row.ping_time / 1000:.2f}\n"
        f"Host:       \t{row.hostname}\n"
        f"IP:         \t{row.network_ip}\n"
        f"Port:       \t{row.network_port}\n"
        f"Auth-User:  \t{row.sip_username}\n"
        f"Auth-Realm: \t{row.sip_realm}\n"
        f"MWI-Account:\t{row.mwi_user}@{row.mwi_host}\n"
        "\n"
    )
