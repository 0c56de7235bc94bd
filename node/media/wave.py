"""WAV files: linear 8 and 16 bit, u-law and A-law, any rate, any channels, read piecemeal as 8 kHz mono.

Our own reader, since Python's knows only linear PCM and insists on seeking to the end.
"""

from __future__ import annotations

import io
import sys
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from struct import Struct, error
from typing import BinaryIO

from node.media import g711
from node.media.errors import MediaError

RATE = 8000
LINEAR, ALAW, ULAW, EXTENSIBLE = 1, 6, 7, 0xFFFE
_CHUNK = Struct("<4sI")
_FORMAT = Struct("<HHIIHH")
BLOCK = 0.2
"Seconds read at once."


@dataclass(frozen=True, slots=True)
class Format:
    encoding: int
    channels: int
    rate: int
    bits: int
    octets: int
    "Of the samples, as the header says."

    @property
    def frame(self) -> int:
        """Octets of one sample of all channels."""
        return self.channels * self.bits // 8

    @property
    def seconds(self) -> float:
        return self.octets / (self.frame * self.rate)


def read_format(file: BinaryIO) -> Format:
    """Read up to the samples. Raises MediaError for what is no WAV file we know."""
    try:
        return _walk(file)
    except error:
        raise MediaError("the WAV file is cut short") from None


def _walk(file: BinaryIO) -> Format:
    riff, _size = _CHUNK.unpack(file.read(8))
    if riff not in (b"RIFF", b"RF64") or file.read(4) != b"WAVE":
        raise MediaError("not a WAV file")
    form: tuple[int, int, int, int, int, int] | None = None
    for _ in range(100):
        name, size = _CHUNK.unpack(file.read(8))
        if name == b"data":
            if form is None:
                raise MediaError("a WAV file without format")
            return _checked(form, size)
        body = file.read(size + size % 2) if size <= 1 << 20 else b""
        if len(body) < size:
            break
        if name == b"fmt ":
            form = _FORMAT.unpack_from(body)
            if form[0] == EXTENSIBLE and len(body) >= 26:
                form = (int.from_bytes(body[24:26], "little"), *form[1:])
    raise MediaError("a WAV file without samples")


def _checked(form: tuple[int, int, int, int, int, int], octets: int) -> Format:
    encoding, channels, rate, _octet_rate, _align, bits = form
    if (encoding, bits) not in ((LINEAR, 16), (LINEAR, 8), (ALAW, 8), (ULAW, 8)):
        raise MediaError(f"WAV encoding {encoding} with {bits} bits is not known, only PCM, A-law and u-law")
    if not 1 <= channels <= 16 or not 1000 <= rate <= 384_000:
        raise MediaError(f"a WAV file with {channels} channels at {rate} Hz")
    return Format(encoding, channels, rate, bits, octets)


def after(file: BinaryIO, form: Format, seconds: float) -> Format:
    """Pass over the first seconds of the samples; what is left then, perhaps nothing. Raises OSError."""
    octets = min(form.octets, int(seconds * form.rate) * form.frame)
    file.seek(octets, io.SEEK_CUR)
    return replace(form, octets=form.octets - octets)


def read_samples(file: BinaryIO, form: Format) -> Iterator[array[int]]:
    """The samples as 8 kHz mono, in blocks."""
    convert = _Rate(form.rate)
    left = form.octets
    with file:
        while left > 0:
            data = file.read(min(left, int(form.rate * BLOCK) * form.frame))
            data = data[: len(data) - len(data) % form.frame]
            if not data:
                break
            left -= len(data)
            yield convert.feed(_mono(_linear(data, form), form.channels))


def _linear(data: bytes, form: Format) -> array[int]:
    if form.encoding == ULAW:
        return g711.decode(data, "PCMU")
    if form.encoding == ALAW:
        return g711.decode(data, "PCMA")
    if form.bits == 8:
        return array("h", [(octet - 128) << 8 for octet in data])
    samples = array("h", data)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _mono(samples: array[int], channels: int) -> array[int]:
    if channels == 1:
        return samples
    sides = [samples[side::channels] for side in range(channels)]
    return array("h", [sum(together) // channels for together in zip(*sides, strict=True)])


class _Rate:
    """To 8 kHz: the mean of the samples that fall together going down, linear interpolation going up."""

    def __init__(self, rate: int) -> None:
        self._step = rate / RATE
        self._at = 0.0
        "Where the next sample to give lies, counted from the first one in `_left`."
        self._left: array[int] = array("h")

    def feed(self, samples: array[int]) -> array[int]:
        if self._step == 1.0:
            return samples
        self._left += samples
        return self._down() if self._step > 1 else self._up()

    def _down(self) -> array[int]:
        given = array("h")
        step, at, left = self._step, self._at, self._left
        while at + step <= len(left):
            begin, end = int(at), int(at + step)
            given.append(sum(left[begin:end]) // (end - begin))
            at += step
        self._keep(at)
        return given

    def _up(self) -> array[int]:
        given = array("h")
        step, at, left = self._step, self._at, self._left
        while at + 1 < len(left):
            whole = int(at)
            given.append(int(left[whole] + (left[whole + 1] - left[whole]) * (at - whole)))
            at += step
        self._keep(at)
        return given

    def _keep(self, at: float) -> None:
        whole = int(at)
        del self._left[:whole]
        self._at = at - whole
