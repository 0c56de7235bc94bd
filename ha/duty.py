"""What an active node does: its profiles' sockets are open, and each slot is served by a worker.

One verb fills a slot, whatever left it empty: the other host's death, the crash of a worker at home, a profile that
was started. It takes a loaded standby worker, the kept sockets, an epoch, and the slots whose calls are to be claimed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

from ha.fleet import Fleet, Member
from ha.lease import LeaseKeeper, RaiseFence, Reply
from ha.loop import Loop
from ha.sockets import CannotBind, KeptSocket, KeptSockets
from ha.switches import Switches
from node.config.profile import ProfileSettings
from node.link import Instruct, Lease, Message, Promote, Promoted, Revived, SocketName, Sockets

log = logging.getLogger(__name__)

PATIENCE = 0.3
"Seconds that a promotion waits for the store's word on a fence: SIP comes first."
REOPEN = 5.0
"Seconds until a profile that could not bind is tried again."
POISONED, WINDOW = 6, 10.0
"So many crashes of one slot within so many seconds: its records are not revived again."


@dataclass(slots=True, eq=False)
class Slot:
    """One place to be served by one worker."""

    name: str
    profile: str
    epoch: int = 0
    claims: list[str] = field(default_factory=list)
    "Slots whose calls are still to be claimed; known to be done when the worker says so."
    recover: bool = True
    member: Member | None = None
    served: bool = False
    fencing: bool = False
    owes: bool = False
    "Its epoch could not be raised after a crash: what its former worker wrote can only be claimed under another one."
    crashes: list[float] = field(default_factory=list)
    revived: Revived | None = None


@dataclass(slots=True, eq=False)
class Post:
    """One profile at work."""

    settings: ProfileSettings
    slots: list[Slot]
    state: Literal["STARTING", "RUNNING", "DOWN"] = "STARTING"
    error: str = ""
    since: float = 0.0
    "Seconds since 1970; 0 while it is not running."
    up_at: float = 0.0
    "The same by the monotonic clock."
    address: tuple[str, int] = ("", 0)
    "Where its udp socket is bound."
    listener: SocketName | None = None
    "Its first listening socket, if it has one."

    @property
    def settled(self) -> bool:
        """Served, or given up for now."""
        return self.state == "DOWN" or (self.state == "RUNNING" and all(slot.served for slot in self.slots))


class Duty:
    """The posts of an active node."""

    def __init__(self, loop: Loop, fleet: Fleet, sockets: KeptSockets, keeper: LeaseKeeper) -> None:
        self.posts: dict[str, Post] = {}
        self.on = False
        self.until = 0.0
        self.on_running: Callable[[Post], None] = lambda post: None
        "Told when a profile's sockets are open."
        self.switches = Switches()
        self._loop, self._fleet, self._sockets, self._keeper = loop, fleet, sockets, keeper
        self._epoch = 0
        self._recover = True
        self._orphans: dict[str, int] | None = None

    # ---- the whole -------------------------------------------------------------------------------------------------

    def begin(self, profiles: Iterable[ProfileSettings], *, epoch: int, until: float, recover: bool) -> None:
        """Open the sockets at once; slots are filled when `claimable` has been told whose calls there are."""
        self.on, self._epoch, self.until, self._recover = True, epoch, until, recover
        self._orphans = None
        for settings in profiles:
            self.start(settings)

    def claimable(self, slots: dict[str, int]) -> None:
        """Whose live calls the store holds: those of slots that nobody here serves are claimed too."""
        if self._orphans is not None or not self.on:
            return
        self._orphans = slots
        for post in self.posts.values():
            for slot in post.slots:
                slot.claims = self.claims(slot, slots)
        self.fill()

    def refresh(self, until: float) -> None:
        """Tell the workers until when they may act."""
        self.until = until
        for slot in self.slots():
            if slot.member is not None:
                self._fleet.send(slot.member, Lease(until, slot.epoch))

    def set_epoch(self, epoch: int, until: float) -> None:
        """The lease has been taken anew while the workers went on: they go on under its epoch.

        A claim that was under way has been fenced off by it, and is owed.
        """
        self._epoch = epoch
        for slot in self.slots():
            slot.owes = slot.owes or (slot.served and slot.revived is None)
            slot.epoch = epoch
        self.refresh(until)

    def end(self) -> None:
        self.on = False
        self.posts.clear()

    @property
    def done(self) -> bool:
        return self.on and self._orphans is not None and all(post.settled for post in self.posts.values())

    @property
    def useless(self) -> bool:
        """Not one profile could be started: another node may do better."""
        return self.on and bool(self.posts) and all(post.state == "DOWN" for post in self.posts.values())

    def slots(self) -> list[Slot]:
        return [slot for post in self.posts.values() for slot in post.slots]

    def slot_of(self, member: Member) -> Slot | None:
        return next((slot for slot in self.slots() if slot.member is member), None)

    # ---- one profile -----------------------------------------------------------------------------------------------

    def start(self, settings: ProfileSettings) -> None:
        """Open a profile's sockets and have its slots served."""
        slots = [
            Slot(f"{settings.name}#{number}", settings.name, self._epoch, recover=self._recover)
            for number in range(settings.workers)
        ]
        post = self.posts[settings.name] = Post(settings, slots)
        for slot in slots:
            slot.claims = self.claims(slot, self._orphans or {})
        self._sockets.open(settings, lambda error: self._on_opened(post, error))

    def stop(self, name: str, reason: str) -> None:
        """Send a profile's workers home; its calls must have been ended before."""
        post = self.posts.pop(name)
        self.switches.forget(name)
        for slot in post.slots:
            if slot.member is not None:
                self._fleet.dismiss(slot.member, reason, 0.5)
        self._sockets.park(name)

    def _on_opened(self, post: Post, error: CannotBind | None) -> None:
        if self.posts.get(post.settings.name) is not post:
            return
        if error is not None:
            if str(error) != post.error:
                log.error("%s; the profile is down, tried again every %.0f s", error, REOPEN)
            post.state, post.error = "DOWN", str(error)
            self._loop.after(REOPEN, lambda: self._reopen(post))
            return
        post.state, post.error = "RUNNING", ""
        post.since, post.up_at = time.time(), self._loop.now()
        post.address = next(((k.name.host, k.name.port) for k in self._sockets.to_send_on(post.settings.name)), ("", 0))
        post.listener = self._sockets.listener(post.settings.name)
        self._share(post)
        self.on_running(post)
        self.fill()

    def _reopen(self, post: Post) -> None:
        if self.posts.get(post.settings.name) is post:
            self._sockets.open(post.settings, lambda error: self._on_opened(post, error))

    def _share(self, post: Post) -> None:
        """Those who serve other profiles already get this one's socket to send on."""
        for slot in self.slots():
            if slot.member is not None and slot.profile != post.settings.name:
                kept = self._sockets.to_send_on(post.settings.name)
                names, descriptors = _apart(kept)
                self._fleet.send(slot.member, Sockets(names), descriptors)

    # ---- one slot --------------------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Give every empty slot a worker, as far as there are loaded ones."""
        if self.on and self._orphans is not None:
            for post in self.posts.values():
                for slot in post.slots:
                    if post.state == "RUNNING" and slot.member is None and not slot.fencing:
                        self._serve(slot)
        if self.on:
            # How many a standby needs is not said here: one for each slot that it might have to serve.
            self._fleet.spares = 1 + sum(slot.member is None for slot in self.slots())
        self._fleet.fill()

    def _serve(self, slot: Slot) -> None:
        member = self._fleet.take()
        if member is None:
            return
        names, descriptors = _apart(self._sockets.for_worker(slot.profile, slot.name))
        promote = Promote(
            slot=slot.name,
            epoch=slot.epoch,
            # What a worker wrote that is not fenced off is under this very epoch: a claim would find nothing to be there.
            claims=[] if slot.owes else slot.claims,
            sockets=names,
            recover=slot.recover,
            owed=slot.owes and slot.recover,
            lease_until=self.until,
            orders=self.switches.orders(),
        )
        member.slot = slot.name
        slot.member, slot.served = member, False
        if not self._fleet.send(member, promote, descriptors):
            self._fleet.kill(member, "it cannot be promoted")
        elif member.generation != self._fleet.generation:
            # It was born under another configuration, and nobody of the present one was loaded.
            self._fleet.send(member, Instruct(number=0, verb="rescan"))

    def on_message(self, member: Member, message: Message) -> None:
        slot = self.slot_of(member)
        if slot is None:
            return
        match message:
            case Promoted():
                slot.served = True
                log.info("%s is served by pid %d under epoch %d", slot.name, member.process.pid, slot.epoch)
            case Revived(calls=calls, legs=legs, failed=failed, seconds=seconds):
                slot.claims, slot.revived = [slot.name], message
                if calls or failed:
                    log.info(
                        "%s revived %d calls with %d legs in %.3f s, %d failed", slot.name, calls, legs, seconds, failed
                    )

    def on_ended(self, member: Member) -> None:
        """A worker is gone. If it served a slot, that needs another one, under an epoch that fences the dead one off."""
        slot = self.slot_of(member)
        if slot is None:
            return
        slot.member, slot.served = None, False
        if not self.on:
            return
        now = self._loop.now()
        slot.crashes = [at for at in slot.crashes if now - at < WINDOW] + [now]
        if len(slot.crashes) >= POISONED:
            log.error("%s crashed %d times, its calls are not revived this time", slot.name, len(slot.crashes))
        slot.recover = len(slot.crashes) < POISONED
        self.fence(slot, lambda: self.fill())

    def fence(self, slot: Slot, then: Callable[[], None]) -> None:
        """Raise the fence of a slot; `then` follows when it stands, or when the store has taken too long."""
        slot.fencing = waiting = True

        def on_reply(reply: Reply) -> None:
            # Who goes on under the old epoch by then is fenced off by a late one, and still owes his calls: the next is his.
            if waiting and reply.epoch:
                slot.epoch, slot.owes = reply.epoch, False
            proceed(reply.error)

        def proceed(error: str) -> None:
            nonlocal waiting
            if not waiting:
                return
            slot.fencing = waiting = False
            if error:
                slot.owes = True
                log.error(
                    "%s goes on under its old epoch, without its calls: %s; `sofia recover` claims them",
                    slot.name,
                    error,
                )
            then()

        self._keeper.ask(RaiseFence(slot.name), on_reply)
        self._loop.after(PATIENCE, lambda: proceed(f"no new epoch within {PATIENCE} s"))

    def claims(self, slot: Slot, live: dict[str, int]) -> list[str]:
        """A slot's own calls; for the first of a profile also those of slots that exist no more."""
        post = self.posts[slot.profile]
        if slot is not post.slots[0]:
            return [slot.name]
        here = {each.name for each in post.slots}
        return [slot.name] + [name for name in live if name.rpartition("#")[0] == slot.profile and name not in here]


def _apart(kept: list[KeptSocket]) -> tuple[list[SocketName], list[int]]:
    return [each.name for each in kept], [each.socket.fileno() for each in kept]
