"""`sofia profile <name> ...`: start and stop, rescan, flush registrations, trace, watchdog. Texts as mod_sofia's `cmd_profile`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from node.config.profile import ProfileSettings
from node.console.commands.sofia_recover import recover_profile
from node.console.registry import is_true, words
from node.console.site import Silent, Site
from node.console.view import find_gateway, find_profile, gateways_of
from node.events import Event
from store.records import Registration

WAIT = 30.0
"Seconds that the supervisor may take to start or stop a profile."
NOT_SERVED = "-ERR gateways are not registered by this node!\n"


async def profile(site: Site, rest: str) -> str:
    match words(rest):
        case [name, verb, *_] if verb.lower() == "start":
            return await _supervise(site, ["start", name])
        case [name, verb, *_] if (name.lower(), verb.lower()) == ("restart", "all"):
            await _supervise(site, ["restart", "all"])
            return ""
        case [name, verb, *more]:
            found = await find_profile(site, name)
            if found is None:
                return f"Invalid Profile [{name}]"
            run = VERBS.get(verb.lower())
            return "-ERR Unknown command!\n" if run is None else await run(site, found, more)
    return "Invalid Args!\n"


# ---- start, stop, rescan -------------------------------------------------------------------------------------------


async def _supervise(site: Site, order: Sequence[str]) -> str:
    """Have the supervisor do it, and see the configuration as it is now."""
    answer = await site.ask("profile", order, within=WAIT)
    site.reload()
    return answer


async def _rescan(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await _supervise(site, ["rescan", found.name])


async def _stop(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await _supervise(site, ["stop", found.name, *more[:1]])


async def _restart(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await _supervise(site, ["restart", found.name])


# ---- registrations -------------------------------------------------------------------------------------------------


def matching(rows: Iterable[Registration], argument: str) -> list[Registration]:
    """By Call-ID, `user@host`, `@host`, or a bare host."""
    user, at, host = argument.partition("@")
    host = (host or "none") if at else argument
    return [
        row
        for row in rows
        if row.call_id == argument or (row.sip_host == host and (not at or not user or row.sip_user == user))
    ]


async def _flush(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    more = list(more)
    reboot = bool(more) and more[-1].lower() == "reboot"
    if reboot:
        more.pop()
    rows = await site.registrations(found.name)
    chosen = matching(rows, more[0]) if more else rows
    if reboot:
        await _notify(site, found, chosen)
    await drop(site, chosen)
    verb = "rebooting" if reboot else "flushing"
    return f"+OK {verb} all registrations{' matching specified call_id' if more else ''}\n"


async def _check_sync(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    rows = await site.registrations(found.name)
    if more:
        await _notify(site, found, matching(rows, more[0]))
        return "+OK syncing all registrations matching specified call_id\n"
    # mod_sofia sends nothing here: it makes all phones register again by forgetting them.
    await drop(site, rows)
    return "+OK syncing all registrations\n"


async def _notify(site: Site, found: ProfileSettings, rows: Sequence[Registration]) -> None:
    """A check-sync NOTIFY to each phone, sent by a worker of the profile."""
    if rows:
        try:
            await site.workers.ask_profile(found.name, "check_sync", [row.key for row in rows])
        except Silent:
            pass  # Logged where it was noticed; the registrations are flushed all the same.


async def drop(site: Site, rows: Sequence[Registration]) -> None:
    """Delete registrations, tell who listens, and have the workers forget what they remember of them."""
    if not rows:
        return
    await site.remove(rows)
    await site.workers.ask_all("forget", [row.key for row in rows])
    for row in rows:
        site.fire(expired(row))


def expired(row: Registration) -> Event:
    return Event(
        name="CUSTOM",
        subclass="sofia::expire",
        headers=[
            ("profile-name", row.profile_name),
            ("call-id", row.call_id),
            ("user", row.sip_user),
            ("username", row.sip_username),
            ("host", row.sip_host),
            ("contact", row.contact),
            ("expires", str(row.expires)),
            ("user-agent", row.user_agent),
            ("realm", row.sip_realm),
            ("network-ip", row.network_ip),
            ("network-port", row.network_port),
        ],
        function="sofia_reg_del_callback",
    )


# ---- switches ------------------------------------------------------------------------------------------------------


async def _siptrace(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    if not more:
        return "Usage: sofia profile <name> siptrace <on/off>\n"
    on = is_true(more[0])
    await site.instruct("siptrace", ["on" if on else "off", found.name])
    return f"{'Enabled' if on else 'Disabled'} sip debugging on {found.name}"


async def _capture(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    if not more:
        return "Usage: sofia profile <name> capture <on/off>\n"
    on = is_true(more[0])
    await site.instruct("capture", ["on" if on else "off", found.name])
    return f"{'Enabled' if on else 'Disabled'} sip capturing on {found.name}"


async def _watchdog(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    if not more:
        return "Usage: sofia profile <name> watchdog <on/off>\n"
    on = is_true(more[0])
    await site.ask("watchdog", ["on" if on else "off", found.name])
    # mod_sofia says it with the words of siptrace, and scripts compare them.
    return f"{'Enabled' if on else 'Disabled'} sip debugging on {found.name}"


async def _recover(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await recover_profile(site, found.name, more)


# ---- gateways ------------------------------------------------------------------------------------------------------


async def _gwlist(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    up = not (more and more[0].lower() == "down")
    return "".join(f"{one.settings.name} " for one in gateways_of(found) if (one.status == "UP") is up)


async def _register(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await _ask_gateway(site, more, "registered")


async def _unregister(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return await _ask_gateway(site, more, "unregistered")


async def _ask_gateway(site: Site, more: Sequence[str], done: str) -> str:
    if not more:
        return "No gateway name provided!\n"
    if more[0].lower() == "all":
        return NOT_SERVED
    gateway = await find_gateway(site, more[0])
    if gateway is None:
        return "Invalid gateway!\n"
    if gateway.state == "NOREG":
        return f"-ERR NOREG gateway [{gateway.settings.name}] can't be {done}!\n"
    return NOT_SERVED


async def _killgw(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    if not more:
        return "-ERR missing gw name\n"
    if more[0].lower() != "_all_" and await find_gateway(site, more[0]) is None:
        return "-ERR no such gateway.\n"
    return NOT_SERVED


async def _startgw(site: Site, found: ProfileSettings, more: Sequence[str]) -> str:
    return NOT_SERVED if more else "-ERR missing gw name\n"


VERBS: dict[str, Callable[[Site, ProfileSettings, Sequence[str]], Awaitable[str]]] = {
    "rescan": _rescan,
    "stop": _stop,
    "restart": _restart,
    "flush_inbound_reg": _flush,
    "check_sync": _check_sync,
    "siptrace": _siptrace,
    "capture": _capture,
    "watchdog": _watchdog,
    "recover": _recover,
    "gwlist": _gwlist,
    "register": _register,
    "unregister": _unregister,
    "killgw": _killgw,
    "startgw": _startgw,
}
