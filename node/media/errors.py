"""What can go wrong with media.

MediaError          the media process refused, failed, or is gone; its text is for the log and the operator
    MediaStopped    a playback ended before its end because somebody asked for it
"""

from __future__ import annotations


class MediaError(Exception):
    """The media process refused, failed or is gone."""


class MediaStopped(MediaError):
    """A playback was stopped, replaced or cut short by a join or a close; nothing is broken."""
