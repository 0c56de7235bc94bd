"""Commands of FreeSWITCH's core that operators and scripts expect beside `sofia`."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import datetime
from urllib.parse import unquote

from node.config.acl import check
from node.console.commands.sofia_recover import recover_all
from node.console.format import uptime as uptime_text
from node.console.format import url_encode
from node.console.names import LEVELS, level_number
from node.console.registry import Command, words
from node.console.site import Site
from node.console.version import FULL, HUMAN, SHORT

# ---- the node ------------------------------------------------------------------------------------------------------


async def status(site: Site, rest: str) -> str:
    await site.measure()
    gauge, switch = site.gauge, site.configuration.switch
    rate = f"peak {gauge.peak_rate}, last 5min {gauge.five_minute_rate}"
    return (
        f"UP {uptime_text(_uptime(site))}\n"
        f"FreeSWITCH (Version {HUMAN}) is {'ready' if await _ready(site) else 'not ready'}\n"
        f"{gauge.since_startup} session(s) since startup\n"
        f"{gauge.sessions} session(s) - peak {gauge.peak}, last 5min {gauge.five_minute_peak} \n"
        f"{gauge.rate} session(s) per Sec out of max {switch.sessions_per_second}, {rate} \n"
        f"{switch.max_sessions} session(s) max\n"
        "min idle cpu 0.00/100.00\n"
        "Current Stack Size/Max 240K/240K\n"
    )


def _uptime(site: Site) -> int:
    return max(0, round((site.now() - site.identity.started) * 1_000_000))


async def _ready(site: Site) -> bool:
    """Whether there is a profile that serves: a standby node is up, and not ready."""
    return any(state.running for state in (await site.profile_states()).values())


async def version(site: Site, rest: str) -> str:
    return SHORT if rest.lower() == "short" else f"FreeSWITCH Version {FULL}\n"


async def uptime(site: Site, rest: str) -> str:
    scale = {"m": 60, "h": 3600, "d": 86400}.get(rest[:1].lower(), 1)
    return f"{_uptime(site) // 1_000_000 // scale}\n"


async def hostname(site: Site, rest: str) -> str:
    return site.origin.hostname


async def switchname(site: Site, rest: str) -> str:
    return site.origin.switchname


async def node(site: Site, rest: str) -> str:
    """Role, lease and processes of this node, as `sofia-node status` has them."""
    text = await site.ask("node")
    try:
        return json.dumps(json.loads(text), indent=2) + "\n"
    except ValueError:
        return text


async def reloadxml(site: Site, rest: str) -> str:
    message = site.reload()
    if message == "Success":
        await site.instruct("rescan")
    return f"+OK [{message}]\n"


async def reloadacl(site: Site, rest: str) -> str:
    message = site.reload()
    if message != "Success":
        return f"-ERR [{message}]\n"
    await site.instruct("rescan")
    return "+OK acl reloaded\n"


async def acl(site: Site, rest: str) -> str:
    match words(rest):
        case [ip, name, *_]:
            return "true" if check(site.configuration.acl, name, ip)[0] else "false"
    return "false"


async def global_getvar(site: Site, rest: str) -> str:
    if rest:
        return site.configuration.globals.get(rest, "")
    return "".join(f"{name}={value}\n" for name, value in site.configuration.globals.items())


async def module_exists(site: Site, rest: str) -> str:
    return (
        "true"
        if rest in ("mod_sofia", "mod_event_socket", "mod_commands", "mod_dptools", "mod_dialplan_xml")
        else "false"
    )


async def console(site: Site, rest: str) -> str:
    """`console loglevel X`: this node has one log, and its level is set in switch.conf; the socket's own is `log`."""
    match words(rest.lower()):
        case ["loglevel", word, *_]:
            level = level_number(word)
            if level is None:
                return f"-ERR Invalid console loglevel ({word})!\n"
            return f"+OK console log level set to {LEVELS[level].upper()}\n"
        case ["loglevel"]:
            return f"+OK console log level set to {site.configuration.switch.loglevel.upper()}\n"
    return "-USAGE: console help|loglevel [[0-7] | <loglevel_string>]\n"


# ---- fsctl ---------------------------------------------------------------------------------------------------------

FSCTL = (
    "[recover|hupall|max_sessions [num]|sps [num]|last_sps|loglevel|uptime|ready_check|api_expansion|"
    "verbose_events|sync_clock|reclaim_mem|shutdown_check]"
)


async def fsctl(site: Site, rest: str) -> str:
    switch = site.configuration.switch
    match words(rest):
        case ["recover", *more]:
            return await recover_all(site, more[0] if more else "")
        case ["hupall", *more]:
            await site.run(" ".join(["hupall", *more]))
            return "+OK\n"
        case ["max_sessions", *_]:
            return f"+OK max sessions: {switch.max_sessions}\n"
        case ["sps", *_]:
            return f"+OK sessions per second: {switch.sessions_per_second}\n"
        case ["last_sps"]:
            return f"+OK last sessions per second: {site.gauge.rate}\n"
        case ["loglevel"]:
            return f"+OK log level: {switch.loglevel.upper()} [{level_number(switch.loglevel)}]\n"
        case ["ready_check"]:
            return "true" if await _ready(site) else "false"
        case ["shutdown_check" | "pause_check", *_]:
            return "false"
        case ["sync_clock" | "reclaim_mem" | "verbose_events" | "sync_clock_when_idle", *_]:
            return "+OK\n"
        case []:
            return f"-USAGE: {FSCTL}\n"
    return "-ERR\n"


# ---- text ----------------------------------------------------------------------------------------------------------

