"""`sofia recover`: bring back the calls of the fallen, of all profiles or of one. The supervisor has it done.

Ours: `--dry-run` says what would happen to each leg and why, on a standby what a promotion would do; `status` says how far a
recovery is, and what became of the last legs.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from node.calls.forecast import Duties, Prospect, forecast
from node.calls.urgency import rank
from node.console.registry import words
from node.console.site import Site
from node.events import Event

log = logging.getLogger(__name__)

WAIT = 60.0
"Seconds that a recovery may take before the command gives up waiting; the recovery itself goes on."
FLUSHED = "Flushing recovery database.\n"
RESULTS = ("at", "uuid", "call_uuid", "profile_name", "call_id", "direction", "result", "cause", "status")
PROSPECTS = ("uuid", "call_uuid", "profile_name", "call_id", "direction", "state", "action", "why")
ACTIONS = {
    "reinvite": "re-INVITEd",
    "revive": "revived as they are",
    "end": "ended",
    "lose": "lost",
    "none": "left alone",
}


async def recover(site: Site, rest: str) -> str:
    match [word.lower() for word in words(rest)][:1]:
        case ["--dry-run"]:
            return await foretell(site)
        case ["status"]:
            return await progress(site)
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


async def recover_profile(site: Site, profile: str, more: Sequence[str]) -> str:
    """`sofia profile <name> recover [flush|--dry-run|status]`."""
    word = more[0].lower() if more else ""
    if word == "--dry-run":
        return await foretell(site, profile)
    if word == "status":
        return await progress(site, profile)
    if site.switches.standby:
        site.switches.standby = False
        await site.instruct("standby", ["off"])
    if word == "flush":
        return await _order(site, [profile, "flush"]) or FLUSHED
    answer = await _order(site, [profile])
    if not answer.isdigit():
        return answer
    return f"Recovered {answer} session(s)\n" if int(answer) else "No sessions to recover.\n"


async def recover_all(site: Site, scope: str) -> str:
    """`fsctl recover [flush][:][technology[:profile]]`."""
    head, _, tail = scope.partition(":")
    flush = head.lower() == "flush"
    technology, _, profile = tail.partition(":") if flush else (head, ":", tail)
    if technology and technology.lower() != "sofia":
        return "+OK flushed\n" if flush else "+OK 0 session(s) recovered in total\n"
    answer = await _order(site, [*([profile] if profile else []), *(["flush"] if flush else [])])
    if flush:
        return answer or "+OK flushed\n"
    return f"+OK {answer} session(s) recovered in total\n" if answer.isdigit() else answer


# ---- what would be ---------------------------------------------------------------------------------------------------------


async def foretell(site: Site, profile: str = "") -> str:
    """Each leg on record: what a recovery now (on a standby: a promotion) would make of it, in the order of its turn."""
    duties = _duties(json.loads(await site.ask("node")))
    configuration = site.configuration
    records = [record for record in await site.calls() if not profile or record.profile_name == profile]
    records.sort(key=lambda one: rank(one, configuration.emergency_numbers(one.profile_name)))
    told: list[Prospect] = []
    for record in records:
        told += forecast(record, configuration, duties)
    told.sort(key=lambda one: one.action == "none")
    counted = Counter(one.action for one in told)
    summary = ", ".join(f"{counted[action]} {words}" for action, words in ACTIONS.items() if counted[action])
    return _table(PROSPECTS, told) + f"\n{len(told)} total{': ' if summary else ''}{summary}.\n"


def _duties(status: dict[str, Any]) -> Duties:
    slots = {child["slot"]: child["epoch"] for child in status.get("children", ()) if child.get("slot")}
    running = [name for name, one in status.get("profiles", {}).items() if one.get("state") == "RUNNING"]
    return Duties(status.get("role") in ("active", "promoting"), slots, frozenset(running))


# ---- what has been ---------------------------------------------------------------------------------------------------------


async def progress(site: Site, profile: str = "") -> str:
    """A line for each slot, then its last legs with their results."""
    told = sorted(await site.workers.ask_all("recovery"), key=lambda one: str(one["slot"]))
    told = [one for one in told if not profile or one["slot"].rpartition("#")[0] == profile]
    rows = sorted(row for one in told for row in one["results"])
    table = _table(RESULTS, [[_moment(row[0]), *row[1:]] for row in rows])
    return "".join(_line(one, site.now()) for one in told) + f"\n{table}\n{len(rows)} total.\n"


def _line(one: dict[str, Any], now: float) -> str:
    if not one["began"]:
        return f"{one['slot']}: nothing was recovered since it began\n"
    took = (one["ended"] or now) - one["began"]
    state = "done in" if one["ended"] else "under way for"
    kept = one["legs"] - one["lost"]
    return (
        f"{one['slot']}: {state} {max(0.0, took):.3f} s, {one['calls']} calls, {one['legs']} legs: {kept} kept, "
        f"{one['lost']} lost, {one['reinvited']} re-INVITEd, {one['asked']} asked, {one['waiting']} waiting for their turn\n"
    )


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


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
