"""Events and tables as text: what FreeSWITCH's clients and scripts parse, to the byte."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from node.events import Event

Headers = list[tuple[str, str]]
Row = Mapping[str, str]

# ---- escaping ------------------------------------------------------------------------------------------------------

_UNSAFE = frozenset(b'\r\n "#%&+:;<=>?@[\\]^`{|}')
_HEX = frozenset("0123456789ABCDEF")
_URL = [chr(byte) if 32 <= byte <= 126 and byte not in _UNSAFE else f"%{byte:02X}" for byte in range(256)]


def url_encode(text: str) -> str:
    """Percent-encode as FreeSWITCH does: commas, slashes and brackets stay, and what is encoded already stays."""
    if "%" not in text:
        return "".join([_URL[byte] for byte in text.encode("utf-8", "surrogateescape")])
    head, *parts = text.split("%")
    return url_encode(head) + "".join(
        ("%" if len(part) > 1 and part[0] in _HEX and part[1] in _HEX else "%25") + url_encode(part) for part in parts
    )


def xml_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def amp_encode(text: str) -> str:
    return xml_text(text).replace('"', "&quot;").replace("'", "&apos;")


# ---- events --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """Who says what the events say: the headers that are the same in every one."""

    core_uuid: str
    hostname: str
    switchname: str
    ipv4: str = "127.0.0.1"
    ipv6: str = "::1"


SOURCES = (
    ("sofia_reg", "sofia_reg.c"),
    ("sofia_glue", "sofia_glue.c"),
    ("sofia_presence", "sofia_presence.c"),
    ("sofia", "sofia.c"),
    ("config_sofia", "sofia.c"),
    ("switch_channel", "switch_channel.c"),
    ("switch_core_session", "switch_core_state_machine.c"),
    ("switch_ivr_originate", "switch_ivr_originate.c"),
    ("switch_ivr", "switch_ivr_bridge.c"),
    ("audio_bridge", "switch_ivr_bridge.c"),
    ("api_exec", "mod_event_socket.c"),
    ("send_heartbeat", "switch_core.c"),
)


def stamp(event: Event, origin: Origin, sequence: int) -> Headers:
    """All headers of an event, the common ones first, in FreeSWITCH's order."""
    at = event.at // 1_000_000
    local = datetime.fromtimestamp(at)
    headers: Headers = [("Event-Subclass", event.subclass)] if event.subclass else []
    headers += [
        ("Event-Name", event.name),
        ("Core-UUID", origin.core_uuid),
        ("FreeSWITCH-Hostname", origin.hostname),
        ("FreeSWITCH-Switchname", origin.switchname),
        ("FreeSWITCH-IPv4", origin.ipv4),
        ("FreeSWITCH-IPv6", origin.ipv6),
        ("Event-Date-Local", local.strftime("%Y-%m-%d %H:%M:%S")),
        ("Event-Date-GMT", datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")),
        ("Event-Date-Timestamp", str(event.at)),
        ("Event-Calling-File", _source(event.function)),
        ("Event-Calling-Function", event.function or "fire"),
        ("Event-Calling-Line-Number", "1"),
        ("Event-Sequence", str(sequence)),
    ]
    return headers + list(event.headers)


def _source(function: str) -> str:
    return next((file for prefix, file in SOURCES if function.startswith(prefix)), "mod_sofia.c")


def gather(headers: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Headers by name in the order of their first coming; a name that comes again makes an array."""
    gathered: dict[str, list[str]] = {}
    for name, value in headers:
        gathered.setdefault(name, []).append(value)
    return gathered


def _joined(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else "ARRAY::" + "|:".join(values)


def plain(headers: Headers, body: str = "") -> str:
    lines = [f"{name}: {url_encode(_joined(values)) or '_undef_'}\n" for name, values in gather(headers).items()]
    if body:
        lines.append(f"Content-Length: {_size(body)}\n\n{body}")
    else:
        lines.append("\n")
    return "".join(lines)


def as_json(headers: Headers, body: str = "") -> str:
    members: dict[str, Any] = {
        name: values[0] if len(values) == 1 else values for name, values in gather(headers).items()
    }
    if body:
        members["Content-Length"] = str(_size(body))
        members["_body"] = body
    return compact(members)


def as_xml(headers: Headers, body: str = "") -> str:
    lines = ["<event>\n", "  <headers>\n"]
    for name, values in gather(headers).items():
        lines.append(f"    <{name}>{xml_text(url_encode(_joined(values)))}</{name}>\n")
    lines.append("  </headers>\n")
    if body:
        lines.append(f"  <Content-Length>{_size(body)}</Content-Length>\n  <body>{xml_text(body)}</body>\n")
    lines.append("</event>\n")
    return "".join(lines)


def _size(body: str) -> int:
    return len(body.encode("utf-8", "surrogateescape"))


SERIALISERS = {"plain": plain, "json": as_json, "xml": as_xml}


# ---- JSON as cJSON writes it ---------------------------------------------------------------------------------------


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def pretty(value: Any, depth: int = 1) -> str:
    """cJSON's own layout: tabs, a tab after the colon, arrays on one line."""
    if isinstance(value, Mapping):
        tabs = "\t" * depth
        members = [f"{tabs}{compact(name)}:\t{pretty(member, depth + 1)}" for name, member in value.items()]
        return "{\n" + ",\n".join(members) + ("\n" if members else "") + "\t" * (depth - 1) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(pretty(member, depth + 1) for member in value) + "]"
    return compact(value)


# ---- tables, as `show` writes them ---------------------------------------------------------------------------------


def delimited(columns: Sequence[str], rows: Sequence[Row], delimiter: str = ",") -> str:
    """A head line (only above rows), the rows unquoted, and the total."""
    lines = []
    if rows:
        lines.append(delimiter.join(columns))
        lines += [delimiter.join(row.get(column, "") for column in columns) for row in rows]
        lines.append("")
    return "\n".join(lines) + f"\n{len(rows)} total.\n"


def count(rows: int) -> str:
    return f"\n{rows} total.\n"


def json_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    if not rows:
        return '{"row_count": 0}\n'
    return compact({"row_count": len(rows), "rows": [{c: row.get(c, "") for c in columns} for row in rows]})


def xml_table(columns: Sequence[str], rows: Sequence[Row]) -> str:
    if not rows:
        return '<result row_count="0"/>\n'
    lines = [f'<result row_count="{len(rows)}">\n']
    for number, row in enumerate(rows, 1):
        lines.append(f'  <row row_id="{number}">\n')
        lines += [f"    <{column}>{xml_text(row.get(column, ''))}</{column}>\n" for column in columns]
        lines.append("  </row>\n")
    lines.append("</result>\n")
    return "".join(lines)


# ---- small ones ----------------------------------------------------------------------------------------------------


def uptime(microseconds: int) -> str:
    """`0 years, 0 days, 0 hours, 1 minute, 2 seconds, 3 milliseconds, 4 microseconds`, plurals as FreeSWITCH's."""
    seconds, micro = divmod(microseconds, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    years, days = divmod(days, 365)
    milli, micro = divmod(micro, 1000)
    parts = zip(
        (years, days, hours, minutes, seconds, milli, micro),
        ("year", "day", "hour", "minute", "second", "millisecond", "microsecond"),
        strict=True,
    )
    return ", ".join(f"{number} {word}{'' if number == 1 else 's'}" for number, word in parts)


def local_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
