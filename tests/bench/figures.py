"""One figure of the table: ours, the peer's, and the ratio between them."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figure:
    """`ratio` above 1 means that we are ahead; `peer` is None where there is none."""

    name: str
    unit: str
    ours: float
    peer: str | None = None
    peers_value: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return round(self.peers_value / self.ours, 2) if self.peers_value and self.ours else None

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "ratio": self.ratio}


def table(figures: list[Figure]) -> str:
    rows = [("name", "ours", "unit", "peer", "peer's", "ratio", "note")]
    for f in figures:
        theirs = "-" if f.peers_value is None else f"{f.peers_value:.1f}"
        rows.append((f.name, f"{f.ours:.1f}", f.unit, f.peer or "-", theirs, str(f.ratio or "-"), f.note))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
