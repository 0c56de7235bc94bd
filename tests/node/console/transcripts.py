"""Outputs captured from a running FreeSWITCH, for comparison. Line 1 of each file is a comment."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

FOLDER = Path(__file__).parents[2] / "data" / "transcripts"


def transcript(name: str) -> str:
    """The exact text that FreeSWITCH sent."""
    return (FOLDER / f"{name}.txt").read_text(encoding="utf-8").split("\n", 1)[1]


def headers_of(event: str) -> list[tuple[str, str]]:
    """The headers of a captured event, decoded."""
    lines = [line for line in event.split("\n\n")[0].split("\n") if line]
    pairs = [line.split(": ", 1) for line in lines]
    return [(name, "" if value == "_undef_" else unquote(value)) for name, value in pairs]
