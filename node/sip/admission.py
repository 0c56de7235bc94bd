"""Who is served when not all can be: the decisions, without sockets and clocks.

    Sources     how many requests a second one address may send, and all together
    PenaltyBox  who has guessed at passwords for too long
    Backlog     what waits when there is more than can be served: who goes first, and who is refused

All tables are bounded: who is forgotten starts anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from ipaddress import AddressValueError, IPv6Address
from typing import Generic, TypeVar

from node.sip.glance import Standing

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TABLE = 16_384
"Entries of each half of a table."


class Table(Generic[K, V]):
    """A bounded mapping: at least the last `half` keys touched are known, at most twice as many."""

    __slots__ = ("_half", "_new", "_old")

    def __init__(self, half: int = TABLE) -> None:
        self._half = half
        self._new: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K, otherwise: V) -> V:
        found = self._new.get(key)
        return found if found is not None else self._old.get(key, otherwise)

    def put(self, key: K, value: V) -> None:
        new = self._new
        if key not in new and len(new) >= self._half:
            self._old, self._new = new, {}
            new = self._new
        new[key] = value

    def drop(self, key: K) -> None:
        self._new.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._new) + len(self._old)


def source_of(host: str) -> str:
    """By what a sender is counted: an IPv4 address as it is, an IPv6 address by its /64, which one household has whole."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except AddressValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return f"{IPv6Address(int(address) >> 64 << 64)}/64"


class Pace:
    """One allowance: `rate` a second, and `burst` seconds of it at once after a rest. 0: no limit.

    A token bucket told as the moment at which it would be full again (the generic cell rate algorithm): one number.
    """

    __slots__ = ("_burst", "_full_at", "_step")

    def __init__(self, rate: float, burst: float = 1.0) -> None:
        self._step = 1.0 / rate if rate else 0.0
        self._burst = burst
        self._full_at = 0.0

    def take(self, now: float, stretch: float = 1.0) -> bool:
        """Take one, if there is one. With `stretch` 2.0 as much again may be taken: for what is more urgent."""
        full_at = self._full_at
        if full_at < now:
            full_at = now
        if full_at - now >= self._burst * stretch:
            return False
        self._full_at = full_at + self._step
        return True


class Sources:
    """The same allowance for each source: a table of the moments at which `Pace` would be full again."""

    def __init__(self, rate: float, burst: float = 2.0, half: int = TABLE) -> None:
        self._step = 1.0 / rate if rate else 0.0
        self._burst = burst
        self._half = half
        self._new: dict[str, float] = {}
        self._old: dict[str, float] = {}

    def take(self, source: str, now: float, stretch: float = 1.0) -> bool:
        """Take one of what the source has, if there is one; as `Pace.take`. The only one that each request asks."""
        full_at = self._new.get(source)
        if full_at is None:
            full_at = self._enter(source)
        if full_at < now:
            self._new[source] = now + self._step
        elif full_at - now < self._burst * stretch:
            self._new[source] = full_at + self._step
        else:
            return False
        return True

    def charge(self, source: str, now: float) -> None:
        """Take one whether there is one or not, so far as to twice the burst: it came without asking."""
        if not self.take(source, now, 2.0):
            self._new[source] = now + 2 * self._burst

    def spent(self, source: str, now: float) -> bool:
        """Has it been charged for all that it may have, and as much again?"""
        return self._new.get(source, 0.0) - now >= 2 * self._burst - self._step > 0

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def _enter(self, source: str) -> float:
        """A source that was not seen for a while, or never. Those of a table that has filled up since are forgotten."""
        if len(self._new) >= self._half:
            self._old, self._new = self._new, {}
        return self._old.pop(source, 0.0)


class PenaltyBox:
    """Sources that gave wrong credentials too often are not heard for a while."""

    def __init__(self, failures: int, within: float = 60.0, penalty: float = 60.0, half: int = TABLE) -> None:
        """More than `failures` in `within` seconds (0: never) cost `penalty` seconds."""
        self.failures = failures
        self.penalty = penalty
        # The half step less lets exactly so many pass, however close together they come.
        self._pace = Sources(failures / within, within - within / failures / 2, half) if failures else None
        self._until: Table[str, float] = Table(half)

    def __len__(self) -> int:
        return len(self._until)

    def fail(self, source: str, now: float) -> bool:
        """One more failure. Does it send the source into the box?"""
        if self._pace is None or self._pace.take(source, now):
            return False
        inside = self.holds(source, now)
        self._until.put(source, now + self.penalty)
        return not inside

    def holds(self, source: str, now: float) -> bool:
        return self._until.get(source, 0.0) > now


