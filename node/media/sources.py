"""What can be played: a source's name to frames of 20 ms, encoded, made as they are needed and once for all who hear them."""

from __future__ import annotations

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import islice

from node.media import g711, tones, wave
from node.media.control import CodecName
from node.media.errors import MediaError

FRAME = 160
"Samples, and octets: 20 ms at 8 kHz."
SHARED_SECONDS = 120.0
"A longer clip is made for each listener anew and not kept."
SHARED_CLIPS = 64
LONGEST_SKIP = 10.0
"Seconds of tones that are passed over: they have to be made, and the relay waits meanwhile."

TONES, SILENCE = "tone_stream://", "silence_stream://"


class Clip:
    """Frames, kept as they are made, so that a second listener costs nothing."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._made: list[bytes] = []
        self.broken = False
        "Reading failed half way: whoever comes next shall try again from the start."

    def frame(self, number: int) -> bytes | None:
        """The frame of this number, or None after the last one. Frames are asked for in order."""
        while number >= len(self._made):
            try:
                made = next(self._frames, None)
            except Exception:
                self.broken = True
                raise
            if made is None:
                return None
            self._made.append(made)
        return self._made[number]


class Source:
    """One listener's way through a clip, so many times."""

    __slots__ = ("_clip", "_loops", "_number")

    def __init__(self, clip: Clip, loops: int, number: int = 0) -> None:
        """`number`: of the first frame to be heard."""
        self._clip = clip
        self._loops = loops
        self._number = number

    def next(self) -> bytes | None:
        """The next frame, or None at the end. Raises MediaError or OSError when the source breaks."""
        frame = self._clip.frame(self._number)
        if frame is None and self._number and self._loops != 1:
            self._loops -= 1 if self._loops > 0 else 0
            self._number = 0
            frame = self._clip.frame(0)
        self._number += 1
        return frame


class Library:
    """Opens sources and keeps the clips that were played last."""

    def __init__(self) -> None:
        self._clips: OrderedDict[tuple[object, ...], Clip] = OrderedDict()

    def open(self, name: str, codec: CodecName, skip: float = 0.0) -> Source:
        """`skip`: so many seconds from its beginning. Raises MediaError with what is wrong, naming the path of a file."""
        if name.startswith(TONES):
            return self._tones(tones.parse_tones(name.removeprefix(TONES)), codec, skip)
        if name.startswith(SILENCE):
            return self._tones(tones.parse_silence(name.removeprefix(SILENCE)), codec, skip)
        if "://" in name:
            raise MediaError(
                f"unknown kind of source {name!r}: a WAV file, tone_stream:// or silence_stream:// is played"
            )
        try:
            return self._file(name, codec, skip)
        except OSError as error:
            raise MediaError(f"cannot play {name}: {error.strerror}") from None
        except MediaError as error:
            raise MediaError(f"cannot play {name}: {error}") from None

    def _tones(self, script: tones.Script, codec: CodecName, skip: float) -> Source:
        key = (script.tones, codec)
        clip = self._clips.get(key)
        if clip is None:
            clip = Clip(_frames(_blocks(tones.samples(script.tones)), codec))
            if sum(tone.on + tone.off for tone in script.tones) <= SHARED_SECONDS * 1000:
                self._keep(key, clip)
        rounds, number = _place(round(skip * 1000), round(sum(tone.on + tone.off for tone in script.tones)))
        if script.loops > 0 and rounds >= script.loops:
            return Source(_Passing(iter(())), 1)
        return Source(clip, script.loops - rounds if script.loops > 0 else script.loops, number)

    def _file(self, path: str, codec: CodecName, skip: float) -> Source:
        if not os.path.isfile(path):
            raise MediaError("no such file") if not os.path.exists(path) else MediaError("not a file")
        status = os.stat(path)
        key = (path, status.st_mtime_ns, status.st_size, codec)
        clip = self._clips.get(key)
        if not skip and clip is not None and not clip.broken:
            self._clips.move_to_end(key)
            return Source(clip, 1)
        file = open(path, "rb")  # noqa: SIM115 the clip reads on while it is played
        try:
            form = wave.read_format(file)
        except BaseException:
            file.close()
            raise
        if skip:
            form = wave.after(file, form, skip)
        if skip or form.seconds > SHARED_SECONDS:
            return Source(_Passing(_frames(wave.read_samples(file, form), codec)), 1)
        clip = Clip(_frames(wave.read_samples(file, form), codec))
        self._keep(key, clip)
        return Source(clip, 1)

    def _keep(self, key: tuple[object, ...], clip: Clip) -> None:
        self._clips[key] = clip
        while len(self._clips) > SHARED_CLIPS:
            self._clips.popitem(last=False)


class _Passing(Clip):
    """A clip too long to be kept: each frame can be had once."""

    def frame(self, number: int) -> bytes | None:
        return next(self._frames, None)


def _place(skip: int, whole: int) -> tuple[int, int]:
    """How many times tones were heard, and which frame comes next; milliseconds. They are made one after the other."""
    if skip <= 0 or whole <= 0:
        return 0, 0
    rounds, rest = divmod(skip, whole)
    return rounds, rest // 20 if rest < LONGEST_SKIP * 1000 else 0


def _blocks(samples: Iterator[int]) -> Iterator[array[int]]:
    while block := array("h", islice(samples, FRAME)):
        yield block


def _frames(blocks: Iterable[array[int]], codec: CodecName) -> Iterator[bytes]:
    """Blocks of samples of any length to encoded frames; the last one is filled up with silence."""
    rest = b""
    for block in blocks:
        rest += g711.encode(block, codec)
        whole = len(rest) - len(rest) % FRAME
        for at in range(0, whole, FRAME):
            yield rest[at : at + FRAME]
        rest = rest[whole:]
    if rest:
        yield rest.ljust(FRAME, g711.SILENCE[codec])
