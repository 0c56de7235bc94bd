"""What the scenarios of this folder came to: each test is one, and a test says more of itself by `record`, `mark` and `span`.

At the end of a run all of it is printed as a table and written to `failover-report.json` and, with a picture of each
scenario, to `failover-report.html`. A figure that a scenario does not measure stays None.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JSON, HTML = ROOT / "failover-report.json", ROOT / "failover-report.html"


@dataclass(frozen=True)
class Mark:
    """Something that happened, in seconds since the scenario began; with an `until` it lasted."""

    at: float
    lane: str
    "Whose it is: the name of a node, `calls`, `store`, ...; a picture has one line for each."
    text: str
    until: float | None = None
    bad: bool = False


@dataclass
class Scenario:
    """One failover, as the report has it."""

    name: str
    result: str = ""
    "passed, failed or skipped."
    calls: int = 0
    "Answered calls when the fault came, and how many of them were lost by it."
    calls_lost: int = 0
    ringing: int = 0
    ringing_lost: int = 0
    sip_gap_ms: float | None = None
    "From the fault to the first right SIP answer."
    audio_gap_ms: float | None = None
    "The longest silence that a phone heard."
    two_actives: int | None = None
    "How often both nodes acted at once; None where nobody looked."
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)
    marks: list[Mark] = field(default_factory=list)
    recorded: set[str] = field(default_factory=set)
    "Names of figures that the scenario itself has said."
    suggested: dict[str, float] = field(default_factory=dict)

    def figures(self) -> dict[str, Any]:
        """As in the file."""
        names = ("name", "result", "calls", "calls_lost", "ringing", "ringing_lost", "sip_gap_ms", "audio_gap_ms")
        return {name: getattr(self, name) for name in (*names, "two_actives", "seconds")}


FIGURES = frozenset(Scenario("").figures()) - {"name", "result"}
scenarios: list[Scenario] = []
"Those of this run, in order."
_current: list[Scenario] = []


@contextmanager
def scenario(name: str) -> Iterator[Scenario]:
    """The scenario that `record`, `mark` and `span` belong to. Every test in this folder is inside one."""
    made = Scenario(name)
    scenarios.append(made)
    _current.append(made)
    try:
        yield made
    finally:
        _current.remove(made)
        made.seconds = made.seconds or round(time.monotonic() - made.began, 2)


def record(**figures: float | None) -> None:
    """Figures of the running scenario by the names of `Scenario`: `record(calls=100, calls_lost=0, sip_gap_ms=412)`.

    Said again they replace what was said before. Outside of a scenario nothing is kept.
    """
    assert FIGURES.issuperset(figures), f"the report has {', '.join(sorted(FIGURES))}"
    for running in _current[-1:]:
        for name, value in figures.items():
            setattr(running, name, round(value, 2) if isinstance(value, float) else value)
            running.recorded.add(name)


def suggest(**figures: float) -> None:
    """As `record`, but the worst of all that is suggested is kept, and nothing where the scenario has recorded a figure itself."""
    for running in _current[-1:]:
        for name, value in figures.items():
            if name not in running.recorded:
                worst = max(value, running.suggested.get(name, 0.0))
                running.suggested[name] = worst
                setattr(running, name, round(worst, 2))


def mark(text: str, lane: str = "test", *, at: float | None = None, bad: bool = False) -> None:
    """Something happens now, or happened `at` a moment of the monotonic clock."""
    for running in _current[-1:]:
        moment = time.monotonic() if at is None else at
        running.marks.append(Mark(moment - running.began, lane, text, bad=bad))


def span(text: str, lane: str, begin: float, end: float, *, bad: bool = False) -> None:
    """Something lasted from `begin` to `end`, moments of the monotonic clock."""
    for running in _current[-1:]:
        running.marks.append(Mark(begin - running.began, lane, text, end - running.began, bad))


def table(rows: Iterable[Scenario]) -> str:
    """All figures as text, a line a scenario."""
    heads = ("result", "calls", "lost", "ringing", "lost", "SIP ms", "audio ms", "actives", "seconds")
    lines = ["  ".join(f"{head:>8}" for head in heads) + "  scenario"]
    for each in rows:
        values = [each.calls, each.calls_lost, each.ringing, each.ringing_lost, each.sip_gap_ms, each.audio_gap_ms]
        actives = None if each.two_actives is None else ("one" if not each.two_actives else "TWO")
        cells = [each.result, *map(_short, values), actives or "-", f"{each.seconds:.1f}"]
        lines.append("  ".join(f"{cell:>8}" for cell in cells) + f"  {each.name}")
    return "\n".join(lines)


def summary(rows: list[Scenario]) -> str:
    """Sums of all, and the percentiles of the gaps."""
    lines = [
        f"{len(rows)} failover scenarios, {sum(row.result == 'passed' for row in rows)} passed; "
        f"calls {sum(row.calls for row in rows)}, lost {sum(row.calls_lost for row in rows)}; "
        f"ringing {sum(row.ringing for row in rows)}, lost {sum(row.ringing_lost for row in rows)}; "
        f"two actives {sum(row.two_actives or 0 for row in rows)}"
    ]
    for title, name in (("SIP", "sip_gap_ms"), ("audio", "audio_gap_ms")):
        gaps = sorted(value for row in rows if (value := getattr(row, name)) is not None)
        if gaps:
            lines.append(
                f"{title} gap of {len(gaps)}: p50 {quantile(gaps, 0.5):.0f} ms, p99 {quantile(gaps, 0.99):.0f} ms"
            )
    return "\n".join(lines)


def quantile(ordered: list[float], share: float) -> float:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def as_json(rows: Iterable[Scenario], headline: Sequence[dict[str, Any]] = ()) -> str:
    return json.dumps({"scenarios": [row.figures() for row in rows], "headline": list(headline)}, indent=1) + "\n"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
