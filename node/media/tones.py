"""Tone scripts: what follows `tone_stream://` and `silence_stream://`, and the samples they stand for.

`%(2000,4000,440,480)` is two seconds of 440 and 480 Hz together and four seconds of silence; several follow each
other, with settings before them: `v=-7` (dB), `L=2` (the next one twice), `d=`, `w=` (milliseconds of a digit and of
the pause after it), and plain digits are DTMF. `;loops=N` plays the whole N times, -1 for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sin

from node.media.errors import MediaError

RATE = 8000
FOREVER = -1
LOUDNESS = -7.0
"dB of full scale, all tones together, where the script does not say."
MAXIMUM_MS = 600_000

_LOOPS = re.compile(r";loops=(-?\d+)\s*")
_PART = re.compile(r"%\((?P<tone>[^)]*)\)|(?P<name>[a-zA-Z>+<-])=(?P<value>[^;%]*);?|(?P<digit>[0-9A-D*#])|[;\s]+")
_ROWS, _COLUMNS = (697.0, 770.0, 852.0, 941.0), (1209.0, 1336.0, 1477.0, 1633.0)
_PAD = "123A456B789C*0#D"


@dataclass(frozen=True, slots=True)
class Tone:
    """So many milliseconds of these frequencies together, then so many of silence."""

    on: int
    off: int
    frequencies: tuple[float, ...]
    loudness: float = LOUDNESS


@dataclass(frozen=True, slots=True)
class Script:
    tones: tuple[Tone, ...]
    loops: int = 1
    "FOREVER: until stopped."


def parse_tones(text: str) -> Script:
    """The script after `tone_stream://`. Raises MediaError for what is none."""
    loops = 1
    if match := _LOOPS.search(text):
        loops = int(match[1])
        text = text[: match.start()] + text[match.end() :]
    tones: list[Tone] = []
    settings = {"v": LOUDNESS, "L": 1.0, "d": 250.0, "w": 50.0}
    at = 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None:
            raise MediaError(f"bad tone_stream at {text[at : at + 20]!r}")
        at = part.end()
        if part["name"]:
            settings[part["name"]] = _number(part["value"], text)
        elif part["tone"] is not None or part["digit"]:
            tone = _tone(part["tone"], settings, text) if part["digit"] is None else _digit(part["digit"], settings)
            tones += [tone] * max(1, min(int(settings["L"]), 1000))
            settings["L"] = 1.0
    if not tones or sum(tone.on + tone.off for tone in tones) == 0:
        raise MediaError(f"no tone in tone_stream {text!r}")
    return Script(tuple(tones), loops if loops else 1)


def parse_silence(text: str) -> Script:
    """The script after `silence_stream://`: milliseconds, -1 for ever; the level of noise after a comma is not heard."""
    milliseconds = _number(text.split(",")[0].split(";")[0], text)
    if milliseconds < 0:
        return Script((Tone(0, 1000, ()),), FOREVER)
    return Script((Tone(0, _bounded(milliseconds), ()),))


def samples(tones: tuple[Tone, ...]) -> Iterator[int]:
    """The tones, one after the other, as 16 bit samples at 8 kHz."""
    for tone in tones:
        steps = [2 * pi * frequency / RATE for frequency in tone.frequencies if frequency > 0]
        level = 32767 * 10 ** (tone.loudness / 20) / max(1, len(steps))
        for at in range(tone.on * RATE // 1000):
            yield int(level * sum([sin(step * at) for step in steps]))
        for _ in range(tone.off * RATE // 1000):
            yield 0


def _tone(text: str, settings: dict[str, float], whole: str) -> Tone:
    numbers = [_number(part, whole) for part in text.split(",")]
    if len(numbers) < 2:
        raise MediaError(f"a tone needs %(on,off,frequency): %({text})")
    frequencies = tuple(number for number in numbers[2:] if 0 < number < RATE / 2)
    return Tone(_bounded(numbers[0]), _bounded(numbers[1]), frequencies, _loudness(settings))


def _digit(digit: str, settings: dict[str, float]) -> Tone:
    at = _PAD.index(digit)
    return Tone(
        _bounded(settings["d"]), _bounded(settings["w"]), (_ROWS[at // 4], _COLUMNS[at % 4]), _loudness(settings)
    )


def _loudness(settings: dict[str, float]) -> float:
    return min(0.0, max(-63.0, settings["v"]))


def _bounded(milliseconds: float) -> int:
    return int(min(MAXIMUM_MS, max(0.0, milliseconds)))


def _number(text: str, whole: str) -> float:
    try:
        return float(text.strip())
    except ValueError:
        raise MediaError(f"bad number {text.strip()!r} in {whole!r}") from None
