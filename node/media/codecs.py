"""Codecs as SDP names them, and as FreeSWITCH's preference lists do (`PCMU@20i`, `OPUS@48000h@20i@2c`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from node.media.sdp import Line, Media
from node.sip.fields import number

STATIC = {
    0: ("PCMU", 8000),
    3: ("GSM", 8000),
    4: ("G723", 8000),
    5: ("DVI4", 8000),
    6: ("DVI4", 16000),
    7: ("LPC", 8000),
    8: ("PCMA", 8000),
    9: ("G722", 8000),
    10: ("L16", 44100),
    11: ("L16", 44100),
    12: ("QCELP", 8000),
    13: ("CN", 8000),
    15: ("G728", 8000),
    18: ("G729", 8000),
}
"RFC 3551 6, audio."

REMEMBERED = 64
"Lines of a section up to which what was read of it is kept for a while."

ACCESSORIES = frozenset({"TELEPHONE-EVENT", "CN", "RED"})
"No codecs of their own: they go along with one."


class Codec(Struct, frozen=True):
    """One payload type of a media section."""

    payload_type: int
    name: str
    "As written; compare with `is_called`."
    rate: int = 8000
    channels: int = 1
    fmtp: str = ""

    def is_called(self, name: str) -> bool:
        return self.name.upper() == name.upper()

    @property
    def is_accessory(self) -> bool:
        return self.name.upper() in ACCESSORIES

    def same(self, other: Codec) -> bool:
        """Whether both are the same encoding, whatever the payload type."""
        return self.is_called(other.name) and self.rate == other.rate and self.channels == other.channels


class Preference(Struct, frozen=True):
    """One token of a codec preference list."""

    name: str
    rate: int = 0
    "0: any."

    @classmethod
    def parse(cls, text: str) -> Preference:
        name, *options = text.strip().split("~")[0].split("@")
        rates = [int(option[:-1]) for option in options if option.endswith("h") and option[:-1].isdigit()]
        return cls(name.rpartition(".")[2].upper(), rates[0] if rates else 0)

    def wants(self, codec: Codec) -> bool:
        return codec.name.upper() == self.name and self.rate in (0, codec.rate)


def codecs_of(media: Media) -> tuple[Codec, ...]:
    """What the formats of an RTP section stand for, in order; formats that mean nothing to anybody are left out."""
    known = len(media.lines) <= REMEMBERED
    return (_remembered if known else _codecs_of)(media.formats, media.lines)


def _codecs_of(formats: tuple[str, ...], lines: tuple[Line, ...]) -> tuple[Codec, ...]:
    maps: dict[str, str] = {}
    parameters: dict[str, str] = {}
    for kind, value in lines:
        if kind == "a":
            name, _, rest = value.partition(":")
            name = name.strip().lower()
            if name in ("rtpmap", "fmtp"):
                payload, _, rest = rest.strip().partition(" ")
                (maps if name == "rtpmap" else parameters).setdefault(payload, rest.strip())
    found = []
    for text in formats:
        payload_type = number(text, 127)
        if payload_type is None:
            continue
        codec = _codec(payload_type, maps.get(text, ""), parameters.get(text, ""))
        if codec is not None:
            found.append(codec)
    return tuple(found)


_remembered = lru_cache(maxsize=512)(_codecs_of)


def _codec(payload_type: int, mapped: str, fmtp: str) -> Codec | None:
    name, _, rest = mapped.partition("/")
    written, _, channels = rest.partition("/")
    rate = number(written, 2**31)
    if name and rate is not None:
        return Codec(payload_type, name, rate, number(channels, 255) or 1, fmtp)
    if payload_type in STATIC:
        static_name, static_rate = STATIC[payload_type]
        return Codec(payload_type, static_name, static_rate, 1, fmtp)
    return None


def selected(offered: Sequence[Codec], preferences: Sequence[str], *, greedy: bool = False) -> list[Codec]:
    """The offered codecs that a preference list names, with what goes along; all of them if it names none of these.

    In the order of the offer, or, greedy, in that of the list.
    """
    return list(_selected(tuple(offered), tuple(preferences), greedy))


@lru_cache(maxsize=256)
def _selected(offered: tuple[Codec, ...], preferences: tuple[str, ...], greedy: bool) -> tuple[Codec, ...]:
    wanted = [Preference.parse(text) for text in preferences if text.strip()]
    real = [codec for codec in offered if not codec.is_accessory]
    kept = [codec for codec in real if any(one.wants(codec) for one in wanted)] or real
    if greedy:
        kept.sort(key=lambda codec: next((at for at, one in enumerate(wanted) if one.wants(codec)), len(wanted)))
    return tuple(kept + accessories_for(kept, offered))


@lru_cache(maxsize=256)
def common(codecs: tuple[Codec, ...], others: tuple[Codec, ...]) -> tuple[Codec, ...]:
    """Those that the others have too, under whatever payload types. Kept, as most phones offer much the same."""
    return tuple(codec for codec in codecs if any(codec.same(one) for one in others))


def accessories_for(kept: Sequence[Codec], offered: Sequence[Codec]) -> list[Codec]:
    """telephone-event, CN, RED of the offer, at a clock rate of what is kept (all, where none fits)."""
    accessories = [codec for codec in offered if codec.is_accessory]
    rates = {codec.rate for codec in kept}
    return [codec for codec in accessories if codec.rate in rates] or accessories
