"""The media of a worker's calls: our own relay, and beside it rtpengine for the profiles that say so.

Calls say the same to either: open a port for a leg, where its peer is, who hears whom. Whose port it is, is decided when it is
opened; nothing of rtpengine costs anything before a leg is opened there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from node.config.profile import ProfileSettings
from node.media.anchored import Anchored, Inside, Wish
from node.media.control import CodecName
from node.media.errors import MediaError
from node.media.ng import Loop
from node.media.rtpengine import Rtpengine
from node.media.rtpengine_leg import Ended
from node.media.rtpengine_talk import Point
from node.media.sdp import Direction
from node.media.session import MediaClient


class Media:
    """The words of `MediaClient`, for legs of either engine. `then` is never called from within the method it was given to."""

    def __init__(self, relay: MediaClient, loop: Loop) -> None:
        self.on_learned: Callable[[str, str, int], None] = lambda leg, host, port: None
        "Of our own relay: rtpengine keeps what it learns to itself, and in its own Redis."
        self.on_lost: Callable[[str, MediaError], None] = lambda leg, error: None
        self._relay = relay
        self._loop = loop
        self._rtpengine: Rtpengine | None = None
        relay.on_learned = self._on_learned
        relay.on_lost = self._on_lost

    def expect(self, profiles: Iterable[ProfileSettings]) -> None:
        """Whether the rtpengines of these profiles answer is known before a call needs it."""
        wanted = [profile.rtpengine_ng for profile in profiles if profile.media_engine == "rtpengine"]
        engines = list(dict.fromkeys(chain.from_iterable(wanted)))
        if engines or self._rtpengine is not None:
            self._engine().watch(engines)

    def state(self) -> list[tuple[str, bool | None, int]]:
        """Of each rtpengine its address, whether it answers (None: not asked yet), the sessions of this worker there."""
        return [] if self._rtpengine is None else self._rtpengine.state()

    # ---- legs ------------------------------------------------------------------------------------------------------

    def open(
        self,
        leg: str,
        *,
        address: str,
        first: int,
        last: int,
        port: int | None = None,
        dscp: int = 46,
        wish: Wish | None = None,
        then: Callable[[int | Anchored | MediaError], None],
    ) -> None:
        """`wish`: a port of an rtpengine; then the others say where our own media process serves such a leg."""
        if wish is None:
            self._relay.open(leg, address=address, first=first, last=last, port=port, dscp=dscp, then=then)
        else:
            self._engine().open(leg, wish, Inside(address, first, last, dscp), then)

    def remote(
        self,
        leg: str,
        host: str,
        port: int,
        rtcp_port: int,
        *,
        learned: tuple[str, int] | None = None,
        direction: Direction = "sendrecv",
    ) -> None:
        """`direction`: what its description says; rtpengine lets who does not send be silent for longer."""
        if (engine := self._of(leg)) is not None:
            engine.remote(leg, Point(host, port, rtcp_port, direction))
        else:
            self._relay.remote(leg, host, port, rtcp_port, learned=learned)

    def join(self, a: str, b: str) -> None:
        engine = self._rtpengine
        if engine is not None and (a in engine or b in engine):
            engine.join(a, b)
            return
        if engine is not None:
            engine.leave(a)
            engine.leave(b)
        self._relay.join(a, b)

    def part(self, leg: str) -> None:
        if self._rtpengine is not None:
            self._rtpengine.leave(leg)
        if self._of(leg) is None:
            self._relay.part(leg)

    def close(self, leg: str) -> None:
        if self._rtpengine is not None:
            self._rtpengine.leave(leg)
            self._rtpengine.close(leg)
        self._relay.close(leg)

    def sweep(self, live: Sequence[str]) -> None:
        """Of our own relay, and of the sessions of these; sessions of nobody an rtpengine ends by its own timeout."""
        served = []
        if self._rtpengine is not None:
            self._rtpengine.sweep()
            served = self._rtpengine.inner
        self._relay.sweep([*live, *served])

    def play(
        self, leg: str, source: str, *, payload_type: int, codec: CodecName, then: Ended, skip: float = 0.0
    ) -> None:
        engine = self._of(leg)
        if engine is not None:
            engine.play(leg, source, payload_type=payload_type, codec=codec, then=then, skip=skip)
            return
        if self._rtpengine is not None:
            self._rtpengine.leave(leg)
        self._relay.play(leg, source, payload_type=payload_type, codec=codec, then=then, skip=skip)

    def stop(self, leg: str) -> None:
        if (engine := self._of(leg)) is not None:
            engine.stop(leg)
        else:
            self._relay.stop(leg)

    def echo(self, leg: str, on: bool) -> None:
        if (engine := self._of(leg)) is not None:
            engine.echo(leg, on)
            return
        if on and self._rtpengine is not None:
            self._rtpengine.leave(leg)
        self._relay.echo(leg, on)

    def when_done(self, then: Callable[[], None]) -> None:
        """Call `then` when our own relay forwards for all legs that it was asked for until now."""
        self._relay.when_done(then)

    def shut(self) -> None:
        """Let go of the sockets. The legs stay as they are, for a successor."""
        self._relay.shut()
        if self._rtpengine is not None:
            self._rtpengine.close_all()

    # ---- parts -----------------------------------------------------------------------------------------------------

    def _engine(self) -> Rtpengine:
        if self._rtpengine is None:
            self._rtpengine = Rtpengine(self._relay, self._loop)
            self._rtpengine.on_lost = self._on_lost
        return self._rtpengine

    def _of(self, leg: str) -> Rtpengine | None:
        """The engine that has the leg; None: it is our own relay's."""
        engine = self._rtpengine
        return engine if engine is not None and leg in engine else None

    def _on_learned(self, leg: str, host: str, port: int) -> None:
        self.on_learned(leg, host, port)

    def _on_lost(self, leg: str, error: MediaError) -> None:
        self.on_lost(leg.removesuffix("~"), error)


__all__ = ["Anchored", "Media", "Wish"]
