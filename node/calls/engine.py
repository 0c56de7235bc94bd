"""A leg whose port is an rtpengine's: what is wished for, what its record keeps of it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.leg import Leg
from node.config.profile import ProfileSettings
from node.media import negotiation
from node.media.anchored import Anchored, Wish
from node.media.sdp import Direction
from store.records import MediaRecord

if TYPE_CHECKING:
    from node.calls.call import Call


def wish(call: Call, leg: Leg, media: MediaRecord, settings: ProfileSettings | None) -> Wish | None:
    """The port it has, or a new one beside the other legs of the call; None: one of our own relay is due."""
    if media.port and media.engine:
        last = Anchored(media.engine, media.engine_call_id, media.engine_tag, media.advertised, media.port)
        return Wish((media.engine,), last=last)
    media.engine = media.engine_call_id = media.engine_tag = ""
    if settings is None or settings.media_engine != "rtpengine":
        media.address, media.advertised = "", ""
        if settings is not None:
            media.address, media.advertised = settings.rtp_ip, call.exchange.media_address(leg)
        return None
    if media.port:
        return None  # our own relay's, from before the profile said otherwise
    return Wish(settings.rtpengine_ng, beside=[other.uuid for other in call.legs if other is not leg and other.live])


def note(media: MediaRecord, place: Anchored) -> int:
    """Where the leg is now, for its descriptions and its record; the port."""
    media.engine, media.engine_call_id, media.engine_tag = place.engine, place.call_id, place.tag
    media.address = media.advertised = place.address
    return place.port


def direction(media: MediaRecord) -> Direction:
    """Which way the leg says that packets flow."""
    audio = negotiation.audio_of(media.remote_sdp)
    return "inactive" if negotiation.is_unspecified(audio.host) else audio.direction
