"""How long a running worker works without a word to anybody: a stall shows here, whoever else has the processor."""

from __future__ import annotations

from pathlib import Path


class Effort:
    """Reads the processor time of a worker's loop whenever something of it was heard."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._last = self._seconds()
        self.most = 0.0
        "Seconds of processor time between two messages of its."

    def heard(self) -> None:
        now = self._seconds()
        self.most, self._last = max(self.most, now - self._last), now

    def _seconds(self) -> float:
        try:
            return int(self._path.read_text().split()[0]) / 1e9
        except FileNotFoundError:
            return self._last  # it is gone, and somebody else will say so
