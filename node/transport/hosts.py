"""The names in /etc/hosts, read again when the file changes."""

from __future__ import annotations

from pathlib import Path


class Hosts:
    """What the file says; a file that cannot be read says what it said last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1.0
        self._names: dict[str, list[str]] = {}

    def find(self, name: str) -> list[str]:
        """The addresses of a name, of both families."""
        try:
            changed = self._path.stat().st_mtime
            if changed != self._read_at:
                self._names = self._read()
                self._read_at = changed
        except OSError:
            pass
        return self._names.get(name.lower(), [])

    def _read(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.partition("#")[0].split()
            for name in words[1:]:
                names.setdefault(name.lower(), []).append(words[0])
        return names
