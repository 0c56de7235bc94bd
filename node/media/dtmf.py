"""Digits in RTP: telephone-events (RFC 4733)."""

from __future__ import annotations

from node.media.rtp import is_rtp, payload_at

DIGITS = "0123456789*#ABCDF"
"By event code; 16 is the hook flash."
END = 0x80


class Recogniser:
    """Told the packets of one stream, gives each digit once, when it ends.

    The last packet of an event is sent three times and may be lost three times all the same: then the digit is given
    when the next one begins.
    """

    __slots__ = ("_event", "_milliseconds", "_payload_type", "_rate", "_timestamp", "_told")

    def __init__(self, payload_type: int, rate: int = 8000) -> None:
        self._payload_type = payload_type
        self._rate = rate
        self._timestamp = -1
        self._event = 0
        self._milliseconds = 0
        self._told = True

    def feed(self, data: bytes) -> list[tuple[str, int]]:
        """Digits that ended with this packet, with their length in milliseconds."""
        if len(data) < 16 or data[1] & 0x7F != self._payload_type or not is_rtp(data):
            return []
        at = payload_at(data)
        if len(data) < at + 4 or data[at] >= len(DIGITS):
            return []
        timestamp = int.from_bytes(data[4:8], "big")
        ended = []
        if timestamp != self._timestamp:
            ended = self._end()
            self._timestamp, self._event, self._told, self._milliseconds = timestamp, data[at], False, 0
        # Packets out of order must not shorten it.
        duration = int.from_bytes(data[at + 2 : at + 4], "big") * 1000 // self._rate
        self._milliseconds = max(self._milliseconds, duration)
        if data[at + 1] & END:
            ended += self._end()
        return ended

    def _end(self) -> list[tuple[str, int]]:
        if self._told:
            return []
        self._told = True
        return [(DIGITS[self._event], self._milliseconds)]
