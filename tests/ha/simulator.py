"""Two nodes, a store and a link in simulated time: the policy and the bookkeeping are real, the world is not.

Everything that can go wrong is drawn from a seed: crashes, frozen supervisors and hosts, a cut link, a store that is
slow, or gone for one node or both, or lost, or set back to what it was, a store whose clock jumps, monotonic clocks that
have nothing in common. What nodes did, and what the store accepted of it, is written down for the history checker.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from itertools import count

from ha.policy import Order, Role, Step, decide
from ha.settings import LeaseSettings, PeerSettings
from ha.standing import Standing
from store.records import Lease
from tests.support.history import Event, Kind

TICK = 0.005
LEASE = LeaseSettings()
PEER = PeerSettings(address=("192.0.2.1", 1), listen=("192.0.2.2", 1))


class World:
    """The true time, the store, the wires, and what is under way on them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = 1000.0
        self.lease: Lease | None = None
        self.epoch = 0
        self.store_offset = self.chance.uniform(1e6, 3e6)
        self.link_up = True
        self.hiccups = 0.01
        "How many of the store's answers take up to 0.4 s."
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.nodes = [SimulatedNode(self, "alpha"), SimulatedNode(self, "beta")]
        self.acted: list[str] = []
        self.history: list[Event] = []
        self.restored = 0
        "How often the store was set back."
        self._kept: tuple[Lease | None, int] = (None, 0)
        "What is set back to."

    def later(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + delay, next(self._order), action))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += TICK
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            for node in self.nodes:
                node.tick()
                node.work()
            acting = [node.name for node in self.nodes if node.acting]
            assert len(acting) < 2, f"two actives at {self.now:.3f}"
            if acting and self.acted[-1:] != acting:
                self.acted += acting

    @property
    def active(self) -> str | None:
        return next((node.name for node in self.nodes if node.acting), None)

    # ---- the store -------------------------------------------------------------------------------------------------

    @property
    def clock(self) -> float:
        return self.now + self.store_offset

    def read(self) -> Lease | None:
        if self.lease is None:
            return None
        return Lease(holder=self.lease.holder, epoch=self.lease.epoch, until=self.lease.until, now=self.clock)

    def acquire(self, holder: str) -> Lease | None:
        if self.lease and self.lease.holder != holder and self.lease.until > self.clock:
            return None
        self.epoch = max(self.epoch + 1, int(self.clock * 1000))
        self.lease = Lease(holder=holder, epoch=self.epoch, until=self.clock + LEASE.ttl, now=self.clock)
        self._note(holder, Kind.TAKEN, self.epoch)
        return self.lease

    def renew(self, holder: str, epoch: int) -> Lease | None:
        if self.lease is None or (self.lease.holder, self.lease.epoch) != (holder, epoch):
            return None
        self.lease = Lease(holder=holder, epoch=epoch, until=self.clock + LEASE.ttl, now=self.clock)
        return self.lease

    def release(self, epoch: int) -> None:
        if self.lease is not None and self.lease.epoch == epoch:
            self._note(self.lease.holder, Kind.RELEASED, epoch)
            self.lease = None

    def write(self, node: str, epoch: int) -> None:
        """What is older than the fence is refused."""
        if epoch >= self.epoch:
            self._note(node, Kind.WRITE, epoch)

    def jump(self, seconds: float) -> None:
        """Its clock."""
        self.store_offset += seconds
        self._note("", Kind.JUMPED, 0)

    def keep(self) -> None:
        """A snapshot."""
        self._kept = (self.lease, self.epoch)

    def set_back(self) -> None:
        """To the last snapshot, or to nothing where there is none: that is a store that was lost."""
        self.lease, self.epoch = self._kept
        self.restored += 1
        self._note("", Kind.SET_BACK, 0)

    def _note(self, node: str, kind: Kind, epoch: int) -> None:
        self.history.append(Event(self.now, node, kind, epoch))


