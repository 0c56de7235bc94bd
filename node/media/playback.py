"""Playing to legs: one beat of 20 ms for all of them."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable

from node.media.control import CodecName
from node.media.errors import MediaError
from node.media.relay import Leg
from node.media.rtp import header
from node.media.sources import FRAME, Library, Source

log = logging.getLogger(__name__)

BEAT = 0.02
"Seconds of a frame."
CATCH_UP = 5
"Beats made good after a stall; what is beyond is skipped, and the timestamps with it."

Finished = Callable[[Leg, int, MediaError | None, bool], None]
"Leg, number of the order, error or None, whether it was stopped before its end."


class Voice:
    """Our own stream to one leg: continuous over all that is played to it.

    It starts where the wall clock says, at offsets made from the leg's name. So a node that takes the call over goes
    on about where the other one stopped, without having been told.
    """

    __slots__ = ("born", "sequence", "ssrc", "timestamp")

    def __init__(self, name: str, now: float, wall: float) -> None:
        self.ssrc = zlib.crc32(name.encode(errors="replace"))
        self.sequence = int(wall / BEAT) + self.ssrc & 0xFFFF
        self.timestamp = int(wall / BEAT) * FRAME + self.ssrc & 0xFFFFFFFF
        self.born = now - BEAT
        "When a frame was last sent."

    def next(self, payload_type: int, now: float) -> bytes:
        """The header of the next frame, with the marker where a silence was before it (RFC 3551 4.1)."""
        beats = max(1, round((now - self.born) / BEAT))
        self.born = now
        self.sequence += 1
        self.timestamp += beats * FRAME
        return header(payload_type, self.sequence, self.timestamp, self.ssrc, marker=beats > CATCH_UP)


class _Playing:
    __slots__ = ("leg", "number", "packets", "payload_type", "source", "voice")

    def __init__(self, leg: Leg, number: int, source: Source, payload_type: int, voice: Voice) -> None:
        self.leg = leg
        self.number = number
        self.source = source
        self.payload_type = payload_type
        self.voice = voice


class Player:
    """What is played to whom."""

    def __init__(self, finished: Finished) -> None:
        self._library = Library()
        self._finished = finished
        self._playing: dict[str, _Playing] = {}
        self._voices: dict[str, Voice] = {}
        self.packets: dict[str, int] = {}
        "Frames sent, by leg."
        self.next_beat: float | None = None

    def play(
        self,
        leg: Leg,
        number: int,
        name: str,
        payload_type: int,
        codec: CodecName,
        now: float,
        wall: float,
        *,
        skip: float = 0.0,
    ) -> None:
        """Start; what was played to the leg before is stopped. Raises MediaError when the source cannot be opened."""
        playing = self._playing.get(leg.name)
        if playing is not None and playing.number == number:
            return  # the same order once more, by a worker that was not sure whether we had it
        self.stop(leg)
        if not 0 <= payload_type <= 127:
            raise MediaError(f"payload type {payload_type}")
        source = self._library.open(name, codec, skip)
        voice = self._voices.setdefault(leg.name, Voice(leg.name, now, wall))
        self._playing[leg.name] = _Playing(leg, number, source, payload_type, voice)
        if self.next_beat is None:
            self.next_beat = now

    def stop(self, leg: Leg) -> None:
        playing = self._playing.pop(leg.name, None)
        if playing is not None:
            self._finished(leg, playing.number, None, True)

    def forget(self, leg: Leg) -> None:
        """The leg is gone."""
        self.stop(leg)
        self._voices.pop(leg.name, None)
        self.packets.pop(leg.name, None)

    def beat(self, now: float) -> None:
        """Send what is due by now."""
        if self.next_beat is None:
            return
        if now - self.next_beat > CATCH_UP * BEAT:
            self.next_beat = now
        while self.next_beat <= now and self._playing:
            for playing in list(self._playing.values()):
                self._send(playing, self.next_beat)
            self.next_beat += BEAT
        if not self._playing:
            self.next_beat = None

    def _send(self, playing: _Playing, at: float) -> None:
        try:
            frame = playing.source.next()
        except Exception as error:
            log.warning("playback to leg %s broke off", playing.leg.name, exc_info=True)
            self._end(playing, MediaError(f"playback broke off: {error}"))
            return
        if frame is None:
            self._end(playing, None)
            return
        try:
            playing.leg.rtp.transmit(playing.voice.next(playing.payload_type, at) + frame)
        except OSError:
            return  # the peer is not there or the socket is full: as with any packet lost under way
        self.packets[playing.leg.name] = self.packets.get(playing.leg.name, 0) + 1

    def _end(self, playing: _Playing, error: MediaError | None) -> None:
        self._playing.pop(playing.leg.name, None)
        self._finished(playing.leg, playing.number, error, False)
