"""The report as one HTML page: a table of all scenarios, and of each a picture of what happened when, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tests.failover import headline
from tests.failover.headline import Row
from tests.failover.report import Mark, Scenario, summary

WIDTH, LEFT, LANE, TOP = 960, 110, 30, 22
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --dim: #667; --line: #ccd; --bar: #4a7fc1; --bad: #c0392b; --good: #2e8b57; --back: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --dim: #99a; --line: #445; --bar: #6f9fdc; --bad: #ff7b6b; --good: #6fcf97; --back: #15181c; }
}
body { font: 14px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 2em auto; max-width: 75em; padding: 0 1em; }
table { border-collapse: collapse; font-size: 12px; } td, th { padding: 2px 8px; border-bottom: 1px solid var(--line); text-align: right; }
td:last-child, th:last-child { text-align: left; } .headline td, .headline th { text-align: left; } pre { white-space: pre-wrap; } .failed { color: var(--bad); } .passed { color: var(--good); }
h2 { font-size: 15px; margin: 1.6em 0 .2em; } p { margin: 0; color: var(--dim); } svg { width: 100%; height: auto; display: block; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .dim { fill: var(--dim); } svg line { stroke: var(--line); }
svg .bar { fill: var(--bar); opacity: .35; } svg .badbar { fill: var(--bad); opacity: .5; } svg .dot { fill: var(--bar); } svg .baddot { fill: var(--bad); }
"""
HEADS = (
    "result",
    "calls",
    "lost",
    "ringing",
    "lost",
    "SIP gap ms",
    "audio gap ms",
    "two actives",
    "seconds",
    "scenario",
)


def page(scenarios: Sequence[Scenario], promised: Sequence[Row] = ()) -> str:
    """All of it, without anything from elsewhere."""
    rows = "".join(_row(number, each) for number, each in enumerate(scenarios))
    pictures = "".join(_section(number, each) for number, each in enumerate(scenarios))
    heads = "".join(f"<th>{head}</th>" for head in HEADS)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Failover report</title><style>{STYLE}</style><h1>Failover report</h1>"
        f"<pre>{escape(summary(list(scenarios)))}</pre>{_headline(promised)}<table><tr>{heads}</tr>{rows}</table>{pictures}</html>\n"
    )


def _headline(rows: Sequence[Row]) -> str:
    """What is promised, what was reached, and FreeSWITCH beside it."""
    if not rows:
        return ""
    lines = [headline.HEADS, *map(headline.cells, rows)]
    tags = ["th", *("td" for _ in rows)]
    made = "".join(
        f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in line)}</tr>"
        for tag, line in zip(tags, lines, strict=True)
    )
    return f'<h2>Promised, reached, and FreeSWITCH</h2><table class="headline">{made}</table><h2>Scenarios</h2>'


def _row(number: int, each: Scenario) -> str:
    values = list(each.figures().values())[1:]
    cells = "".join(f"<td>{'–' if value is None else escape(str(value))}</td>" for value in values[1:])
    link = f'<td><a href="#s{number}">{escape(each.name)}</a></td>'
    return f'<tr><td class="{each.result}">{each.result}</td>{cells}{link}</tr>'


def _section(number: int, each: Scenario) -> str:
    told = [
        f"{title} {value:g} ms" for title, value in (("SIP", each.sip_gap_ms), ("audio", each.audio_gap_ms)) if value
    ]
    calls = f"{each.calls} calls, {each.calls_lost} lost" if each.calls else ""
    ringing = f"{each.ringing} ringing, {each.ringing_lost} lost" if each.ringing else ""
    facts = "; ".join(filter(None, [each.result, calls, ringing, *told, f"{each.seconds:g} s"]))
    return f'<h2 id="s{number}">{escape(each.name)}</h2><p>{facts}</p>{picture(each)}'


def picture(each: Scenario) -> str:
    """A line for each lane, time from left to right. Of marks too close together only the first has its words beside it."""
    lanes = list(dict.fromkeys(mark.lane for mark in each.marks))
    if not lanes:
        return ""
    begin = min(0.0, min(mark.at for mark in each.marks))
    end = max(each.seconds, max(mark.until or mark.at for mark in each.marks), begin + 0.1)
    scale = (WIDTH - LEFT - 20) / (end - begin)
    height = TOP + LANE * len(lanes) + 18
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(each.name, quote=True)}">']
    for index, lane in enumerate(lanes):
        y = TOP + LANE * index + LANE / 2
        parts.append(f'<text x="4" y="{y + 4:g}">{escape(lane)}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:g}" y2="{y:g}"/>')
        parts += _lane([mark for mark in each.marks if mark.lane == lane], y, begin, scale)
    parts += _seconds(begin, end, scale, height)
    return "".join(parts) + "</svg>"


def _lane(marks: list[Mark], y: float, begin: float, scale: float) -> list[str]:
    parts, free = [], 0.0
    for mark in sorted(marks, key=lambda each: each.at):
        x = LEFT + (mark.at - begin) * scale
        when = f"{mark.at:.3f}" + (f"–{mark.until:.3f}" if mark.until is not None else "")
        title = f"<title>{when} s: {escape(mark.text)}</title>"
        if mark.until is not None:
            width = max(1.0, (mark.until - mark.at) * scale)
            kind = "badbar" if mark.bad else "bar"
            parts.append(
                f'<rect class="{kind}" x="{x:.1f}" y="{y - 6:g}" width="{width:.1f}" height="12">{title}</rect>'
            )
        else:
            kind = "baddot" if mark.bad else "dot"
            parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:g}" r="4">{title}</circle>')
        words = 6.0 * len(mark.text)
        at = min(x + 5, WIDTH - 20 - words)
        if at >= free:
            parts.append(f'<text x="{at:.1f}" y="{y - 7:g}">{escape(mark.text)}</text>')
            free = at + words + 6
    return parts


def _seconds(begin: float, end: float, scale: float, height: int) -> list[str]:
    step = next((step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if (end - begin) / step <= 14), 500)
    parts, at = [], 0.0
    while at <= end:
        x = LEFT + (at - begin) * scale
        parts.append(f'<text class="dim" x="{x:.1f}" y="{height - 4}" text-anchor="middle">{at:g} s</text>')
        at = round(at + step, 3)
    return parts
