"""The watchdogs of the profiles at work: armed by promotion, fed by probes, with two remedies."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ha.duty import Duty, Post
from ha.fleet import Fleet, Member
from ha.loop import Loop
from ha.probe import Probe, Prober, StreamProbe
from ha.settings import ChildSettings
from ha.watchdog import ProfileWatch

log = logging.getLogger(__name__)

TICK = 0.1
TOGETHER = 2.0
"Seconds within which workers of one profile that freeze count as one failure."


@dataclass(slots=True, eq=False)
class Watched:
    watch: ProfileWatch
    probe: Prober
    post: Post
    next_probe: float = 0.0


class Guard:
    """First the workers of a profile that fails are replaced; if that has not helped, the role shall be given away."""

    def __init__(
        self, loop: Loop, duty: Duty, fleet: Fleet, settings: ChildSettings, on_hopeless: Callable[[str], None]
    ) -> None:
        self._loop, self._duty, self._fleet, self._settings = loop, duty, fleet, settings
        self._on_hopeless = on_hopeless
        self._watched: dict[str, Watched] = {}
        self._ticked_at = loop.now()
        loop.every(TICK, self._tick)

    def arm(self, profile: str | None = None) -> None:
        """One profile's, or all (`sofia global watchdog on`)."""
        now = self._loop.now()
        for name, post in self._duty.posts.items():
            if profile in (None, name) and post.state == "RUNNING":
                self._watched_of(name, post).watch.arm(now)
                self._set_limits(post, post.settings.watchdog_step_timeout / 1000)

    def disarm(self, profile: str | None = None) -> None:
        for name, watched in list(self._watched.items()):
            if profile in (None, name):
                watched.watch.disarm()
                watched.probe.close()
                self._set_limits(watched.post, 0.0)

    def on_ended(self, member: Member) -> None:
        """A worker is gone. One that stood still is the step time-out of its profile, and replaced already."""
        slot = self._duty.slot_of(member)
        watched = self._watched.get(slot.profile) if slot is not None else None
        if slot is None or watched is None or not (watched.watch.armed and member.frozen):
            return
        now, remedies = self._loop.now(), watched.watch.remedies
        if remedies and now - remedies[-1] < TOGETHER:
            return
        if not watched.watch.remedied(now):
            self._on_hopeless(f"workers of profile {slot.profile} stand still again and again")

    def armed(self, profile: str) -> bool:
        watched = self._watched.get(profile)
        return watched is not None and watched.watch.armed

    def _watched_of(self, name: str, post: Post) -> Watched:
        watched = self._watched.get(name)
        if watched is None or watched.post is not post:
            if watched is not None:
                watched.probe.close()
            watch = ProfileWatch(post.settings.watchdog_event_timeout / 1000)
            watched = self._watched[name] = Watched(watch, self._prober(post, watch), post)
        return watched

    def _prober(self, post: Post, watch: ProfileWatch) -> Prober:
        """By UDP, which passes by all its workers; without UDP by its first listening socket."""
        listener = post.listener
        if post.address[1] or listener is None:
            return Probe(self._loop, post.address, lambda: self._answered(watch))
        where = (listener.host, listener.port)
        return StreamProbe(self._loop, listener.kind, where, lambda: self._answered(watch))

    def _answered(self, watch: ProfileWatch) -> None:
        watch.answered_at = self._loop.now()

    def _set_limits(self, post: Post, step_timeout: float) -> None:
        """A worker's loop is judged by the shorter of the node's limit and the profile's."""
        limit = min(self._settings.heartbeat_timeout, step_timeout or self._settings.heartbeat_timeout)
        for slot in post.slots:
            if slot.member is not None and slot.member.ready:
                slot.member.pulse.limit = limit

    def _tick(self) -> None:
        now = self._loop.now()
        self._forgive(now - self._ticked_at - TICK)
        self._ticked_at = now
        for name, watched in list(self._watched.items()):
            if self._duty.posts.get(name) is not watched.post or not watched.watch.armed:
                watched.probe.close()
                if self._duty.posts.get(name) is not watched.post:
                    del self._watched[name]
                continue
            settings = watched.post.settings
            if watched.watch.event_timeout != settings.watchdog_event_timeout / 1000:
                # Changed by a rescan: the last answer belongs to probes that were further apart.
                watched.watch.event_timeout = settings.watchdog_event_timeout / 1000
                watched.watch.answered_at = watched.next_probe = now
            self._set_limits(watched.post, settings.watchdog_step_timeout / 1000)
            if not watched.watch.event_timeout or not (watched.post.address[1] or watched.post.listener):
                continue  # without a socket there is nothing to send a probe to
            if watched.watch.fails(now):
                self._remedy(name, watched, now)
            elif now >= watched.next_probe:
                watched.next_probe = now + watched.watch.probe_every
                watched.probe.send()

    def _forgive(self, late: float) -> None:
        """While this process stood still it has neither asked nor heard: that time counts for nobody's silence."""
        if late > TICK:
            for watched in self._watched.values():
                watched.watch.answered_at += late

    def _remedy(self, name: str, watched: Watched, now: float) -> None:
        why = f"profile {name} answered no probe for {watched.watch.event_timeout:.1f} s"
        if not watched.watch.remedied(now):
            self._on_hopeless(f"{why}, and new workers have not helped")
        for slot in watched.post.slots:
            if slot.member is not None:
                self._fleet.kill(slot.member, why)
