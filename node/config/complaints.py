"""What is wrong with a configuration: gathered in one pass, each complaint with the file and line it is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
SHORTEST_SECRET = 4
"Shorter ones are taken for words such as `on`, which a complaint may hold by chance."


class Place(NamedTuple):
    """A line of a file as the operator wrote it (before any preprocessing)."""

    file: Path
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong. Its text never holds a secret."""

    file: Path
    line: int
    text: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `complaints` holds everything that was found, warnings too."""

    def __init__(self, complaints: Iterable[Complaint]) -> None:
        self.complaints = list(complaints)
        errors = [str(complaint) for complaint in self.complaints if complaint.severity == "error"]
        super().__init__("\n".join(errors))


class Complaints:
    """Where the readers write what they find."""

    def __init__(self) -> None:
        self._all: dict[Complaint, None] = {}
        self._unknown: set[tuple[str, str]] = set()
        self._secrets: set[str] = set()

    def error(self, place: Place, text: str) -> None:
        self._all.setdefault(Complaint(place.file, place.line, text, "error"))

    def warning(self, place: Place, text: str) -> None:
        self._all.setdefault(Complaint(place.file, place.line, text, "warning"))

    def unknown(self, place: Place, kind: str, name: str) -> None:
        """Something FreeSWITCH may know and this node has not: said once for each name, at its first place."""
        if (kind, name) not in self._unknown:
            self._unknown.add((kind, name))
            self.warning(place, f"{kind} {name!r} is not known to this node and has no effect")

    def hide(self, secret: str) -> None:
        """Never show this, should a complaint quote it (a password put into the wrong param)."""
        if len(secret) >= SHORTEST_SECRET:
            self._secrets.add(secret)

    def sorted(self) -> list[Complaint]:
        """Errors first, then by place."""
        found = sorted(self._all, key=lambda c: (c.severity != "error", str(c.file), c.line))
        return [replace(complaint, text=self._shown(complaint.text)) for complaint in found]

    @property
    def fatal(self) -> bool:
        return any(complaint.severity == "error" for complaint in self._all)

    def _shown(self, text: str) -> str:
        """Values are quoted in complaints: a secret is one there, and mere words (as `password`) elsewhere."""

        def mask(quoted: re.Match[str]) -> str:
            return "'***'" if any(secret in quoted[0] for secret in self._secrets) else quoted[0]

        return QUOTED.sub(mask, text)
