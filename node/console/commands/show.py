"""`show channels|calls|registrations ...`: tables of FreeSWITCH's core, in each of its formats."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from node.console.format import Row, count, delimited, json_table, xml_table
from node.console.registry import Command, words
from node.console.site import Site
from node.console.view import url_of
from store.records import Registration

CHANNELS = (
    "uuid", "direction", "created", "created_epoch", "name", "state", "cid_name", "cid_num", "ip_addr", "dest",
    "application", "application_data", "dialplan", "context", "read_codec", "read_rate", "read_bit_rate",
    "write_codec", "write_rate", "write_bit_rate", "secure", "hostname", "presence_id", "presence_data",
    "accountcode", "callstate", "callee_name", "callee_num", "callee_direction", "call_uuid", "sent_callee_name",
    "sent_callee_num", "initial_cid_name", "initial_cid_num", "initial_ip_addr", "initial_dest", "initial_dialplan",
    "initial_context",
)  # fmt: skip
CALL = (
    "uuid", "direction", "created", "created_epoch", "name", "state", "cid_name", "cid_num", "ip_addr", "dest",
    "presence_id", "presence_data", "accountcode", "callstate", "callee_name", "callee_num", "callee_direction",
)  # fmt: skip
CALLS = (
    *CALL, "call_uuid", "hostname", "sent_callee_name", "sent_callee_num",
    *(f"b_{column}" for column in CALL), "b_sent_callee_name", "b_sent_callee_num", "call_created_epoch",
)  # fmt: skip
DETAILED = CHANNELS[: CHANNELS.index("initial_cid_name")]
DETAILED_CALLS = (*DETAILED, *(f"b_{column}" for column in DETAILED), "call_created_epoch")
REGISTRATIONS = (
    "reg_user", "realm", "token", "url", "expires", "network_ip", "network_port", "network_proto", "hostname",
    "metadata",
)  # fmt: skip
INTERFACES = ("type", "name", "ikey")

SYNTAX = (
    "codec|endpoint|application|api|dialplan|file|timer|calls [count]|channels [count|like <match string>]|"
    "registrations [count]|calls|detailed_calls|bridged_calls|detailed_bridged_calls|aliases|complete|chat|"
    "management|modules|nat_map|say|interfaces|interface_types|tasks|limits|status"
)
USAGE = f"-USAGE: {SYNTAX}\n"

Table = tuple[Sequence[str], list[Row]]


async def show(site: Site, rest: str) -> str:
    asked = words(rest)
    asked, form, delimiter = take_format(asked)
    if not asked:
        return USAGE
    subject, *more = asked
    gather = SUBJECTS.get(subject.lower())
    if subject.lower() == "status":
        return await site.run("status")
    if gather is None:
        return USAGE
    if subject.lower() == "channels" and [word.lower() for word in more[:1]] == ["count"]:
        # Asked every few seconds by whoever watches a node: thousands of rows are not made to be counted.
        return table_count(sum(await site.workers.ask_all("channel_count")), form)
    columns, rows = await gather(site)
    match [word.lower() for word in more]:
        case ["count", *_]:
            return table_count(len(rows), form)
        case ["like", *_] if len(more) > 1:
            rows = [row for row in rows if like(row, more[1])]
    return table(columns, rows, form, delimiter)


def take_format(asked: list[str]) -> tuple[list[str], str, str]:
    """The words without `as <format>`, the format, the delimiter."""
    lower = [word.lower() for word in asked]
    if "as" not in lower[1:]:
        return asked, "delim", ","
    at = lower.index("as", 1)
    form = lower[at + 1] if at + 1 < len(asked) else ""
    delimiter = asked[at + 2] if form == "delim" and at + 2 < len(asked) else ","
    return asked[:at], form, delimiter


def table(columns: Sequence[str], rows: Sequence[Row], form: str, delimiter: str) -> str:
    match form:
        case "delim" | "csv":
            return delimited(columns, rows, delimiter)
        case "json":
            return json_table(columns, rows)
        case "xml":
            return xml_table(columns, rows)
    return f"-ERR Cannot find format {form}\n"


def table_count(rows: int, form: str) -> str:
    match form:
        case "json":
            return f'{{"row_count": {rows}}}\n'
        case "xml":
            return f'<result row_count="{rows}"/>\n'
    return count(rows)


def like(row: Row, text: str) -> bool:
    """SQL's LIKE on the columns that FreeSWITCH looks at, `%` for anything."""
    pattern = (text if "%" in text else f"%{text}%").lower()
    # fnmatch knows `*`, `?` and `[`: those that the text itself holds are taken as they are.
    for special in ("[", "*", "?"):
        pattern = pattern.replace(special, f"[{special}]")
    pattern = pattern.replace("%", "*")
    looked_at = ("uuid", "name", "cid_name", "cid_num", "presence_data", "accountcode")
    return any(fnmatchcase(row.get(column, "").lower(), pattern) for column in looked_at)


