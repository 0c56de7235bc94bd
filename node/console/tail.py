"""New lines of the node's log, for clients that asked for them with `log`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

BEHIND = 256 * 1024
"Bytes read at one time; when more have come, the older ones are passed over."
LINE = re.compile(r"\S+ \S+ \[(?P<level>[A-Z]+)\] (?P<process>\S+) (?P<logger>\S+): ")
LEVELS = {"DEBUG": 7, "INFO": 6, "NOTICE": 5, "WARNING": 4, "ERROR": 3, "CRITICAL": 2, "ALERT": 1, "CONSOLE": 0}


@dataclass(frozen=True, slots=True)
class Line:
    """One line as written, with FreeSWITCH's number of its level."""

    text: str
    level: int
    source: str


class Tail:
    """Reads on from where it began, over log rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self._offset = 0
        self._rest = b""
        self._level = 6
        self._source = ""

    def start(self) -> None:
        """Begin at the end of the file as it is now."""
        self._inode, self._offset = self._stat()
        self._rest = b""

    def read(self) -> list[Line]:
        inode, size = self._stat()
        if inode != self._inode or size < self._offset:
            self._inode, self._offset, self._rest = inode, 0, b""
        if size == self._offset:
            return []
        if size - self._offset > BEHIND:
            self._offset, self._rest = size - BEHIND, b""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(size - self._offset)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [self._line(line.decode("utf-8", "replace")) for line in lines]

    def _line(self, text: str) -> Line:
        """A line without a head belongs to the record before it (a traceback)."""
        match = LINE.match(text)
        if match is not None:
            self._level = LEVELS.get(match["level"], 6)
            self._source = match["logger"]
        return Line(text + "\n", self._level, self._source)

    def _stat(self) -> tuple[int, int]:
        try:
            status = os.stat(self._path)
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size
