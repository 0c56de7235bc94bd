"""`sofia_contact`, `sofia_count_reg`, `sofia_username_of`, `sofia_gateway_data`: what a dialplan asks about registrations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from node.config import Configuration
from node.console.registry import Command, words
from node.console.site import Site
from node.console.view import find_gateway, find_profile, running_profiles, url_of
from store.records import Registration

NOBODY = "error/user_not_registered"
DEFAULT_DOMAIN = "freeswitch.local"


# ---- sofia_contact [profile/]user[@domain][/concat][~agent] --------------------------------------------------------


async def contact(site: Site, rest: str) -> str:
    # FreeSWITCH itself answers an empty argument with this text over the socket.
    if not rest:
        return NOBODY
    rest, _, agent = rest.partition("~")
    typed, user, domain, concat = take_apart(rest)
    domain = domain or site.configuration.globals.get("domain", "") or DEFAULT_DOMAIN
    profiles = [profile.name for profile in await running_profiles(site)]
    named = await find_profile(site, typed) if typed and typed != "*" else None
    if named is not None and named.name == typed and named.domain:
        domain = named.domain
    if named is None and typed != "*":
        named = await find_profile(site, domain)
    chosen = [named.name] if named is not None else profiles
    rows = await site.registrations(named.name if named is not None else None)
    found = contacts(rows, chosen, user=user, domain=domain, agent=agent)
    if named is None:
        found = list(dict.fromkeys(found))
    return ",".join(concat + one for one in found) or NOBODY


def take_apart(text: str) -> tuple[str, str, str, str]:
    """Profile, user, domain and what is to be put before each contact."""
    before, at, behind = text.partition("@")
    profile, slash, user = before.partition("/")
    if not slash:
        profile, user = "", before
    if at:
        domain, _, concat = behind.partition("/")
        return profile, user, domain, concat
    user, _, concat = user.partition("/")
    return profile, user, "", concat


def contacts(
    rows: Iterable[Registration], profiles: Sequence[str], *, user: str, domain: str, agent: str = ""
) -> list[str]:
    return [
        f"sofia/{row.profile_name}/sip:{_bare(row.contact)}"
        for row in rows
        if row.profile_name in profiles
        and row.sip_user.lower() == user.lower()
        and _hosts(row, domain)
        and agent in row.user_agent
    ]


def _hosts(row: Registration, domain: str) -> bool:
    return row.sip_host == domain or domain in row.presence_hosts


def _bare(stored: str) -> str:
    return url_of(stored).removeprefix("sips:").removeprefix("sip:")


# ---- sofia_count_reg, sofia_username_of ----------------------------------------------------------------------------


async def count_reg(site: Site, rest: str) -> str:
    if not rest:
        return "-1"
    rows = await _matching(site, rest)
    return "-1" if rows is None else str(len(rows))


async def username_of(site: Site, rest: str) -> str:
    rows = await _matching(site, rest) if rest else None
    return rows[-1].sip_username if rows else ""


async def _matching(site: Site, text: str) -> list[Registration] | None:
    """The rows of `[profile/][user]@domain`; None where no profile resolves."""
    profile, user, domain, _ = take_apart(text)
    if "@" not in text and not profile:
        return None
    named = await find_profile(site, profile or domain)
    if named is None:
        named, domain = await find_profile(site, domain), ""
    if named is None:
        return None
    if "." not in domain:
        domain = named.name
    rows = await site.registrations(None)
    return [row for row in rows if _hosts(row, domain) and (not user or row.sip_user == user)]


# ---- sofia_gateway_data --------------------------------------------------------------------------------------------


async def gateway_data(site: Site, rest: str) -> str:
    match words(rest):
        case []:
            return "-ERR Parameter missing\n"
        case [name, kind, variable, *_]:
            gateway = await find_gateway(site, name)
            if gateway is None:
                return ""
            inbound, outbound = gateway.settings.inbound_variables, gateway.settings.outbound_variables
            match kind.lower():
                case "ivar":
                    return inbound.get(variable, "")
                case "ovar":
                    return outbound.get(variable, "")
                case "var":
                    return inbound.get(variable, "") or outbound.get(variable, "")
    return ""


# ---- directory -----------------------------------------------------------------------------------------------------


async def user_exists(site: Site, rest: str) -> str:
    """`user_exists id <user> <domain>`."""
    match words(rest):
        case [_, user, domain, *_]:
            return "true" if site.directory.find(user, domain) is not None else "false"
    return "-ERR bad args"


async def domain_exists(site: Site, rest: str) -> str:
    return "true" if rest and site.directory.domain(rest) is not None else "false"


async def user_data(site: Site, rest: str) -> str:
    """`user_data <user>@<domain> param|var|attr <name>`; secrets are not given away."""
    match words(rest):
        case [who, kind, name, *_]:
            user, _, domain = who.partition("@")
            found = site.directory.find(user, domain or _default_domain(site.configuration))
            if found is not None and not (kind == "param" and ("password" in name.lower() or "hash" in name.lower())):
                if kind == "attr":
                    return found.id if name == "id" else found.number_alias if name == "number-alias" else ""
                return (found.params if kind == "param" else found.variables).get(name, "")
    return ""


def _default_domain(configuration: Configuration) -> str:
    return configuration.globals.get("domain", "")


COMMANDS = (
    Command("sofia_contact", contact, "[profile/]<user>@<domain>", "Sofia Contacts"),
    Command("sofia_count_reg", count_reg, "[profile/]<user>@<domain>", "Count Sofia registration"),
    Command("sofia_username_of", username_of, "[profile/]<user>@<domain>", "Sofia Username Lookup"),
    Command(
        "sofia_gateway_data",
        gateway_data,
        "<gateway_name> [ivar|ovar|var] <name>",
        "Get data from a sofia gateway",
        ("<gateway> ivar|ovar|var",),
    ),
    Command("user_exists", user_exists, "<key> <user> <domain>", "Find a user"),
    Command("domain_exists", domain_exists, "<domain>", "Check if a domain exists"),
    Command("user_data", user_data, "<user>@<domain> [attr|var|param] <name>", "Find user data"),
)