class SimulatedNode:
    """A supervisor without processes: what it may do is a moment until which its workers act."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.offset = world.chance.uniform(0, 1e6)
        self.store_up = True
        self.crashed_until = 0.0
        self.supervisor_frozen_until = 0.0
        self.host_frozen_until = 0.0
        self.life = 0
        self.boot()

    def boot(self) -> None:
        self.life += 1
        self.standing = Standing(self.name, LEASE, PEER, alone=False, now=self.clock)
        self.workers_until = -math.inf
        self.epoch = 0
        "Under which its workers write."
        self.done_at = math.inf
        self.busy_since: float | None = None
        self.next_store = self.next_beat = self.next_ask = self.claim_after = 0.0
        self.ready_at = self.clock + self.world.chance.uniform(0.2, 1.0)
        self.inbox: list[Callable[[], None]] = []
        self.down = False

    @property
    def clock(self) -> float:
        return self.world.now + self.offset

    @property
    def peer(self) -> SimulatedNode:
        return next(node for node in self.world.nodes if node is not self)

    @property
    def acting(self) -> bool:
        """Workers answer as long as their process lives, runs and has not come to the end of its lease."""
        return not self.down and self.world.now >= self.host_frozen_until and self.clock < self.workers_until

    # ---- what befalls it -------------------------------------------------------------------------------------------

    def crash(self, for_seconds: float) -> None:
        self.down = True
        self.crashed_until = self.world.now + for_seconds
        self.workers_until = -math.inf
        self.peer.hear(self.peer.standing.on_peer_closed)

    # ---- its life --------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        now = self.world.now
        if self.down:
            if now < self.crashed_until:
                return
            self.boot()
        if now < max(self.supervisor_frozen_until, self.host_frozen_until):
            return
        inbox, self.inbox = self.inbox, []
        for action in inbox:
            action()
        role = self.standing.role
        self._decide()
        if self.standing.role is not role:
            self.next_beat = 0.0  # the peer is told at once
        self._store()
        self._beat()

    def work(self) -> None:
        """What workers do: answer, and write; a write is under way for a while, and may arrive when its author is no more."""
        if not self.acting:
            return
        chance = self.world.chance
        if chance.random() < 0.1:
            self.world.history.append(Event(self.world.now, self.name, Kind.ANSWER))
        if chance.random() < 0.1:
            epoch, store = self.epoch, self.world.restored
            delay = chance.uniform(0.0005, 0.4 if chance.random() < self.world.hiccups else 0.02)

            def arrive() -> None:
                # No connection outlives the restoring of its store, and no write that was under way on it.
                if self.store_up and self.world.restored == store:
                    self.world.write(self.name, epoch)

            self.world.later(delay, arrive)

    def _decide(self) -> None:
        standing, now = self.standing, self.clock
        step = decide(standing.view(now, ready=now >= self.ready_at, done=now >= self.done_at))
        chance = self.world.chance
        match step:
            case Step.CLAIM if self.busy_since is None and now >= self.claim_after:
                standing.claiming = True
                self.claim_after = now + 0.05
                self._ask_store(lambda: self.world.acquire(self.name), self._on_acquired)
            case Step.RELEASE if self.busy_since is None:
                self._release()
            case Step.PROMOTE:
                standing.role, self.done_at = Role.PROMOTING, now + chance.uniform(0.01, 0.3)
                self.workers_until, self.epoch = standing.until, standing.epoch
            case Step.SERVE:
                standing.role = Role.ACTIVE
            case Step.DEMOTE:
                standing.role, self.done_at = Role.DEMOTING, now + chance.uniform(0.01, 0.15)
                # They are told at once; one that does not hear is killed.
                self.workers_until = min(self.workers_until, now + chance.choice([0.003, 0.01, 0.13]))
            case Step.REST:
                self._rest()
            case Step.ASK | Step.MAKE_SURE | Step.PAUSE if now >= self.next_ask:
                self._ask_promise(standing)
        if standing.role in (Role.PROMOTING, Role.ACTIVE):
            self.workers_until = standing.until

    def _rest(self) -> None:
        self.workers_until = -math.inf
        handed = self.standing.order is Order.HAND_OVER
        self.standing.role = Role.STANDBY
        self.ready_at = self.clock + self.world.chance.uniform(0.1, 0.6)
        self.busy_since = None
        self._release(handed=handed)

    def _release(self, *, handed: bool = False) -> None:
        lease, peer = self.standing.lease, self.peer
        self.standing.on_released()
        if lease is None:
            return
        self._ask_store(
            lambda: self.world.release(lease.epoch),
            lambda _answer, _began: self._send(lambda: peer.standing.on_handed_over(peer.clock)) if handed else None,
        )

    # ---- its store calls: lost where the store is cut, late by chance ----------------------------------------------

    def _store(self) -> None:
        now = self.clock
        if self.busy_since is not None and now - self.busy_since > LEASE.stuck:
            self.busy_since = None
            self.standing.on_claim_failed()
        if self.busy_since is not None or now < self.next_store:
            return
        lease = self.standing.lease
        if self.standing.overtaken(now):
            self.standing.claiming = True
            self.next_store = now + LEASE.renew
            self._ask_store(lambda: self.world.acquire(self.name), self._on_acquired)
        elif lease is not None:
            self.next_store = now + LEASE.renew
            self._ask_store(lambda: (self.world.renew(self.name, lease.epoch),), self._on_renewed)
        else:
            self.next_store = now + self.standing.poll(now)
            self._ask_store(lambda: (self.world.read(),), self._on_read)

    def _ask_store(self, question: Callable[[], object], then: Callable[[object, float], None]) -> None:
        chance, life, began = self.world.chance, self.life, self.clock
        slow = 0.4 if chance.random() < self.world.hiccups else 0.02
        self.busy_since = began

        def execute() -> None:
            if not self.store_up:
                return
            answer = question()
            self.world.later(chance.uniform(0.0005, slow), lambda: self.hear(lambda: arrive(answer), life))

        def arrive(answer: object) -> None:
            if self.busy_since == began:
                self.busy_since = None
                then(answer, began)

        self.world.later(chance.uniform(0.0005, slow), execute)

    def _on_acquired(self, lease: object, began: float) -> None:
        if isinstance(lease, Lease):
            self.standing.on_acquired(lease, began, self.clock)
            # Workers that serve go on under the new epoch.
            self.epoch = self.standing.epoch
        else:
            self.standing.on_claim_failed()

    def _on_renewed(self, answer: object, began: float) -> None:
        assert isinstance(answer, tuple)
        if answer[0] is None:
            self.standing.on_lost()
        else:
            self.standing.on_renewed(answer[0], began, self.clock)

    def _on_read(self, answer: object, began: float) -> None:
        assert isinstance(answer, tuple)
        self.standing.on_read(answer[0], began, self.clock)

    # ---- its peer --------------------------------------------------------------------------------------------------

    def hear(self, action: Callable[[], None], life: int | None = None) -> None:
        if not self.down and life in (None, self.life):
            self.inbox.append(action)

    def _send(self, action: Callable[[], None]) -> None:
        peer, life = self.peer, self.peer.life

        def deliver() -> None:
            if self.world.link_up:
                peer.hear(action, life)

        self.world.later(self.world.chance.uniform(0.0005, 0.03), deliver)

    def _beat(self) -> None:
        if self.clock >= self.next_beat:
            self.next_beat = self.clock + PEER.beat
            peer, role = self.peer, self.standing.role
            self._send(lambda: peer.standing.on_beat(role, peer.clock))

    def _ask_promise(self, standing: Standing) -> None:
        peer, number = self.peer, standing.ask(self.clock)
        self.next_ask = self.clock + PEER.beat

        def asked() -> None:
            if peer.standing.promise(LEASE.ttl, peer.clock):
                ruled = peer.standing.ruled
                peer._send(lambda: standing.on_promise(number, LEASE.ttl, ruled, self.clock))

        self._send(asked)
