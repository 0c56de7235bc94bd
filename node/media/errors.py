"""What can go wrong with media.

MediaError            the media process refused, failed, or is gone; its text is for the log and the operator
 └─ MediaStopped      a playback ended before its end because somebody asked for it
SipError
 ├─ Malformed         400
 │   └─ MalformedSdp  400   a session description that cannot be read, with the line
 └─ NotAcceptable     488   one that can be read, with nothing in it that we can do
"""

from __future__ import annotations

from node.sip.errors import Malformed, SipError


class MediaError(Exception):
    """The media process refused, failed or is gone."""


class MediaStopped(MediaError):
    """A playback was stopped, replaced or cut short by a join or a close; nothing is broken."""


class MalformedSdp(Malformed):
    """A session description that cannot be read; `number` is the line, from 1."""

    def __init__(self, why: str, number: int = 0, line: str = "") -> None:
        super().__init__("SDP", line)
        self.args = (f"bad SDP: {why}" + (f" in line {number}: {line[:80]!r}" if number else ""),)
        self.number = number


class NotAcceptable(SipError):
    """RFC 3261 21.4.26: nothing in the offer that we can do."""

    status = 488
