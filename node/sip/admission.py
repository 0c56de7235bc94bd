"""Who is served when not all can be: the decisions, without sockets and clocks.

    Sources     how many requests a second one address may send, and all together
    PenaltyBox  who has guessed at passwords for too long
    Told        what was answered without keeping a transaction of it: copies of it are known by that
    Backlog     what waits when there is more than can be served: who goes first, and who is refused

All tables are bounded: who is forgotten starts anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from ipaddress import AddressValueError, IPv6Address
from itertools import islice, takewhile
from typing import Generic, Literal, TypeVar

from node.sip.glance import Standing

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

TABLE = 16_384
"Entries of each half of a table."

BURST = 0.5
"Seconds for which a queue may be longer than it should be."
LEAST = 16
"There is always room for so many: in a queue, and in the window."
LOOK = 0.1
"Seconds between two looks at how many are served."
UNSEEN = 1.0
"Seconds after which a look says nothing: there was no overload meanwhile."
SMOOTH = 0.3
"What a look adds to what was known before."
FADING = 0.98
"What a look leaves of what was best."
SOONEST = 0.2
"Seconds for which who was challenged is expected at least."
GONE = 4.0
"Seconds after which he is not, however slow the others are."


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
            self._new[source] = full_at  # it may have been in the older half, and would start anew
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


class Told:
    """Requests that were challenged or refused and are not kept: the copies that come later are known.

    Whoever waited for longer than T1 has sent copies (RFC 3261 17.1), which lie behind in the kernel's buffer. Taken for
    new they would be told something else than the first one: a 503 after a 407, to one who comes again already.
    """

    __slots__ = ("_at",)

    REACHES = 0.1
    "Seconds after which an answer has come to its receiver, and he sends no more copies for want of it."

    def __init__(self, half: int = TABLE) -> None:
        self._at: Table[bytes, tuple[float, bool]] = Table(half)

    def __len__(self) -> int:
        return len(self._at)

    def note(self, mark: bytes, now: float, *, refused: bool) -> None:
        """It was answered at this moment of the clock: refused, or challenged."""
        self._at.put(mark, (now, refused))

    def known(self, mark: bytes, arrived: float) -> Literal["new", "crossed", "refused"]:
        """A request that came then: is it new, or a copy that crossed its answer, or one of a refusal that was lost?

        A copy of one whose challenge was lost is new: it is challenged again.
        """
        at, refused = self._at.get(mark, _NEVER)
        if arrived <= at + self.REACHES:
            return "crossed"
        return "refused" if refused else "new"


_NEVER = (float("-inf"), False)


class Queue(Generic[K]):
    """Some that wait in the order in which they came, and how fast they are served."""

    __slots__ = ("_burst", "_depth", "_empty_at", "_items", "_most", "_pace", "_rate", "_refused", "_served")

    def __init__(self, most: int, depth: float) -> None:
        """At most so many; so many seconds long, if it does not get empty now and then."""
        self._most = most
        self._depth = depth
        self._items: deque[tuple[float, K]] = deque()
        self._served = 0
        "Since the last look."
        self._rate = 0.0
        self._pace = most
        "How many are served in `depth`: the room where it does not get empty."
        self._burst = most
        "The room where it does."
        self._empty_at = 0.0
        self._refused = False
        "Was the last one to leave refused? To be empty by that is no sign of time to spare."

    def __len__(self) -> int:
        return len(self._items)

    @property
    def rate(self) -> float:
        """How many are served in a second."""
        return self._rate

    def put(self, item: K, now: float, *, invited: bool = False) -> bool:
        """For who is `invited` there is room as long as there is memory."""
        waiting = len(self._items)
        if not waiting and not self._refused:
            self._empty_at = now
        elif waiting >= (self._most if invited else self._burst if now - self._empty_at < BURST else self._pace):
            return False
        self._items.append((now, item))
        return True

    def take(self) -> K:
        self._served += 1
        self._refused = False
        return self._items.popleft()[1]

    def before(self, moment: float) -> Iterator[K]:
        """Those that came before that, taken out."""
        items = self._items
        while items and items[0][0] < moment:
            self._refused = True
            yield items.popleft()[1]

    def look(self, since: float) -> None:
        """So many seconds have gone by."""
        if since < UNSEEN:
            rate = self._served / since
            self._rate += (rate - self._rate) * (SMOOTH if self._rate else 1.0)
            self._pace = self._room(self._depth)
            self._burst = self._room(self._depth * 3) if self._rate else self._most
        self._served = 0

    def _room(self, seconds: float) -> int:
        """How many are served in so many."""
        return min(max(round(self._rate * seconds), LEAST), self._most)

    def clear(self) -> None:
        self._items.clear()
        self._refused = False


class Expected:
    """Those who were challenged and have not come back yet: how many, and how long it takes them."""

    __slots__ = ("_late", "_sent", "_spread", "lag")

    def __init__(self) -> None:
        self.lag = 0.0
        "Seconds after which who is challenged comes again; 0 before anybody has."
        self._spread = 0.0
        "How far from it they are."
        self._sent: dict[Hashable, float] = {}
        "When each was challenged, the first ones first."
        self._late: dict[Hashable, float] = {}
        "Those who are not counted any more."

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def oldest(self) -> float:
        """When the first of them was challenged; 0 if there are none."""
        return next(iter(self._sent.values()), 0.0)

    def add(self, who: Hashable, now: float) -> None:
        self._sent.setdefault(who, now)

    def come(self, who: Hashable, now: float) -> bool:
        """Somebody with credentials. Was he challenged?"""
        at = self._sent.pop(who, 0.0) or self._late.pop(who, 0.0)
        if not at:
            return False
        off = now - at - self.lag
        if self.lag:
            self.lag += off / 8
            self._spread += (abs(off) - self._spread) / 4
        else:
            self.lag, self._spread = now - at, (now - at) / 2
        return True

    def look(self, now: float) -> None:
        """Count no more who should be back by now, and forget who will not come at all (as RFC 6298 reckons)."""
        sent, late = self._sent, self._late
        until = now - (min(max(self.lag + 4 * self._spread, SOONEST), GONE) if self.lag else SOONEST * 5)
        for who in [*takewhile(lambda each: sent[each] < until, sent)]:
            late[who] = sent.pop(who)
        until = now - GONE
        for who in [*takewhile(lambda each: late[each] < until, late)]:
            del late[who]
        for table in (sent, late):
            for who in [*islice(table, max(0, len(table) - TABLE))]:
                del table[who]


class Backlog(Generic[K]):
    """New requests that wait for their turn, in two queues: those with credentials for a challenge of ours, and others.

    Time here is our own: it stands still while others have the processor. So a machine that is busy with others makes
    everybody wait, which is not mended by refusing them.

    *Who comes in.* Where a queue gets empty now and then, it has room for a burst: for as many as are served in three times
    its `DEPTH`, and as long as that is not known for all. Where it did not for half a second, for as many as are served in
    its `DEPTH`: who would wait longer is refused as he comes, when it costs least. So the wait stays short whatever is
    offered, and nobody is refused while there is time to serve him.

    *Who is served.* Who is challenged comes again, a second later if he is slow, and to refuse him then is to have wasted
    the first half. So what was begun is bounded by a window, as what a TCP sender has under way: the challenges that nobody
    has come back to, and who has come back and waits. Within the window both go by turns, beyond it nothing new is begun.
    What is finished makes room for what is new, so both go at the same pace, whatever the machine can do and however slow
    the phones are. A window that is too small shows: new ones wait and there is nothing to finish. Then it grows, at most
    twofold until those who come of it are back. One that is too large shows: who comes back always waits. Then the rest is
    taken off.
    """

    PATIENCE = {Standing.CHALLENGED: 4.0, Standing.FRESH: 0.35}
    "Seconds. For new ones below T1 (RFC 3261 17.1.1.1), when they are sent again."
    DEPTH = {Standing.CHALLENGED: 1.0, Standing.FRESH: 0.15}
    "Seconds that a queue should be long."
    FIRST = 64.0
    "The window before anything is known."
    STANDING = 0.1
    "Seconds that who has come back may always wait: with less there would be nothing to finish now and then."

    def __init__(self, most: int = 2048) -> None:
        self._challenged: Queue[K] = Queue(most, self.DEPTH[Standing.CHALLENGED])
        self._fresh: Queue[K] = Queue(most, self.DEPTH[Standing.FRESH])
        self._inside: set[K] = set()
        self._expected = Expected()
        self._turn = False
        "Is it the turn of a new one?"
        self._window = self.FIRST
        self._best = 0.0
        "So many that had come back were served in a second lately, at best."
        self._hungry = False
        "Did new ones wait for nothing but the window, since the last look?"
        self._least = 0
        "So many that have come back were always waiting since then."
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self._challenged) + len(self._fresh)

    def put(self, item: K, standing: Standing, now: float, who: Hashable = None) -> bool:
        """Let it wait, CHALLENGED or FRESH, if there is room. What is repeated waits once. `who`: is the same in both."""
        if item in self._inside:
            return True
        if now - self._looked >= LOOK:
            self._look(now)
        if standing is Standing.CHALLENGED:
            taken = self._challenged.put(item, now, invited=self._expected.come(who, now))
        else:
            taken = self._fresh.put(item, now)
        if taken:
            self._inside.add(item)
        return taken

    def overdue(self, now: float) -> list[K]:
        """Those that have waited too long all the same, taken out."""
        found = [*self._challenged.before(now - self.PATIENCE[Standing.CHALLENGED])]
        found += self._fresh.before(now - self.PATIENCE[Standing.FRESH])
        self._inside.difference_update(found)
        return found

    def next(self, now: float) -> K | None:
        """Who is served next. None if nobody waits, or nothing new should be begun yet."""
        if now - self._looked >= LOOK:
            self._look(now)
        waiting = len(self._challenged)
        may_begin = self._fresh and waiting + len(self._expected) < self._window
        if waiting and not (may_begin and self._turn):
            self._turn = True
            self._least = min(self._least, waiting - 1)
            return self._take(self._challenged)
        if may_begin:
            self._turn = False
            return self._take(self._fresh)
        self._hungry = self._hungry or bool(self._fresh)
        self._least = 0
        return None

    def challenged(self, who: Hashable, now: float) -> None:
        """He was told to come again with credentials."""
        self._expected.add(who, now)

    def clear(self) -> None:
        """Nobody waits any more. What was learnt is kept."""
        self._challenged.clear()
        self._fresh.clear()
        self._inside.clear()

    def _take(self, queue: Queue[K]) -> K:
        item = queue.take()
        self._inside.discard(item)
        return item

    def _look(self, now: float) -> None:
        since = now - self._looked
        self._looked = now
        self._expected.look(now)
        self._challenged.look(since)
        self._fresh.look(since)
        self._best = max(self._best * FADING, self._challenged.rate)
        rest = self._least - self._best * self.STANDING
        if self._hungry:
            lag = max(self._expected.lag, now - self._expected.oldest if self._expected else 0.0, LOOK)
            self._window = min(self._window * 2 ** min(since / lag, 1.0), 2.0 * TABLE)
        elif rest > 0 and len(self._challenged) + len(self._expected) <= self._window:
            self._window -= rest
        self._window = max(self._window, self._best * self._expected.lag, LEAST)
        self._hungry = False
        self._least = len(self._challenged)
