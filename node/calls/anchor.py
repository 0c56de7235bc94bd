"""The media of a leg: our address and port in what we say to it, what it said to us, and the media process told so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import bridge, engine
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.config.profile import ProfileSettings
from node.media import negotiation
from node.media.anchored import Anchored
from node.media.errors import MediaError
from node.media.negotiation import Audio
from store.records import MediaRecord

if TYPE_CHECKING:
    from node.calls.call import Call

LOCAL_OFFER = ("PCMU", "PCMA")


def prepare(leg: Leg, settings: ProfileSettings, remote_sdp: str = "") -> None:
    """A leg gets its side of the media; its port is opened when it is needed."""
    leg.media = MediaRecord(
        address=settings.rtp_ip,
        advertised=settings.public_rtp_ip,
        remote_sdp=remote_sdp,
    )


def open_port(call: Call, leg: Leg, then: Callable[[MediaError | None], None] | None = None) -> None:
    """Open the leg's port, or the one it had before; `then` is called through the call's door."""
    exchange, media = call.exchange, leg.media
    assert media is not None, "a leg without media"
    settings = exchange.profile(leg.profile)
    wish = None
    if media.engine or (settings is not None and settings.media_engine == "rtpengine"):
        wish = engine.wish(call, leg, media, settings)
    first, last = (settings.rtp_start_port, settings.rtp_end_port) if settings is not None else (16384, 32768)
    exchange.media.open(
        leg.uuid,
        address=settings.rtp_ip if wish is not None and settings is not None else media.address,
        first=first,
        last=last,
        port=media.port or None,
        dscp=settings.rtp_dscp if settings is not None else 46,
        wish=wish,
        then=partial(call.post, _opened, exchange, leg, then),
    )


def _opened(
    exchange: Exchange,
    leg: Leg,
    then: Callable[[MediaError | None], None] | None,
    outcome: int | Anchored | MediaError,
) -> None:
    if isinstance(outcome, MediaError):
        if then is not None:
            then(outcome)
        return
    if not leg.live or leg.media is None:
        exchange.media.close(leg.uuid)
        return
    settings = exchange.profile(leg.profile)
    if isinstance(outcome, Anchored):
        outcome = engine.note(leg.media, outcome)
    elif settings is not None and settings.auto_nat:
        leg.media.advertised = exchange.media_address(leg)  # who it is for was not known before
    if not leg.media.sdp_session:
        # `o=` as mod_sofia counts it: unlike for each leg, and growing from call to call.
        leg.media.sdp_session = int(exchange.wall()) - outcome
        leg.media.sdp_version = leg.media.sdp_session + 1
    leg.media.port = outcome
    if then is not None:
        then(None)


# ---- what we say -----------------------------------------------------------------------------------------------------


def offer_to(exchange: Exchange, leg: Leg, remote_sdp: str) -> str:
    """Our offer to a leg, made from what the other leg said. Raises SipError where that cannot be."""
    media = leg.media
    assert media is not None
    assert media.port, "an offer without a port"
    settings = exchange.profile(leg.profile)
    wanted = leg.variables.get("absolute_codec_string") or leg.variables.get("codec_string")
    prefs = wanted.split(",") if wanted else settings.outbound_codec_prefs if settings is not None else ()
    text = negotiation.relay_offer(
        remote_sdp,
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
        codecs=prefs,
    )
    return say(leg, text)


def answer_to(leg: Leg, remote_sdp: str, offer: str = "") -> str:
    """Our answer to the leg that made `offer` (its last one), from what the other leg answered. Raises SipError."""
    media = leg.media
    assert media is not None
    assert media.port, "an answer without a port"
    text = negotiation.relay_answer(
        remote_sdp,
        offer=offer or media.remote_sdp,
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
    )
    return say(leg, text)


def own_answer(exchange: Exchange, leg: Leg) -> str:
    """Our own answer to the leg's offer, to play to it. Raises SipError."""
    media = leg.media
    assert media is not None
    assert media.port, "an answer without a port"
    settings = exchange.profile(leg.profile)
    answer = negotiation.answer_for_playback(
        media.remote_sdp,
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
        codecs=settings.inbound_codec_prefs if settings is not None else LOCAL_OFFER,
    )
    media.codec, media.payload_type = answer.codec, answer.payload_type
    return say(leg, answer.sdp)


