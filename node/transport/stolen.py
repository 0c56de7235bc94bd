"""What others took: the time in which we were ready to run and somebody else had the processor.

Whoever is late because the machine is busy with others has not more to do than he can: he has less time. So the wait of
requests is measured by our own clock, which stands still meanwhile.
"""

from __future__ import annotations

import os


class Stolen:
    """Seconds this thread has waited for a processor since it began. 0 where the kernel does not count them."""

    def __init__(self) -> None:
        """For the thread that calls."""
        try:
            self._file = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1

    def __call__(self) -> float:
        """About 2 us."""
        if self._file < 0:
            return 0.0
        try:
            return int(os.pread(self._file, 64, 0).split()[1]) / 1e9
        except (OSError, ValueError, IndexError):
            return 0.0

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
