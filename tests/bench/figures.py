"""One figure of the table: ours, the peer's, and the ratio between them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """`ratio` above 1 means that we are ahead; `peer` is None where there is none."""

    name: str
    unit: str
    ours: float
    peer: str | None = None
    peers_value: float | None = None
    note: str = ""
    rate: bool = False
    "So much is done in a second: more is better. Else it is what a unit costs."

    @property
    def ratio(self) -> float | None:
        if not self.peers_value or not self.ours:
            return None
        return round(self.ours / self.peers_value if self.rate else self.peers_value / self.ours, 2)

    def as_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": round(self.ours, 3),
            "peer": self.peer,
            "peers_value": None if self.peers_value is None else round(self.peers_value, 3),
            "ratio": self.ratio,
            "note": self.note,
        }


def table(figures: Sequence[Figure]) -> str:
    """The figures as aligned columns; what each note says stands last, as it may be long."""
    rows = [("name", "ours", "unit", "peer", "peer's", "ratio", "note")]
    for f in figures:
        theirs, ratio = ("-" if value is None else f"{value:.2f}" for value in (f.peers_value, f.ratio))
        rows.append((f.name, f"{f.ours:.2f}", f.unit, f.peer or "-", theirs, ratio, f.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def write(figures: Sequence[Figure], path: Path) -> None:
    """The figures as a JSON list of objects."""
    path.write_text(json.dumps([figure.as_json() for figure in figures], indent=2) + "\n")