def own_offer(exchange: Exchange, leg: Leg) -> str:
    """An offer of our own, for a leg nobody stands behind."""
    media = leg.media
    assert media is not None
    assert media.port, "an offer without a port"
    settings = exchange.profile(leg.profile)
    text = negotiation.offer_for_playback(
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
        codecs=settings.outbound_codec_prefs if settings is not None else LOCAL_OFFER,
    )
    return say(leg, text)


def again(leg: Leg, offer: str) -> str:
    """Our answer to a new offer of a leg, nobody asked: what was agreed stays, the direction follows. Raises SipError."""
    media = leg.media
    assert media is not None
    assert media.port, "an answer without a port"
    text = negotiation.answer_locally(
        offer,
        local_sdp=media.local_sdp,
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
    )
    return say(leg, text)


def moved(leg: Leg) -> str:
    """Our last description once more, from where we are now."""
    media = leg.media
    assert media is not None
    text = negotiation.moved(
        media.local_sdp,
        address=media.advertised,
        port=media.port,
        session_id=media.sdp_session,
        version=media.sdp_version,
    )
    return say(leg, text)


def say(leg: Leg, text: str) -> str:
    """Remember what we say to a leg; the version of `o=` grows if it is something else than last time (RFC 3264 8)."""
    assert leg.media is not None
    leg.media.local_sdp = negotiation.following(text, leg.media.local_sdp)
    return leg.media.local_sdp


def towards(caller: Leg) -> str:
    """What a new leg is offered on behalf of the caller: its own offer, or what it was already answered."""
    media = caller.media
    assert media is not None
    if media.codec and media.local_sdp and media.remote_sdp:
        return negotiation.agreed(media.remote_sdp, media.local_sdp)
    return media.remote_sdp


# ---- what we hear ------------------------------------------------------------------------------------------------------


def hear(exchange: Exchange, leg: Leg, remote_sdp: str) -> None:
    """A leg's new description counts from now on: send to where it says, note whether it holds."""
    media = leg.media
    assert media is not None
    media.remote_sdp = remote_sdp
    audio = aim(exchange, leg)
    if audio is None:
        return
    held = bridge.held_by(audio.direction, audio.host)
    ours = media.held in ("local", "both")
    media.held = ("both" if held else "local") if ours else ("remote" if held else "")


def aim(exchange: Exchange, leg: Leg) -> Audio | None:
    """Tell the media process where the leg's SDP says it is."""
    media = leg.media
    if media is None or not media.remote_sdp or not media.port:
        return None
    audio = negotiation.audio_of(media.remote_sdp)
    if media.engine and audio.active and negotiation.is_unspecified(audio.host):
        tell(exchange, leg)  # held the old way: it will be silent
    if audio.active and not negotiation.is_unspecified(audio.host):
        moved_to = (audio.host, audio.port, audio.rtcp_port)
        if moved_to != (media.remote_host, media.remote_port, media.remote_rtcp_port):
            media.remote_host, media.remote_port, media.remote_rtcp_port = moved_to
            media.learned_host, media.learned_port = "", 0
        tell(exchange, leg)
    return audio


def tell(exchange: Exchange, leg: Leg) -> None:
    """Where the leg's packets go, and where they were found to come from."""
    media = leg.media
    if media is None or not media.remote_port:
        return
    learned = (media.learned_host, media.learned_port) if media.learned_port else None
    exchange.media.remote(
        leg.uuid,
        media.remote_host,
        media.remote_port,
        media.remote_rtcp_port,
        learned=learned,
        direction=engine.direction(media) if media.engine else "sendrecv",
    )
