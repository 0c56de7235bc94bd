"""Commands about single channels: `uuid_kill`, `uuid_dump`, `uuid_getvar`, `hupall`, `originate`."""

from __future__ import annotations

from node.config.profile import ProfileSettings
from node.console.format import Headers, as_json, as_xml, plain, stamp
from node.console.registry import Command, words
from node.console.site import Refused, Silent, Site
from node.console.view import running_profiles
from node.events import Event

NO_CHANNEL = "-ERR No such channel!\n"
ORIGINATE_SYNTAX = "<call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] [<cid_name>] [<cid_num>] [<timeout_sec>]"
TRANSFER_SYNTAX = "<uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]"
ORIGINATE_WAIT = 70.0
"Seconds: FreeSWITCH's default of 60 for an answer, and a little to hear of it."


async def uuid_kill(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, *more]:
            cause = more[0].upper() if more else "NORMAL_CLEARING"
            killed = any(await site.workers.ask_all("kill", [uuid, cause]))
            return "+OK\n" if killed else NO_CHANNEL
    return "-USAGE: <uuid> [cause]\n"


async def uuid_transfer(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, *more] if [word for word in more if not word.startswith("-")]:
            return "+OK\n" if any(await site.workers.ask_all("transfer", [uuid, *more])) else NO_CHANNEL
    return f"-USAGE: {TRANSFER_SYNTAX}\n"


async def uuid_bridge(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, other]:
            # Both live in one worker, or cannot be bridged: no call spans two.
            bridged = any(await site.workers.ask_all("bridge", [uuid, other]))
            return f"+OK {other}\n" if bridged else "-ERR Invalid uuid\n"
    return "-USAGE: <uuid> <other_uuid>\n"


async def uuid_deflect(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, uri]:
            return "+OK:Call Deflected\n" if any(await site.workers.ask_all("deflect", [uuid, uri])) else NO_CHANNEL
    return "-USAGE: <uuid> <uri>\n"


async def uuid_simplify(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, *_more]:
            done = any(await site.workers.ask_all("simplify", [uuid]))
            return "+OK Success\n" if done else "-ERR Operation Failed\n"
    return "-USAGE: <uuid>\n"


async def uuid_exists(site: Site, rest: str) -> str:
    return "true" if rest and any(await site.workers.ask_all("exists", [rest])) else "false"


async def uuid_dump(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, *more]:
            found = [answer for answer in await site.workers.ask_all("dump", [uuid]) if answer]
            if not found:
                return NO_CHANNEL
            event = Event(name="CHANNEL_DATA", at=int(site.now() * 1_000_000), function="uuid_dump_function")
            # A channel that brings the common headers itself says them of its own process.
            common = stamp(event, site.origin, 0)
            names = {name for name, _ in common}
            headers: Headers = common + [(name, value) for name, value in pairs(found[0]) if name not in names]
            form = {"json": as_json, "xml": as_xml}.get(more[0].lower() if more else "", plain)
            return form(headers)
    return "-USAGE: <uuid> [format]\n"


def pairs(answer: object) -> list[tuple[str, str]]:
    """Headers as a worker sends them: a map, or a list of pairs."""
    items = answer.items() if isinstance(answer, dict) else answer
    assert not isinstance(items, str | bytes), "headers come as pairs"
    return [(str(name), str(value)) for name, value in items]  # type: ignore[attr-defined]


async def uuid_getvar(site: Site, rest: str) -> str:
    match words(rest):
        case [uuid, name, *_]:
            if not any(await site.workers.ask_all("exists", [uuid])):
                return NO_CHANNEL
            values = [value for value in await site.workers.ask_all("getvar", [uuid, name]) if value is not None]
            return str(values[0]) if values else "_undef_"
    return "-USAGE: <uuid> <var>\n"


async def uuid_setvar(site: Site, rest: str) -> str:
    uuid, _, more = rest.partition(" ")
    name, _, value = more.strip().partition(" ")
    if not uuid or not name:
        return "-USAGE: <uuid> <var> [value]\n"
    done = any(await site.workers.ask_all("setvar", [uuid, name, value.strip()]))
    return "+OK\n" if done else NO_CHANNEL


