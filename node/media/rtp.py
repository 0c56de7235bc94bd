"""RTP and RTCP packets (RFC 3550 5.1, 6.4): enough to tell them from garbage and to make our own."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

HEADER = Struct("!BBHII")
VERSION = 2
MARKER = 0x80


@dataclass(frozen=True, slots=True)
class Packet:
    """An RTP packet without contributing sources and extension, as we send it."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False

    @classmethod
    def parse(cls, data: bytes) -> Packet | None:
        """None for what is no RTP; contributing sources, extension and padding are skipped."""
        if not is_rtp(data):
            return None
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        at = payload_at(data)
        end = len(data) - (data[-1] if first & 0x20 else 0)
        return cls(second & 0x7F, sequence, timestamp, ssrc, data[at:end], bool(second & MARKER))

    def __bytes__(self) -> bytes:
        return header(self.payload_type, self.sequence, self.timestamp, self.ssrc, marker=self.marker) + self.payload


def is_rtp(data: bytes) -> bool:
    """RTP by its version and length, and not RTCP that strayed onto the port (RFC 5761 4)."""
    return len(data) >= 12 and data[0] >> 6 == VERSION and not 192 <= data[1] <= 223


def is_rtcp(data: bytes) -> bool:
    return len(data) >= 8 and data[0] >> 6 == VERSION and 192 <= data[1] <= 223


def payload_at(data: bytes) -> int:
    """Where the payload of an RTP packet begins; beyond its end for one that lies about its length."""
    at = 12 + 4 * (data[0] & 0x0F)
    if data[0] & 0x10 and len(data) >= at + 4:
        at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
    return at


def header(payload_type: int, sequence: int, timestamp: int, ssrc: int, *, marker: bool = False) -> bytes:
    second = payload_type | MARKER if marker else payload_type
    return HEADER.pack(VERSION << 6, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
