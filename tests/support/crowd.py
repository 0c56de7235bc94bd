"""A server of known capacity and a crowd of phones that want to register, in virtual time.

The server does what the intake does: it reads its socket, puts what is new into a backlog, and gives turns. All it does takes
time that is known exactly, so its capacity is too, and what the backlog makes of it can be told to the percent. The phones do
as real ones over UDP: they repeat what is not answered (RFC 3261 17.1.2.2), come again with credentials when they are
challenged, and give up when they are refused. Over TCP nothing is repeated.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from node.sip.admission import Backlog
from node.sip.glance import Standing
from node.transport.intake import READING, SERVING
from node.transport.sluice import Readings, Sluice
from node.transport.udp import BATCH

BUFFER = 4000
"Datagrams that the kernel keeps."
CHUNK = 120
"Messages of one read of a stream."
HOLD = 0.25
REPEATS = (0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)
"Seconds after the first sending."

Item = tuple[int, Standing]
"Phone and what it sends: FRESH without credentials, CHALLENGED with them."


@dataclass
class Costs:
    """Seconds of work at capacity 1 a second; all shrink alike as capacity grows."""

    challenge: float = 0.25
    finish: float = 0.75
    glance: float = 0.02
    "To read a message that is repeated, or waits. Part of what the first two cost."
    refusal: float = 0.05


@dataclass
class Crowd:
    """`run` it, then look at `finished`."""

    capacity: Callable[[float], float]
    "Registrations a second that can be finished, if nothing else was to be done, at this moment."
    offered: Callable[[float], float]
    "Phones that begin in a second, at this moment."
    streams: bool = False
    lag: float = 0.005
    "Seconds after which a phone comes again with its credentials."
    lost: float = 0.0
    "Of the challenged ones, so many never come again."
    strangers: bool = False
    "Does nothing show who comes again?"
    costs: Costs = field(default_factory=Costs)
    seed: int = 1

    def __post_init__(self) -> None:
        self.backlog: Backlog[Item] = Backlog()
        self.sluice = Sluice()
        self.now = 1000.0
        self.began = self.now
        self.finished: list[float] = []
        "Moments, from the begin on."
        self.refused: list[float] = []
        self.busy = 0.0
        self.most_waiting = 0
        self._dice = random.Random(self.seed)
        self._events: list[tuple[float, int, Item, int]] = []
        "Moment, number, what is sent then and for which time; heap."
        self._number = 0
        self._phones: dict[int, Standing] = {}
        "What each is waiting to have answered."
        self._buffer: deque[Item] = deque()
        self._blocked: deque[Item] = deque()
        "What the other end of a stream cannot send yet."
        self._stressed_until = 0.0
        self._stressed = False
        self._next_phone = self.now
        self._wait_until = 0.0

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self._arrive()
            self._drain()
            served = self._give_turns()
            if not served and not self._buffer:
                soonest = min(self._next_phone, self._events[0][0] if self._events else until)
                if len(self.backlog):
                    soonest = min(soonest, self.now + SERVING)
                self.now = max(self.now + 1e-6, min(soonest, until))

    def rate(self, begin: float, end: float) -> float:
        """Finished in a second, between two moments after the begin."""
        return sum(begin <= moment < end for moment in self.finished) / (end - begin)

    # ---- phones ----------------------------------------------------------------------------------------------------

    def _arrive(self) -> None:
        while self._next_phone <= self.now:
            rate = self.offered(self._next_phone - self.began)
            if rate <= 0:
                self._next_phone += 0.01
                continue
            self._number += 1
            self._begin(self._number, Standing.FRESH, self._next_phone)
            self._next_phone += 1 / rate
        while self._events and self._events[0][0] <= self.now:
            at, phone, item, times = heapq.heappop(self._events)
            if self._phones.get(phone) is item[1]:
                self._send(at, item, times)

    def _begin(self, phone: int, standing: Standing, at: float) -> None:
        self._phones[phone] = standing
        heapq.heappush(self._events, (at, phone, (phone, standing), 0))

    def _send(self, at: float, item: Item, times: int) -> None:
        if self.streams:
            if len(self._buffer) < BUFFER:
                self._buffer.append(item)
            else:
                self._blocked.append(item)
            return
        if times < len(REPEATS):
            before = REPEATS[times - 1] if times else 0.0
            heapq.heappush(self._events, (at + REPEATS[times] - before, item[0], item, times + 1))
        kept = item[1] is Standing.CHALLENGED and self.sluice.sparing
        if len(self._buffer) < BUFFER and (kept or self._dice.random() < self.sluice.passing):
            self._buffer.append(item)

    # ---- the server ------------------------------------------------------------------------------------------------

    def _spend(self, cost: float) -> None:
        seconds = cost / self.capacity(self.now - self.began)
        self.now += seconds
        self.busy += seconds

    def _drain(self) -> None:
        """As `Intake._drain`."""
        began, until, batch, put_off, vain = self.now, self.now + READING, 0, 0, 0
        was_stressed = self._stressed
        while self._buffer and (self.now < until or batch % BATCH):
            if self.streams and batch >= CHUNK:
                break
            if batch % BATCH == 0:
                self._arrive()
            batch += 1
            item = self._buffer.popleft()
            if self._blocked:
                self._buffer.append(self._blocked.popleft())
            if batch >= BATCH:
                self._stress()
            if item[1] is Standing.CHALLENGED and self._phones.get(item[0]) is not item[1]:
                self._spend(self.costs.glance)  # its transaction says the answer once more
            elif not self._stressed:
                self._spend(self.costs.glance)
                self._serve(item)
            else:
                put_off += 1
                self._spend(self.costs.glance)
                if not self.backlog.put(item, item[1], self.now, item if self.strangers else item[0]):
                    vain += 1
                    self._refuse(item)
        if put_off and was_stressed and not self.streams:
            self.sluice.note(Readings(put_off, vain, 0), self.now - began, mixed=False)
            self.sluice.adjust(self.now)
        self.most_waiting = max(self.most_waiting, len(self.backlog))

    def _stress(self) -> None:
        self._stressed = True
        self._stressed_until = self.now + HOLD

    def _give_turns(self) -> int:
        served = 0
        until = self.now + SERVING
        while self.now < until:
            for item in self.backlog.overdue(self.now):
                self._refuse(item)
            found = self.backlog.next(self.now)
            if found is None:
                break
            served += 1
            self._serve(found)
        if not len(self.backlog) and self._stressed:
            self.sluice.rest()
            if self.now >= self._stressed_until and not self._buffer:
                self._stressed = False
                self.backlog.clear()
                self.sluice.open()
        return served

    def _serve(self, item: Item) -> None:
        phone, standing = item
        if standing is Standing.CHALLENGED:
            self._spend(self.costs.finish - self.costs.glance)
            if self._phones.pop(phone, None):
                self.finished.append(self.now - self.began)
            return
        self._spend(self.costs.challenge - self.costs.glance)
        if self._stressed:
            self.backlog.challenged(item if self.strangers else phone, self.now)
        if self._phones.get(phone) is standing:
            if self._dice.random() < self.lost:
                del self._phones[phone]
            else:
                self._begin(phone, Standing.CHALLENGED, self.now + self.lag)

    def _refuse(self, item: Item) -> None:
        self._spend(self.costs.refusal - self.costs.glance)
        if self._phones.get(item[0]) is item[1]:
            del self._phones[item[0]]
            self.refused.append(self.now - self.began)
