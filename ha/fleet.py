"""The children of the node: enough standby workers, one media process, one console; each watched by beats."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ha.loop import Loop
from ha.process import Backoff, Process
from ha.settings import ChildSettings
from ha.watchdog import Pulse
from node.link import Beat, Beaten, Demote, Failed, Follows, LinkClosed, Message, Ready, Stores

log = logging.getLogger(__name__)

CHANGED = "the configuration has changed"

SLOW = 4
"Beats of those that serve a slot to one of all others."


@dataclass(slots=True, eq=False)
class Member:
    """One child."""

    process: Process
    generation: int
    "Of the configuration that it was born with."
    pulse: Pulse
    ready: bool = False
    slot: str = ""
    leaving: bool = False
    "It was told to go; its end is no crash."
    reason: str = ""
    "What it said it cannot go on for."
    frozen: bool = False
    "It was killed because it stood still."
    follows: Follows | None = None
    told_at: float = 0.0
    "How far a standby worker was behind the store, and when it said so."
    stores: Stores | None = None
    "How it stood with the store when that had changed last."

    @property
    def kind(self) -> str:
        return self.process.kind

    @property
    def name(self) -> str:
        return self.slot or self.kind


class Owner(Protocol):
    """Who hears of the children."""

    def on_message(self, member: Member, message: Message) -> None: ...
    def on_ready(self, member: Member) -> None: ...
    def on_ended(self, member: Member) -> None:
        """A child is gone; `member.leaving` says whether it was told to go."""
        ...


class Fleet:
    """Forks children, keeps their number, hears their beats and their end."""

    def __init__(
        self,
        loop: Loop,
        fork: Callable[[str], Process],
        settings: ChildSettings,
        owner: Owner,
        *,
        kinds: tuple[str, ...],
    ) -> None:
        self.members: list[Member] = []
        self.generation = 0
        self.spares = 1
        "Standby workers to be kept."
        self._oldest = 0
        "The first generation that may still serve."
        self._loop, self._fork, self._settings, self._owner = loop, fork, settings, owner
        self._kinds = kinds
        self._backoffs = {kind: Backoff() for kind in ("worker", *kinds)}
        self._beats = 0
        self._alarm = loop.every(settings.heartbeat, self._beat)
        self._beaten_at = loop.now()
        self.closing = False
        self._held_until = loop.now()

    # ---- who there is ----------------------------------------------------------------------------------------------

    def standby(self) -> list[Member]:
        """Workers without a slot, loaded ones first."""
        idle = [m for m in self.members if m.kind == "worker" and not m.slot and not m.leaving]
        return sorted(idle, key=lambda m: (m.generation != self.generation, not m.ready))

    def take(self) -> Member | None:
        """A loaded standby worker that knows the present configuration, or one whose successor is not loaded yet."""
        return next((m for m in self.standby() if m.ready and m.generation >= self._oldest), None)

    def serving(self) -> list[Member]:
        return [m for m in self.members if m.slot and not m.leaving]

    def of_kind(self, kind: str) -> Member | None:
        return next((m for m in self.members if m.kind == kind and not m.leaving), None)

    # ---- how there come to be more ---------------------------------------------------------------------------------

    def fill(self) -> None:
        """Fork what is missing, as fast as the back-off allows."""
        if self.closing:
            return
        now = self._loop.now()
        current = [m for m in self.standby() if m.generation == self.generation]
        wanted = self.spares - len(current)
        if any(m.ready and self._oldest <= m.generation < self.generation for m in self.standby()):
            # One after another: those that load take the processor from those that serve.
            wanted = min(wanted, 1 - sum(not m.ready for m in current))
        missing = ["worker"] * wanted if now >= self._held_until else []
        missing += [kind for kind in self._kinds if not any(m.kind == kind for m in self.members)]
        for kind in missing:
            if now < self._backoffs[kind].until:
                continue
            try:
                self._start(kind, now)
            except OSError as error:
                wait = self._backoffs[kind].ended(0.0, now)
                log.error("no %s can be started, tried again in %.1f s: %s", kind, wait, error)
                self._loop.after(wait, self.fill)
                return

    def hold_back(self, seconds: float) -> None:
        """No worker is started for so long: loading one takes a core for half a second, and somebody needs it now."""
        self._held_until = self._loop.now() + seconds
        self._loop.after(seconds, self.fill)

    def go_on(self) -> None:
        """What was held back is made up for."""
        self._held_until = self._loop.now()
        self.fill()

    def renew(self, *, alike: bool) -> None:
        """The configuration has changed: standby workers that know the old one make room for others, one by one.

        `alike`: it has the same profiles, so that those can serve until then. Else they go at once.
        """
        self.generation += 1
        if not alike:
            self._oldest = self.generation
            for member in self.standby():
                self.dismiss(member, CHANGED)
        self.fill()

    def _relieve(self) -> None:
        """Another one is loaded that knows the present configuration: one that does not makes room."""
        old = [m for m in self.standby() if m.generation != self.generation]
        fresh = [m for m in self.standby() if m.generation == self.generation]
        for member in old if len(fresh) >= self.spares else old[-1:]:
            self.dismiss(member, CHANGED)
        if old:
            self.fill()

    def _start(self, kind: str, now: float) -> None:
        process = self._fork(kind)
        member = Member(process, self.generation, Pulse(self._settings.loading, now))
        self.members.append(member)
        self._loop.watch(process.link, lambda: self._on_readable(member))

    # ---- what is said to them --------------------------------------------------------------------------------------

    def send(self, member: Member, message: Message, descriptors: list[int] | None = None) -> bool:
        """Whether the child could be told; one that is stuck or gone is found out by its beats or its end."""
        try:
            member.process.link.send(message, descriptors)
        except (LinkClosed, BlockingIOError) as error:
            log.warning(
                "%s (pid %d) cannot be told %s: %s", member.name, member.process.pid, type(message).__name__, error
            )
            return False
        return True

    def dismiss(self, member: Member, reason: str, within: float = 0.2, patience: float = 0.3) -> None:
        """Tell a child to go within so many seconds; so much later it is killed."""
        if member.leaving:
            return
        member.leaving = True
        self.send(member, Demote(reason=reason, within=within))
        self._loop.after(within + patience, member.process.kill)

    def kill(self, member: Member, why: str) -> None:
        log.error("%s (pid %d) is killed: %s", member.name, member.process.pid, why)
        member.process.kill()

    # ---- what they say ---------------------------------------------------------------------------------------------

    def _on_readable(self, member: Member) -> None:
        try:
            while received := member.process.link.receive():
                self._on_message(member, received[0])
        except LinkClosed:
            self._end(member)

    def _on_message(self, member: Member, message: Message) -> None:
        match message:
            case Beaten(number):
                member.pulse.beaten(number)
            case Ready():
                member.ready = True
                member.pulse = Pulse(self._settings.heartbeat_timeout, self._loop.now(), waited=member.process.waited)
                log.info("%s (pid %d) is ready", member.kind, member.process.pid)
                self._owner.on_ready(member)
                if member.kind == "worker" and member.generation == self.generation:
                    self._relieve()
            case Failed(reason):
                member.reason = reason
                log.error("%s (pid %d) cannot go on: %s", member.name, member.process.pid, reason)
            case Follows():
                member.follows, member.told_at = message, self._loop.now()
            case Stores():
                member.stores = message
            case _:
                self._owner.on_message(member, message)

    def look(self) -> None:
        """After SIGCHLD: a child may be dead while a grandchild still holds its link."""
        for member in list(self.members):
            if member.process.reap():
                self._end(member)

    def _end(self, member: Member) -> None:
        if member not in self.members:
            return
        self.members.remove(member)
        self._loop.forget(member.process.link)
        member.process.kill()
        member.process.link.close()
        self._loop.after(0.05, member.process.reap)
        self._loop.after(1.0, member.process.reap)
        if not member.leaving:
            now = self._loop.now()
            wait = self._backoffs[member.kind].ended(now - member.process.born, now)
            # Its link may end a moment before it can be said how it ended.
            self._loop.after(0 if member.process.reap() else 0.02, lambda: self._tell(member, now, wait))
            self._loop.after(wait, self.fill)
        self._owner.on_ended(member)

    def _tell(self, member: Member, ended: float, wait: float) -> None:
        member.process.reap()
        log.error(
            "%s (pid %d) %s after %.1f s%s; another one follows in %.1f s",
            member.name,
            member.process.pid,
            member.process.fate,
            ended - member.process.born,
            f" ({member.reason})" if member.reason else "",
            wait,
        )

    # ---- beats -----------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        now, self._beats = self._loop.now(), self._beats + 1
        late = now - self._beaten_at > self._settings.heartbeat_timeout / 2
        self._beaten_at = now
        for member in list(self.members):
            if late:
                # It was this process that stood still: nobody else is to be judged by it.
                member.pulse.forgive(now)
            elif why := member.pulse.judge(now):
                member.frozen = True
                self.kill(member, why)
            elif member.ready and (member.slot or self._beats % SLOW == 0):
                self._send_beat(member, now)

    def _send_beat(self, member: Member, now: float) -> None:
        try:
            member.process.link.send(Beat(member.pulse.beat(now)))
        except (LinkClosed, BlockingIOError):
            return

    # ---- the end ---------------------------------------------------------------------------------------------------

    def close(self, within: float) -> None:
        """Nobody is started any more; all are told to go."""
        self.closing = True
        for member in list(self.members):
            self.dismiss(member, "the node stops", within)

    def kill_all(self) -> None:
        for member in self.members:
            member.process.kill()
