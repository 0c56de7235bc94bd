"""G.711: 16 bit linear samples to u-law and A-law and back, by tables.

The encoder picks the code whose value is nearest, which is what the standard's segments amount to; its tables are
filled in runs, since a table made sample by sample would hold the media process up for 30 ms.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cache

from node.media.control import CodecName

SILENCE: dict[CodecName, bytes] = {"PCMU": b"\xff", "PCMA": b"\xd5"}


def encode(samples: Iterable[int], codec: CodecName) -> bytes:
    """16 bit samples to one octet each."""
    return bytes(map(_codes(codec).__getitem__, samples))


def decode(octets: bytes, codec: CodecName) -> array[int]:
    """One octet to one 16 bit sample each."""
    return array("h", map(values(codec).__getitem__, octets))


@cache
def values(codec: CodecName) -> tuple[int, ...]:
    """The sample that each of the 256 codes stands for."""
    return tuple(_ulaw(code) if codec == "PCMU" else _alaw(code) for code in range(256))


@cache
def _codes(codec: CodecName) -> bytes:
    """The code of each sample; negative ones from the end, as Python counts."""
    ordered = sorted((value, code) for code, value in enumerate(values(codec)))
    row = bytearray()
    at = -32768
    for (value, code), (following, _next) in zip(ordered, [*ordered[1:], (2 * 32768 - ordered[-1][0], 0)], strict=True):
        until = min((value + following) // 2 + 1, 32768)
        row += bytes([code]) * (until - at)
        at = until
    row += row[-1:] * (65536 - len(row))
    return bytes(row[32768:] + row[:32768])


def _ulaw(code: int) -> int:
    code = ~code & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return -magnitude if code & 0x80 else magnitude


def _alaw(code: int) -> int:
    code ^= 0x55
    segment = code >> 4 & 7
    magnitude = (code & 0x0F) << 4
    magnitude = magnitude + 8 if segment == 0 else magnitude + 0x108 << segment - 1
    return magnitude if code & 0x80 else -magnitude
