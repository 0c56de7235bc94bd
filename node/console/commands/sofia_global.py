"""`sofia` itself, `sofia global ...`, `sofia loglevel` and `sofia tracelevel`."""

from __future__ import annotations

from node import debug
from node.console.commands.sofia_profile import profile
from node.console.commands.sofia_recover import recover
from node.console.commands.sofia_status import status
from node.console.commands.sofia_xml import jsonstatus, xmlstatus
from node.console.registry import Command, Runner, is_true, words
from node.console.site import COMPONENTS, Site

DASHES = "-" * 80 + "\n"
USAGE = (
    "USAGE:\n" + DASHES + "sofia global siptrace <on|off>\n"
    "sofia        capture  <on|off>\n"
    "             watchdog <on|off>\n"
    "\n"
    "sofia profile <name> [start | stop | restart | rescan] [wait]\n"
    "                     flush_inbound_reg [<call_id> | <[user]@domain>] [reboot]\n"
    "                     check_sync [<call_id> | <[user]@domain>]\n"
    "                     [register | unregister] [<gateway name> | all]\n"
    "                     killgw <gateway name>\n"
    "                     [stun-auto-disable | stun-enabled] [true | false]]\n"
    "                     siptrace <on|off>\n"
    "                     capture  <on|off>\n"
    "                     watchdog <on|off>\n"
    "\n"
    "sofia <status|xmlstatus> profile <name> [reg [<contact str>]] | [pres <pres str>] | [user <user@domain>]\n"
    "sofia <status|xmlstatus> gateway <name>\n"
    "\n"
    "sofia loglevel <all|default|tport|iptsec|nea|nta|nth_client|nth_server|nua|soa|sresolv|stun> [0-9]\n"
    "sofia tracelevel <console|alert|crit|err|warning|notice|info|debug>\n"
    "\n"
    "sofia help\n" + DASHES
)
GLOBAL_USAGE = "-ERR Usage: siptrace <on|off>|capture <on|off>|watchdog <on|off>|debug <sla|presence|none"


async def sofia(site: Site, rest: str) -> str:
    verb, _, more = rest.strip().partition(" ")
    if verb.lower() in ("", "help"):
        return USAGE
    run = VERBS.get(verb.lower())
    return f"Unknown Command [{verb}]\n" if run is None else await run(site, more.strip())


# ---- global --------------------------------------------------------------------------------------------------------


async def everywhere(site: Site, rest: str) -> str:
    match [word.lower() for word in words(rest)]:
        case ["debug", *what]:
            return await _debug(site, " ".join(what))
        case ["siptrace" | "capture" | "watchdog" | "standby" as what, value, *_]:
            return await _switch(site, what, on=is_true(value))
    return GLOBAL_USAGE


async def _switch(site: Site, what: str, *, on: bool) -> str:
    word = "on" if on else "off"
    if what == "watchdog":
        await site.ask("watchdog", [word])
    else:
        if what == "standby":
            site.switches.standby = on
        await site.instruct(what, [word])
    return f"+OK Global {what} {word}"


async def _debug(site: Site, what: str) -> str:
    """Words are looked for anywhere in the text, so `presence,sla` sets both."""
    switches, lines = site.switches, []
    if "presence" in what:
        switches.debug_presence = True
        lines.append("+OK Debugging presence\n")
    if "sla" in what:
        switches.debug_sla = True
        lines.append("+OK Debugging sla\n")
    if "none" in what:
        switches.debug_presence = switches.debug_sla = False
        lines.append("+OK Debugging nothing\n")
    presence, sla = ("on" if flag else "off" for flag in (switches.debug_presence, switches.debug_sla))
    if lines:
        await site.instruct("debug", [presence, sla])
    return "".join(lines) + f"+OK Debugging summary: presence: {presence} sla: {sla}\n"


# ---- levels --------------------------------------------------------------------------------------------------------


async def loglevel(site: Site, rest: str) -> str:
    match words(rest):
        case [component, text, *_] if component.lower() in COMPONENTS and text.isdecimal() and int(text) <= 9:
            name, level = component.lower(), int(text)
            site.switches.set_level(name, level)
            debug.set_level(name, level)  # nth_client and nth_server speak in this process
            await site.instruct("loglevel", [name, str(level)])
            return f"Sofia log level for component [{component}] has been set to [{level}]"
        case [component] if component.lower() in COMPONENTS[1:]:
            return f"Sofia-sip loglevel for [{component}] is [{site.switches.log_levels[component.lower()]}]"
    return USAGE


async def tracelevel(site: Site, rest: str) -> str:
    match words(rest):
        case [word, *_]:
            level = debug.tracelevel_of(word)
            if level:
                site.switches.tracelevel = level
                debug.set_tracelevel(level)
                await site.instruct("tracelevel", [level])
    return f"+OK tracelevel is {site.switches.tracelevel}"


VERBS: dict[str, Runner] = {
    "status": status,
    "xmlstatus": xmlstatus,
    "jsonstatus": jsonstatus,
    "profile": profile,
    "global": everywhere,
    "loglevel": loglevel,
    "tracelevel": tracelevel,
    "recover": recover,
}

COMPLETION = (
    "help|status|loglevel|tracelevel|global|profile|recover|xmlstatus|jsonstatus",
    "status|xmlstatus profile|gateway",
    "status profile <profile> reg|user|pres",
    "xmlstatus profile <profile> reg|user|pres",
    "status|xmlstatus gateway <gateway>",
    "loglevel " + "|".join(COMPONENTS) + " 0|1|2|3|4|5|6|7|8|9",
    "tracelevel " + "|".join(level.lower() for level in debug.TRACE_LEVELS),
    "global siptrace|standby|capture|watchdog on|off",
    "global debug presence|sla|none",
    "profile <profile>",
    "profile restart all",
    "profile <profile> start|stop|restart|rescan|recover|flush_inbound_reg|check_sync|register|unregister|killgw|startgw",
    "profile <profile> gwlist|siptrace|capture|watchdog",
    "profile <profile> stop wait",
    "profile <profile> flush_inbound_reg reboot",
    "profile <profile> recover flush|status|--dry-run",
    "profile <profile> register|unregister all",
    "profile <profile> register|unregister|killgw|startgw <gateway>",
    "profile <profile> killgw|startgw _all_",
    "profile <profile> siptrace|capture|watchdog on|off",
    "profile <profile> gwlist up|down",
    "recover flush|status|--dry-run",
)

COMMANDS = (Command("sofia", sofia, "<cmd> <args>", "Sofia Controls", COMPLETION),)
