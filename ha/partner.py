"""What this node says to its peer, and does at its word."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from ha.lease import LeaseKeeper, Reply, Secret
from ha.loop import Loop
from ha.peer import PeerLink
from ha.policy import Peer, Role
from ha.session import AskPromise, HandedOver, PeerBeat, PleaseHandOver, Promise, Said
from ha.settings import HaSettings
from ha.standing import Standing

log = logging.getLogger(__name__)

INSIST = 0.5
"Seconds between two requests to hand over."


class Partner:
    """Beats, promises and hand-overs. Where there is no peer, nothing is ever said."""

    def __init__(
        self,
        loop: Loop,
        keeper: LeaseKeeper,
        *,
        standing: Standing,
        settings: HaSettings,
        ready: Callable[[], bool],
        secret_file: Path,
        addressed: Callable[[], bool] = lambda: False,
        home: Callable[[], str] = lambda: "",
    ) -> None:
        """`addressed`: is the shared address here? `home`: the addresses of our profiles."""
        self.beat: PeerBeat | None = None
        "What the peer said of itself last."
        self.on_promise: Callable[[], None] = lambda: None
        self.on_please: Callable[[], None] = lambda: None
        self.on_handed_over: Callable[[bool], None] = lambda kept: None
        self.on_beat: Callable[[], None] = lambda: None
        self.link = PeerLink(
            loop, settings.peer, node=standing.node, on_said=self._on_said, on_closed=standing.on_peer_closed
        )
        self._loop, self._keeper, self._standing, self._settings = loop, keeper, standing, settings
        self._ready, self._secret_file = ready, secret_file
        self._addressed, self._home = addressed, home
        self._next_ask = loop.now()

    def start(self) -> None:
        if self._settings.peer.configured:
            self._ask_secret()
            self._loop.every(self._settings.peer.beat, self.say_beat)

    @property
    def fit(self) -> bool:
        """It is there, passive, and could be active quickly."""
        there = self._standing.peer(self._loop.now()) is Peer.STANDBY
        return there and self.beat is not None and self.beat.ready

    @property
    def active(self) -> bool:
        there = self._standing.peer(self._loop.now()) is Peer.ACTIVE
        return there and self.beat is not None and self.beat.role == Role.ACTIVE.value

    @property
    def shares(self) -> bool:
        """Its profiles have the addresses of ours: one of the two nodes has them at a time."""
        return self.beat is not None and self.beat.home == self._home()

    # ---- what is said ----------------------------------------------------------------------------------------------

    def say_beat(self) -> None:
        now, standing = self._loop.now(), self._standing
        self.link.say(
            PeerBeat(
                role=standing.role.value,
                epoch=standing.epoch,
                ready=self._ready(),
                lease=standing.holding(now).value,
                bound=max(0.0, standing.bound_until - now),
                addressed=self._addressed(),
                home=self._home(),
            )
        )

    def ask_promise(self) -> None:
        if self._due(self._settings.peer.beat):
            self.link.say(AskPromise(self._standing.ask(self._loop.now()), self._settings.lease.ttl))

    def please_hand_over(self) -> None:
        if self._due(INSIST):
            self.link.say(PleaseHandOver())

    def say_handed_over(self, *, kept: bool = False) -> None:
        self.link.say(HandedOver(kept))

    def _due(self, every: float) -> bool:
        now = self._loop.now()
        if now < self._next_ask:
            return False
        self._next_ask = now + every
        return True

    # ---- what is heard ---------------------------------------------------------------------------------------------

    def _on_said(self, message: Said) -> None:
        now = self._loop.now()
        match message:
            case PeerBeat(role=role):
                self.beat = message
                self._standing.on_beat(Role(role), now)
                self.on_beat()
            case AskPromise(number, seconds):
                promised = seconds if self._standing.promise(seconds, now) else 0.0
                self.link.say(Promise(number, promised, self._standing.ruled))
            case Promise(number, seconds, ruled) if seconds:
                self._standing.on_promise(number, seconds, ruled, now)
                self.on_promise()
            case PleaseHandOver():
                self.on_please()
            case HandedOver(kept):
                self._standing.on_handed_over(now)
                self.on_handed_over(kept)

    # ---- the secret ------------------------------------------------------------------------------------------------

    def _ask_secret(self) -> None:
        if self._settings.peer.secret:
            self.link.start(b"")
        else:
            self._keeper.ask(Secret("peer"), self._on_secret)

    def _on_secret(self, reply: Reply) -> None:
        """The store's; without a store the one it gave last time, so that the peer can promise."""
        secret = reply.secret
        with contextlib.suppress(OSError):
            if secret:
                self._secret_file.touch(mode=0o600)
                self._secret_file.write_bytes(secret)
            elif self._secret_file.exists():
                secret = self._secret_file.read_bytes()
        if secret:
            self.link.start(secret)
        else:
            self._loop.after(1.0, self._ask_secret)
