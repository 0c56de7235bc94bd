"""How this node comes by the lease and keeps it: the store calls that the standing lives on."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha.lease import Acquire, LeaseKeeper, Read, Release, Renew, Reply
from ha.loop import Loop
from ha.settings import LeaseSettings
from ha.standing import Standing

log = logging.getLogger(__name__)

CLAIM_AGAIN = 0.05
"Seconds between two claims."


class Holder:
    """Looks at the lease, claims it, renews it, gives it back; one look or renewal at a time."""

    def __init__(
        self,
        loop: Loop,
        keeper: LeaseKeeper,
        *,
        standing: Standing,
        settings: LeaseSettings,
        on_acquired: Callable[[], None],
        on_renewed: Callable[[], None],
    ) -> None:
        self._loop, self._keeper, self._standing, self._settings = loop, keeper, standing, settings
        self._on_acquired, self._on_renewed = on_acquired, on_renewed
        self._asked = False
        self._next = self._next_claim = loop.now()

    @property
    def idle_for(self) -> float:
        """Seconds until the store is to be asked again."""
        return 0.2 if self._asked else max(0.0, self._next - self._loop.now())

    def hurry(self) -> None:
        """Ask the store at once: something has happened to the lease."""
        self._next = self._loop.now()

    def look(self) -> None:
        """Renew what is ours, look at what is not, when it is time."""
        now, lease = self._loop.now(), self._standing.lease
        if self._asked or now < self._next:
            return
        if self._standing.overtaken(now):
            self._next = now + self._settings.renew
            self.claim()
            return
        self._asked = True
        if lease is not None:
            self._next = now + self._settings.renew
            self._keeper.ask(Renew(lease, self._settings.ttl), self._renewed)
        else:
            self._next = now + self._standing.poll(now)
            self._keeper.ask(Read(), self._read)

    def claim(self) -> None:
        now = self._loop.now()
        if self._standing.claiming or now < self._next_claim:
            return
        self._standing.claiming = True
        self._next_claim = now + CLAIM_AGAIN
        self._keeper.ask(Acquire(self._standing.node, self._settings.ttl), self._acquired)

    def release(self, then: Callable[[], object] = lambda: None) -> None:
        """Give the lease back; `then` follows when the store has answered. Nothing happens where there is none."""
        lease = self._standing.lease
        self._standing.on_released()
        if lease is not None:
            self._keeper.ask(Release(lease), lambda _reply: then())

    def lose(self) -> None:
        """Somebody was told by the store that the lease is not ours."""
        self._standing.on_lost()
        self.hurry()

    def _renewed(self, reply: Reply) -> None:
        self._asked = False
        if reply.lost:
            log.error("%s", reply.error)
            self.lose()
        elif reply.lease is not None and reply.lease.epoch == self._standing.epoch:
            self._standing.on_renewed(reply.lease, reply.began, self._loop.now())
            self._on_renewed()

    def _read(self, reply: Reply) -> None:
        self._asked = False
        if not reply.error:
            self._standing.on_read(reply.lease, reply.began, self._loop.now())

    def _acquired(self, reply: Reply) -> None:
        self.hurry()
        if reply.lease is None:
            self._standing.on_claim_failed()
            return
        self._standing.on_acquired(reply.lease, reply.began, self._loop.now())
        log.info("the lease is ours under epoch %d", reply.lease.epoch)
        self._on_acquired()