REFERENCE = re.compile(r"\$?\$\{([^{}]*)\}")


async def expand_text(site: Site, text: str) -> str:
    """`${name}` and `$${name}` become global variables, `${command(arguments)}` what the command writes."""
    parts, end = [], 0
    for match in REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(await _value(site, match[1].strip()))
        end = match.end()
    return "".join([*parts, text[end:]])


async def _value(site: Site, name: str) -> str:
    command, bracket, arguments = name.partition("(")
    if bracket and arguments.endswith(")"):
        if command in ("eval", "expand"):
            return ""  # Would let a text call itself without an end.
        return await site.run(f"{command} {arguments[:-1]}")
    known = {"hostname": site.origin.hostname, "switchname": site.origin.switchname, "core_uuid": site.origin.core_uuid}
    return known.get(name) or site.configuration.globals.get(name, "")


async def eval_(site: Site, rest: str) -> str:
    return await expand_text(site, _without_uuid(rest))


async def expand(site: Site, rest: str) -> str:
    line = await expand_text(site, _without_uuid(rest))
    if line.partition(" ")[0].lower() == "expand":
        return "-ERR expand does not expand itself\n"
    return await site.run(line)


def _without_uuid(text: str) -> str:
    return text.partition(" ")[2] if text.startswith("uuid:") else text


async def echo(site: Site, rest: str) -> str:
    return rest


async def create_uuid(site: Site, rest: str) -> str:
    return str(uuid.uuid4())


async def md5(site: Site, rest: str) -> str:
    return hashlib.md5(rest.encode(), usedforsecurity=False).hexdigest()


async def encode(site: Site, rest: str) -> str:
    return url_encode(rest)


async def decode(site: Site, rest: str) -> str:
    return unquote(rest)


async def toupper(site: Site, rest: str) -> str:
    return rest.upper()


async def tolower(site: Site, rest: str) -> str:
    return rest.lower()


async def strftime(site: Site, rest: str) -> str:
    return datetime.fromtimestamp(site.now()).strftime(rest or "%Y-%m-%d %T")


# ---- help and completion -------------------------------------------------------------------------------------------


async def help_(site: Site, rest: str) -> str:
    lines = ["\nValid Commands:\n\n"]
    lines += [
        f"{one.name},{one.syntax},{one.description},sofia-node\n"
        for one in site.commands()
        if not rest or one.name == rest.lower()
    ]
    return "".join(lines)


async def console_complete(site: Site, rest: str) -> str:
    """As fs_cli reads it: the words in brackets, and what is to be written in place of the last so many characters."""
    text = rest
    if text.startswith("c="):
        cursor, _, text = text[2:].partition(";")
        if cursor.isdigit():
            # Blanks at the end are lost on the way; the cursor knows of them.
            text = text[: int(cursor)].ljust(min(int(cursor), 4096))
    found = await site.complete(text)
    stem = text.rpartition(" ")[2]
    if not found:
        return ""
    lines = ""
    if len(found) > 1:
        cells = [f"[{word:>20}]\t" for word in found]
        lines = "".join("\n" + "".join(cells[at : at + 4]) for at in range(0, len(cells), 4)) + "\n"
    write = f"{found[0]} " if len(found) == 1 else _common(found)
    return f"{lines}\n\nwrite={len(stem)}:{write}"


def _common(found: list[str]) -> str:
    shortest, longest = min(found), max(found)
    length = next((at for at, char in enumerate(shortest) if longest[at] != char), len(shortest))
    return shortest[:length]


COMMANDS = (
    Command("status", status, "", "Show current status"),
    Command("version", version, "[short]", "Version", ("short",)),
    Command("uptime", uptime, "[us|ms|s|m|h|d|microseconds|milliseconds|seconds|minutes|hours|days]", "Show uptime"),
    Command("hostname", hostname, "", "Return the system hostname"),
    Command("switchname", switchname, "", "Return the switch name"),
    Command("node", node, "", "Show role, lease and processes of this node"),
    Command("reloadxml", reloadxml, "", "Reload XML"),
    Command("reloadacl", reloadacl, "", "Reload XML"),
    Command("acl", acl, "<ip> <list_name>", "Compare an ip to an acl list"),
    Command("global_getvar", global_getvar, "<var>", "Get global var"),
    Command("module_exists", module_exists, "<module>", "Check if module exists"),
    Command("console", console, "loglevel [[0-7] | <loglevel_string>]", "Console", ("loglevel " + "|".join(LEVELS),)),
    Command(
        "fsctl", fsctl, FSCTL, "FS control messages", ("recover|hupall|max_sessions|sps|last_sps|loglevel|ready_check",)
    ),
    Command("eval", eval_, "[uuid:<uuid> ]<expression>", "eval (noop)"),
    Command("expand", expand, "[uuid:<uuid> ]<cmd> <args>", "Execute an api with variable expansion"),
    Command("echo", echo, "<data>", "Echo"),
    Command("create_uuid", create_uuid, "<uuid> <other_uuid>", "Create a uuid"),
    Command("md5", md5, "<data>", "Return md5 hash"),
    Command("url_encode", encode, "<string>", "Url encode a string"),
    Command("url_decode", decode, "<string>", "Url decode a string"),
    Command("toupper", toupper, "<string>", "Upper Case a string"),
    Command("tolower", tolower, "<string>", "Lower Case a string"),
    Command("strftime", strftime, "<format_string>", "strftime"),
    Command("help", help_, "", "Show help for all the api commands"),
    Command("console_complete", console_complete, "<line>", ""),
)