class Backlog(Generic[K]):
    """New requests that wait for their turn, in two queues, and none longer than until its sender would send it again.

    Time here is our own: it stands still while others have the processor. So a machine that is busy with others makes
    everybody wait, which is not mended by refusing them. What is repeated meanwhile waits once.

    The queue is the measure of the overload. A burst may fill it. But where it did not get empty for half a second there
    is room for as many as are served in 150 ms: who would wait longer is refused as he comes, when it costs least. So the wait stays short whatever is offered, and nobody is refused while there is time to serve him.

    Who is challenged comes again, a second later if he is slow, and to refuse him then is to have wasted the first half.
    So where that happens, new ones are served no faster than the challenged ones were, and gradually faster again.
    """

    PATIENCE = {Standing.CHALLENGED: 0.9, Standing.FRESH: 0.35}
    "Seconds. For new ones below T1 (RFC 3261 17.1.1.1), when they are sent again."
    SLOWER = 0.9
    "Of what was the best rate of challenged ones: so many new ones are served when some of those were refused."
    FASTER = 1.02
    "Times as many new ones are served after a look that saw none refused: hasty, it would not wait for those who are slow."
    FADING = 0.98
    "Of the best rate, what is left of it at each look."
    FREE = 20_000.0
    "New ones a second beyond which there is no limit."
    DEPTH = 0.15
    "Seconds that the queue should be long."
    BURST = 0.5
    "Seconds for which it may be longer."
    LOOK = 0.1
    "Seconds between two looks at how many are served."
    LEAST = 16
    "There is always room for so many."

    def __init__(self, most: int = 2048) -> None:
        self._most = most
        self._pace = most
        "How many are served in `DEPTH`."
        self._served = 0
        self._finished = 0
        "Challenged ones served since the last look."
        self._wasted = 0
        "Challenged ones refused since then."
        self._best = 0.0
        "Challenged ones served in a second, at best."
        self._rate = self.FREE
        "New ones that are served in a second."
        self._due = 0.0
        "Moment of the next new one."
        self._looked = 0.0
        self._empty_at = 0.0
        self._challenged: deque[tuple[float, K]] = deque()
        self._fresh: deque[tuple[float, K]] = deque()
        self._inside: set[K] = set()

    def __len__(self) -> int:
        return len(self._challenged) + len(self._fresh)

    def put(self, item: K, standing: Standing, now: float) -> bool:
        """Let it wait, if there is room."""
        if item in self._inside:
            return True
        if now - self._looked >= self.LOOK:
            self._look(now)
        if standing is Standing.CHALLENGED:
            if len(self._challenged) >= self._most:
                self._wasted += 1
                return False
            self._challenged.append((now, item))
            self._inside.add(item)
            return True
        waiting = len(self._fresh)
        if not waiting:
            self._empty_at = now
        elif waiting >= (self._most if now - self._empty_at < self.BURST else self._pace):
            return False
        self._fresh.append((now, item))
        self._inside.add(item)
        return True

    def overdue(self, now: float) -> list[K]:
        """Those that have waited too long all the same, taken out."""
        found: list[K] = []
        for standing, queue in ((Standing.CHALLENGED, self._challenged), (Standing.FRESH, self._fresh)):
            limit = now - self.PATIENCE[standing]
            while queue and queue[0][0] < limit:
                found.append(queue.popleft()[1])
            if standing is Standing.CHALLENGED:
                self._wasted += len(found)
        self._inside.difference_update(found)
        return found

    def next(self, now: float) -> K | None:
        """Who is served next. None if nobody waits, or nobody is due.

        First those whose challenge is paid for. But new ones that have a rate are served at that rate all the same: were
        they stopped while others are served, both would come in waves.
        """
        limited = self._rate < self.FREE
        if limited and self._fresh and now >= self._due:
            self._due = max(self._due, now - self.LOOK) + 1 / self._rate
            return self._take(self._fresh)
        if self._challenged:
            self._finished += 1
            return self._take(self._challenged)
        return self._take(self._fresh) if self._fresh and not limited else None

    def clear(self) -> None:
        """Nobody waits any more, and there is no limit for new ones."""
        self._challenged.clear()
        self._fresh.clear()
        self._inside.clear()
        self._rate = self.FREE

    def _take(self, queue: deque[tuple[float, K]]) -> K:
        self._served += queue is self._fresh
        _, item = queue.popleft()
        self._inside.discard(item)
        return item

    def _look(self, now: float) -> None:
        since = now - self._looked
        self._pace = min(max(round(self._served * self.DEPTH / since), self.LEAST), self._most)
        self._best = max(self._best * self.FADING, self._finished / since, self.LEAST / self.DEPTH)
        if self._wasted or (self._challenged and now - self._challenged[0][0] > self.DEPTH):
            self._rate = self._best * self.SLOWER
        elif self._rate < self.FREE:
            self._rate *= self.FASTER
        self._looked, self._served, self._finished, self._wasted = now, 0, 0, 0
