"""Final responses to requests other than INVITE, for as long as those may be repeated (timer J, RFC 3261 17.2.2).

Half a minute of them is most of what a busy registrar remembers, so nothing is kept of each but its bytes and what its
request is recognised by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

MOST = 32_768
"""So many may wait for retransmissions at once; then the oldest is forgotten early.

At a kilobyte each. At 4,000 a second that is after eight seconds, in which five retransmissions would have come.
"""
LUMP = 1.0
"Seconds by which the first may be overdue before they are dropped, all at once that have had their time."


class Answered:
    """What was answered, by the key of the transaction."""

    __slots__ = ("_bytes", "_queue", "origins")

    def __init__(self) -> None:
        self.origins: dict[Sequence[str], Sequence[str]] = {}
        "Call-ID, From and CSeq of requests outside of dialogs, to the key of the first one (RFC 3261 8.2.2.2)."
        self._bytes: dict[Sequence[str], bytes] = {}
        self._queue: deque[tuple[float, Sequence[str], Sequence[str] | None]] = deque()

    def keep(self, key: Sequence[str], response: bytes, origin: Sequence[str] | None, until: float) -> None:
        """All are kept equally long, so `until` never goes back."""
        self._bytes[key] = response
        if origin is not None:
            self.origins[origin] = key
        self._queue.append((until, key, origin))
        if len(self._queue) > MOST:
            self._drop_first()

    def get(self, key: Sequence[str]) -> bytes | None:
        """What this request was answered; None if it was not, or long ago."""
        return self._bytes.get(key)

    def drop(self, now: float) -> None:
        """Forget those whose time is over."""
        queue = self._queue
        while queue and queue[0][0] <= now:
            self._drop_first()

    def next_wake(self) -> float | None:
        """When `drop` is worth calling."""
        return self._queue[0][0] + LUMP if self._queue else None

    def __len__(self) -> int:
        return len(self._bytes)

    def _drop_first(self) -> None:
        _, key, origin = self._queue.popleft()
        self._bytes.pop(key, None)
        if origin is not None and self.origins.get(origin) is key:
            del self.origins[origin]
