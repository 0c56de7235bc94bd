"""Applications that wait: given control, they give it back by `done`, or end with the leg.

Each can be taken up by a successor: `resume` instead of `start`, from what `Call.progress` kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import anchor
from node.calls.leg import Leg
from node.calls.secrecy import without_secrets
from node.media import negotiation
from node.media.control import CodecName
from node.media.errors import MediaError, MediaStopped, NotAcceptable
from node.sip.errors import SipError

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm

log = logging.getLogger(__name__)


class Waiting:
    """An application that has control. `call.waiting` is the one."""

    __slots__ = ("call", "leg")

    def __init__(self, call: Call, leg: Leg) -> None:
        self.call = call
        self.leg = leg

    def start(self) -> None:
        """Begin."""

    def resume(self) -> None:
        """Go on where a predecessor was."""
        self.start()

    def abandon(self) -> None:
        """The leg is gone, or the dialplan goes elsewhere: let go of what is held."""

    def forget(self) -> None:
        """Stop, without a word to anybody: a successor goes on."""

    def left(self, remaining: Leg, cause: str) -> None:
        """The leg that `remaining` was bridged with is gone."""
        self.call.end(cause)

    @property
    def active(self) -> bool:
        return self.call.waiting is self and self.leg.live and not self.leg.cause

    def done(self) -> None:
        """Give control back."""
        if self.call.waiting is self:
            self.call.proceed()

    def fail(self, cause: str) -> None:
        """Nothing can follow: end the call."""
        if self.call.waiting is self:
            self.call.conclude(cause)


class Answering(Waiting):
    """`answer` and `pre_answer`: a port, an answer of our own, and for `answer` the record before the 200."""

    __slots__ = ("_early", "_then")

    def __init__(self, call: Call, leg: Leg, *, early: bool, then: Callable[[], None] | None = None) -> None:
        super().__init__(call, leg)
        self._early = early
        self._then = then

    def start(self) -> None:
        if self.leg.confirmed or (self._early and self.leg.early_sent):
            self._go_on()
            return
        assert self.leg.media is not None
        if self.leg.media.port:
            self._on_port(None)
        else:
            anchor.open_port(self.call, self.leg, self._on_port)

    def _on_port(self, error: MediaError | None) -> None:
        if not self.active:
            return
        if error is not None:
            log.warning("call %s: no media port: %s", self.call.uuid, error)
            self.fail("NORMAL_TEMPORARY_FAILURE")
            return
        call, leg = self.call, self.leg
        media = leg.media
        assert media is not None
        try:
            if not media.remote_sdp:
                self._offer()
                return
            sdp = media.local_sdp or anchor.own_answer(call.exchange, leg)
            anchor.hear(call.exchange, leg, media.remote_sdp)
        except SipError as refusal:
            log.info("call %s: cannot answer %s: %s", call.uuid, leg.name, refusal)
            self.fail("INCOMPATIBLE_DESTINATION")
            return
        if self._early:
            call.early(leg, sdp)
            self._go_on()
        else:
            call.answer(leg, sdp, self._go_on)

    def _offer(self) -> None:
        """The INVITE had no offer: ours goes in the 200, or in a reliable 183; the answer comes in the ACK or PRACK."""
        if self._early:
            if self.leg.reliable is None:
                self._go_on()
                return
            self.call.answered_by = self._on_answer
            self.call.early(self.leg, anchor.own_offer(self.call.exchange, self.leg))
            return
        self.call.answered_by = self._on_answer
        self.call.answer(self.leg, anchor.own_offer(self.call.exchange, self.leg))

    def resume(self) -> None:
        if self.leg.confirmed and self.leg.pending is not None and self.leg.media and not self.leg.media.remote_sdp:
            self.call.answered_by = self._on_answer
        else:
            self.start()

    def _on_answer(self, leg: Leg, sdp: str) -> None:
        try:
            adopt_answer(self.call, leg, sdp)
        except SipError as refusal:
            log.info("call %s: answer in the ACK of %s not understood: %s", self.call.uuid, leg.name, refusal)
            self.fail("INCOMPATIBLE_DESTINATION")
            return
        self._go_on()

    def _go_on(self) -> None:
        if self._then is not None:
            self._then()
        else:
            self.done()


def adopt_answer(call: Call, leg: Leg, sdp: str) -> None:
    """The answer to an offer of our own: from now on we know what to play with. Raises SipError."""
    assert leg.media is not None
    if not sdp:
        raise NotAcceptable("no answer")
    anchor.hear(call.exchange, leg, sdp)
    for codec in negotiation.audio_of(sdp).codecs:
        for name in negotiation.PLAYABLE:
            if codec.is_called(name):
                leg.media.codec, leg.media.payload_type = name, codec.payload_type
                return
    raise NotAcceptable("neither PCMU nor PCMA in the answer")


class Sleeping(Waiting):
    """`sleep`: until a moment by the clock on the wall, which a successor has too."""

    __slots__ = ("_alarm", "_milliseconds")

    def __init__(self, call: Call, leg: Leg, milliseconds: int) -> None:
        super().__init__(call, leg)
        self._milliseconds = milliseconds
        self._alarm: Alarm | None = None

    def start(self) -> None:
        wall = self.call.exchange.wall()
        until = float(self.call.progress.setdefault("until", str(wall + self._milliseconds / 1000)))
        self.call.save()
        self._alarm = self.call.later(max(0.0, until - wall), self.done)

    def abandon(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    forget = abandon


class Media(Waiting):
    """An application that needs the leg's media: it is pre-answered where it is not answered."""

    __slots__ = ("_answering",)

    def __init__(self, call: Call, leg: Leg) -> None:
        super().__init__(call, leg)
        self._answering: Answering | None = None

    def start(self) -> None:
        leg = self.leg
        assert leg.media is not None
        if leg.confirmed or leg.early_sent:
            self.play()
            return
        # The port and the answer as `pre_answer` makes them; control stays here.
        answering = Answering(self.call, leg, early=True, then=self._pre_answered)
        self._answering = answering
        answering.call.waiting = answering
        answering.start()

    def _pre_answered(self) -> None:
        self._answering = None
        self.call.waiting = self
        self.play()

    def play(self) -> None:
        """The media is there."""


