"""The figures that are promised, of how many runs, and beside them what FreeSWITCH does.

Any scenario gives samples; `make figures` repeats the promised ones often enough for a 99th percentile. FreeSWITCH's
figures are the published ones of its `sofia recover`; it is not run here.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.failover.report import quantile

ENOUGH = 30
"Runs from which on a goal is judged."

RESTART = "1.6 s restart, then recover: 7.4 s for 500 calls, 29.5 s for 1,000"
ONE_PROCESS = "one process: what ends is all of it, 1.6 s restart"


@dataclass(frozen=True)
class Goal:
    """One row. Times are in milliseconds, at most; shares are in percent, at least."""

    name: str
    freeswitch: str
    p50: float | None = None
    p99: float | None = None
    share: float | None = None


GOALS = (
    Goal("worker killed: SIP", ONE_PROCESS, p99=100),
    Goal("worker killed: audio", "silent until its leg is recovered", p99=100),
    Goal("host dead: SIP", RESTART, p50=500, p99=1000),
    Goal("host dead: audio", "silent until its leg is recovered", p99=1000),
    Goal("node killed: SIP", RESTART, p99=1000),
    Goal("node killed: audio", "silent until its leg is recovered", p99=1000),
    Goal("node killed: calls kept", "481 to a BYE before recover, half-dead calls left as zombies", share=100),
    Goal("switchover: SIP", "none: a shutdown hangs every call up"),
    Goal("switchover: audio", "none: a shutdown hangs every call up", p99=50),
    Goal("switchover: calls kept", "none: a shutdown hangs every call up", share=100),
    Goal("ringing kept, UDP", "none: only answered calls are on record", share=99),
    Goal("ringing kept, TCP", "none: only answered calls are on record", share=95),
    Goal("bindings reachable at takeover", "-", share=100),
    Goal("histories with one active at a time", "recover takes a living node's calls too", share=100),
)


@dataclass(frozen=True)
class Row:
    """A goal and what was reached."""

    goal: Goal
    samples: tuple[float, ...] = ()
    kept: int = 0
    of: int = 0

    @property
    def share(self) -> float | None:
        return 100 * self.kept / self.of if self.of else None

    @property
    def p50(self) -> float | None:
        return quantile(sorted(self.samples), 0.5) if self.samples else None

    @property
    def p99(self) -> float | None:
        return quantile(sorted(self.samples), 0.99) if self.samples else None

    @property
    def runs(self) -> int:
        return len(self.samples) or self.of

    @property
    def met(self) -> bool | None:
        """None where there is no goal, or too little to judge by."""
        goal = self.goal
        if self.runs < ENOUGH or (goal.p50, goal.p99, goal.share) == (None, None, None):
            return None
        pairs = ((self.p50, goal.p50), (self.p99, goal.p99), (goal.share, self.share))
        return all(got <= limit for got, limit in pairs if got is not None and limit is not None)

    def figures(self) -> dict[str, Any]:
        """As in the file."""
        goal = self.goal
        return {
            "name": goal.name,
            "runs": self.runs,
            "p50_ms": _round(self.p50),
            "p99_ms": _round(self.p99),
            "kept_percent": _round(self.share),
            "goal_p50_ms": goal.p50,
            "goal_p99_ms": goal.p99,
            "goal_kept_percent": goal.share,
            "met": self.met,
            "freeswitch": goal.freeswitch,
        }


NAMES = frozenset(goal.name for goal in GOALS)
_samples: dict[str, list[float]] = collections.defaultdict(list)
_shares: dict[str, list[tuple[int, int]]] = collections.defaultdict(list)


def sample(name: str, value: float) -> None:
    """One run took so many milliseconds."""
    assert name in NAMES, name
    _samples[name].append(value)


def count(name: str, kept: int, of: int) -> None:
    """Of so many were so many kept."""
    assert name in NAMES, name
    _shares[name].append((kept, of))


def rows() -> list[Row]:
    return [
        Row(
            goal,
            tuple(_samples[goal.name]),
            sum(kept for kept, _of in _shares[goal.name]),
            sum(of for _kept, of in _shares[goal.name]),
        )
        for goal in GOALS
    ]


def cells(row: Row) -> list[str]:
    """What stands in the table: name, runs, reached, promised, whether it was kept, FreeSWITCH."""
    goal = row.goal
    if row.share is not None:
        reached = f"{row.share:.2f} %"
    else:
        reached = "-" if row.p50 is None else f"p50 {row.p50:.0f}, p99 {row.p99:.0f} ms"
    wanted = ", ".join(f"{name} ≤ {value:g} ms" for name, value in (("p50", goal.p50), ("p99", goal.p99)) if value)
    if goal.share is not None:
        wanted = f"≥ {goal.share:g} %" if goal.share < 100 else "100 %"
    verdict = {None: "-", True: "met", False: "MISSED"}[row.met]
    return [goal.name, str(row.runs or "-"), reached, wanted or "-", verdict, goal.freeswitch]


HEADS = ("what", "runs", "reached", "promised", f"of {ENOUGH} runs", "FreeSWITCH")


def table(made: Iterable[Row]) -> str:
    """As text."""
    lines = [list(HEADS), *map(cells, made)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADS))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