# ---- what there is to show -----------------------------------------------------------------------------------------


def merge(answers: Iterable[Any], *, by: str = "created_epoch") -> list[Row]:
    """The rows of all workers, every value as text, the oldest first."""
    rows: list[Row] = [
        {str(name): "" if value is None else str(value) for name, value in row.items()}
        for answer in answers
        for row in answer
    ]
    return sorted(rows, key=lambda row: int(row.get(by) or 0))


async def _channels(site: Site) -> Table:
    return CHANNELS, merge(await site.workers.ask_all("channels"))


async def _calls(site: Site) -> Table:
    return CALLS, merge(await site.workers.ask_all("calls"), by="call_created_epoch")


async def _bridged_calls(site: Site) -> Table:
    columns, rows = await _calls(site)
    return columns, [row for row in rows if row.get("b_uuid")]


async def _detailed_calls(site: Site) -> Table:
    channels = {row["uuid"]: row for row in (await _channels(site))[1]}
    return DETAILED_CALLS, [detail(row, channels) for row in (await _calls(site))[1]]


async def _detailed_bridged_calls(site: Site) -> Table:
    columns, rows = await _detailed_calls(site)
    return columns, [row for row in rows if row.get("b_uuid")]


def detail(call: Row, channels: dict[str, Row]) -> Row:
    """A row of `show calls` with everything that `show channels` knows of its two legs."""
    first, second = channels.get(call.get("uuid", ""), {}), channels.get(call.get("b_uuid", ""), {})
    row = {column: first.get(column, call.get(column, "")) for column in DETAILED}
    row |= {f"b_{column}": second.get(column, call.get(f"b_{column}", "")) for column in DETAILED}
    row["call_created_epoch"] = call.get("call_created_epoch", "")
    return row


async def _registrations(site: Site) -> Table:
    return REGISTRATIONS, [registration(row) for row in await site.registrations()]


def registration(row: Registration) -> Row:
    url = url_of(row.contact)
    return {
        "reg_user": row.sip_user,
        "realm": row.sip_host,
        "token": row.call_id,
        "url": f"sofia/{row.profile_name}/{url}",
        "expires": str(row.expires),
        "network_ip": row.network_ip,
        "network_port": row.network_port,
        "network_proto": _protocol(url),
        "hostname": row.hostname,
        "metadata": row.metadata,
    }


def _protocol(url: str) -> str:
    """FreeSWITCH looks at the Contact's transport parameter, and knows three."""
    lower = url.lower()
    return next((name for name in ("tls", "tcp") if f"transport={name}" in lower), "udp")


async def _api(site: Site) -> Table:
    rows: list[Row] = [
        {"name": one.name, "description": one.description, "syntax": one.syntax, "ikey": "sofia-node"}
        for one in site.commands()
    ]
    return ("name", "description", "syntax", "ikey"), rows


def _fixed(kind: str, *names: str) -> Callable[[Site], Awaitable[Table]]:
    async def gather(site: Site) -> Table:
        return INTERFACES, [{"type": kind, "name": name, "ikey": "sofia-node"} for name in names]

    return gather


async def _modules(site: Site) -> Table:
    columns = ("type", "name", "ikey", "filename")
    return columns, [{"type": "endpoint", "name": "sofia", "ikey": "mod_sofia", "filename": ""}]


async def _none(site: Site) -> Table:
    return (), []


SUBJECTS: dict[str, Callable[[Site], Awaitable[Table]]] = {
    "channels": _channels,
    "calls": _calls,
    "basic_calls": _calls,
    "bridged_calls": _bridged_calls,
    "detailed_calls": _detailed_calls,
    "detailed_bridged_calls": _detailed_bridged_calls,
    "registrations": _registrations,
    "api": _api,
    "modules": _modules,
    "codec": _fixed("codec", "G.711 alaw", "G.711 ulaw"),
    "endpoint": _fixed("endpoint", "sofia"),
    "dialplan": _fixed("dialplan", "XML"),
    **dict.fromkeys(("application", "file", "timer", "aliases", "complete", "chat", "management"), _none),
    **dict.fromkeys(("nat_map", "say", "interfaces", "interface_types", "tasks", "limits"), _none),
}

COMPLETION = (
    "|".join([*SUBJECTS, "status"]),
    "channels|calls|registrations|bridged_calls|detailed_calls count|as",
    "channels like",
    "channels|calls|registrations|bridged_calls|detailed_calls as csv|delim|json|xml",
)

COMMANDS = (Command("show", show, SYNTAX, "Show various reports", COMPLETION),)