class Playing(Media):
    """`playback`: files and tones, `!` between them. A successor goes on at the moment that would have come."""

    __slots__ = ("_sources",)

    def __init__(self, call: Call, leg: Leg, text: str, *, endless: bool = False) -> None:
        super().__init__(call, leg)
        self._sources = _sources(text) or ["silence_stream://0"]
        if endless:
            self._sources = [*self._sources, ""]

    def play(self) -> None:
        index = int(self.call.progress.get("file", "0"))
        if index >= len(self._sources):
            self.done()
            return
        if not self._sources[index]:
            index = 0
            self.call.progress["file"] = "0"
        wall = self.call.exchange.wall()
        since = float(self.call.progress.setdefault("since", str(wall)))
        media = self.leg.media
        assert media is not None
        source = self._sources[index]
        folder = self.call.exchange.configuration.globals.get("sounds_dir", "")
        if folder and "://" not in source and not source.startswith("/"):
            source = f"{folder}/{source}"
        codec: CodecName = "PCMA" if media.codec == "PCMA" else "PCMU"
        played = partial(self.call.post, self._on_played)
        self.call.exchange.media.play(
            self.leg.uuid,
            source,
            payload_type=media.payload_type,
            codec=codec,
            then=played,
            skip=max(0.0, wall - since),
        )
        self.call.save()

    def _on_played(self, error: MediaError | None) -> None:
        if not self.active:
            return
        if isinstance(error, MediaStopped):
            self.done()
            return
        if error is not None:
            sources = list(map(without_secrets, self._sources))
            log.warning("call %s: cannot play %s: %s", self.call.uuid, sources, without_secrets(str(error)))
        self.call.progress.pop("since", None)
        self.call.progress["file"] = str(int(self.call.progress.get("file", "0")) + 1)
        self.play() if error is None else self.done()

    def abandon(self) -> None:
        self.call.exchange.media.stop(self.leg.uuid)


class Echoing(Media):
    """`echo`, until the caller has had enough of it."""

    __slots__ = ()

    def play(self) -> None:
        self.call.exchange.media.echo(self.leg.uuid, True)
        self.call.save()

    def abandon(self) -> None:
        if self.leg.live:
            self.call.exchange.media.echo(self.leg.uuid, False)


class Parking(Media):
    """`park`: wait for somebody to do something with the leg."""

    __slots__ = ()


def _sources(text: str) -> list[str]:
    """`{params}a.wav!b.wav`, `file_string://a!b`."""
    if text.startswith("{") and "}" in text:
        text = text.partition("}")[2]
    text = text.removeprefix("file_string://")
    if "://" in text.partition("!")[0]:
        return [text]
    return [source.strip() for source in text.split("!") if source.strip()]