async def uuid_setvar_multi(site: Site, rest: str) -> str:
    """`uuid_setvar_multi <uuid> <var>=<value>;<var>=<value>...`."""
    uuid, _, more = rest.partition(" ")
    settings = [part.partition("=") for part in more.split(";") if "=" in part]
    if not uuid or not settings:
        return "-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
    for name, _, value in settings:
        if not any(await site.workers.ask_all("setvar", [uuid, name.strip(), value])):
            return NO_CHANNEL
    return "+OK\n"


async def hupall(site: Site, rest: str) -> str:
    asked = words(rest)
    cause = asked[0].upper() if asked else "MANAGER_REQUEST"
    if len(asked) >= 3:
        name, value = asked[1:3]
        await _hangup_matching(site, cause, name, value)
        return f"+OK hangup all channels matching [{name}]=[{value}] with cause: {cause}\n"
    await site.workers.ask_all("hupall", [cause])
    return f"+OK hangup all channels with cause {cause}\n"


async def _hangup_matching(site: Site, cause: str, name: str, value: str) -> None:
    for rows in await site.workers.ask_all("channels"):
        for row in rows:
            uuid = row.get("uuid", "")
            if value in await site.workers.ask_all("getvar", [uuid, name]):
                await site.workers.ask_all("kill", [uuid, cause])


# ---- originate -----------------------------------------------------------------------------------------------------


async def originate(site: Site, rest: str) -> str:
    """Handed on as it stands to a worker of the profile that the call goes out by: there the call lives."""
    profiles = await running_profiles(site)
    if not rest or not profiles:
        return f"-USAGE: {ORIGINATE_SYNTAX}\n" if not rest else "-ERR SYSTEM_SHUTDOWN\n"
    try:
        answer = await site.workers.ask_profile(outgoing(profiles, rest), "originate", [rest], within=ORIGINATE_WAIT)
    except Refused:
        raise
    except Silent:
        return "-ERR RECOVERY_ON_TIMER_EXPIRE\n"
    text = str(answer)
    return text if text.endswith("\n") else text + "\n"


def outgoing(profiles: list[ProfileSettings], line: str) -> str:
    """The profile that the first dial string names, or the one of its gateway; else the first there is."""
    _, found, behind = line.partition("sofia/")
    if found:
        name, _, more = behind.partition("/")
        gateway = more.partition("/")[0].rpartition("::")[2]
        for profile in profiles:
            if name == profile.name or name in profile.aliases:
                return profile.name
            if name == "gateway" and any(one.name == gateway for one in profile.gateways):
                return profile.name
    return profiles[0].name


COMMANDS = (
    Command("uuid_kill", uuid_kill, "<uuid> [cause]", "Kill channel", ("<channel>",)),
    Command("uuid_transfer", uuid_transfer, TRANSFER_SYNTAX, "Transfer a session", ("<channel>",)),
    Command("uuid_bridge", uuid_bridge, "<uuid> <other_uuid>", "Bridge two channels", ("<channel>",)),
    Command("uuid_simplify", uuid_simplify, "<uuid>", "Try to cut out of a call path / attended xfer", ("<channel>",)),
    Command("uuid_deflect", uuid_deflect, "<uuid> <uri>", "Send a deflect", ("<channel>",)),
    Command("uuid_exists", uuid_exists, "<uuid>", "Check if a uuid exists", ("<channel>",)),
    Command("uuid_dump", uuid_dump, "<uuid> [format]", "Dump session vars", ("<channel> plain|json|xml",)),
    Command("uuid_getvar", uuid_getvar, "<uuid> <var>", "Get a variable from a channel", ("<channel>",)),
    Command("uuid_setvar", uuid_setvar, "<uuid> <var> [value]", "Set a variable", ("<channel>",)),
    Command(
        "uuid_setvar_multi",
        uuid_setvar_multi,
        "<uuid> <var>=<value>;<var>=<value>...",
        "Set multiple variables",
        ("<channel>",),
    ),
    Command("hupall", hupall, "<cause> [<var> <value>]", "hupall"),
    Command("originate", originate, ORIGINATE_SYNTAX, "Originate a call"),
)
