"""`sofia recover`: bring back the calls of the fallen, of all profiles or of one. The supervisor has it done."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from node.console.registry import words
from node.console.site import Site
from node.events import Event

log = logging.getLogger(__name__)

WAIT = 60.0
"Seconds that a recovery may take before the command gives up waiting; the recovery itself goes on."
FLUSHED = "Flushing recovery database.\n"


async def recover(site: Site, rest: str) -> str:
    if site.switches.standby:
        site.switches.standby = False
        await site.instruct("standby", ["off"])
    if [word.lower() for word in words(rest)][:1] == ["flush"]:
        return await _order(site, ["flush"]) or FLUSHED
    answer = await _order(site, [])
    if not answer.isdigit():
        return answer
    site.fire(
        Event(
            name="CUSTOM",
            subclass="sofia::recovery_recovered",
            headers=[("recovered_calls", answer)],
            function="sofia_function",
        )
    )
    # It says calls and counts legs: so does mod_sofia.
    return f"Recovered {answer} call(s)\n" if int(answer) else "No calls to recover.\n"


async def recover_profile(site: Site, profile: str, *, flush: bool) -> str:
    """`sofia profile <name> recover [flush]`."""
    if flush:
        return await _order(site, [profile, "flush"]) or FLUSHED
    answer = await _order(site, [profile])
    if not answer.isdigit():
        return answer
    return f"Recovered {answer} session(s)\n" if int(answer) else "No sessions to recover.\n"


async def _order(site: Site, order: Sequence[str]) -> str:
    """The supervisor's count of legs; nothing for a flush that was done; a text for the operator when it failed."""
    answer = (await site.ask("recover", order, within=WAIT)).strip()
    if answer.startswith("-ERR"):
        return answer + "\n"
    if "flush" in order[-1:]:
        return ""
    if not answer.isdigit():
        log.warning("the supervisor answered recover with %r", answer)
        return "-ERR recover failed\n"
    return answer
