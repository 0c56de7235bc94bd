"""Offer and answer (RFC 3264) for somebody in the middle: our description towards one leg, made from the other leg's.

Media goes through us without being looked into, so payload numbers, parameters and SDES keys (`a=crypto`) are passed
on as they are; addresses, ports and `o=` become ours. One audio stream is anchored; every other section is refused.
What would need us inside the media (ICE, DTLS, RTCP multiplexing, bundles) is dropped.

An offer may as well come in a 200 (INVITE without SDP): the same functions, used the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct
from msgspec.structs import replace

from node.debug import soa
from node.media import sdp
from node.media.codecs import Codec, Preference, accessories_for, codecs_of, common, selected
from node.media.control import CodecName
from node.media.errors import NotAcceptable
from node.media.sdp import Description, Direction, Line, Media, Origin
from node.sip.fields import number
from node.sip.mask import masked, readable

USER = "FreeSWITCH"
"In `o=` and `s=`."
RELAYED = ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF")
PLAYABLE: tuple[CodecName, ...] = ("PCMU", "PCMA")

DROPPED = re.compile(
    r"candidate|remote-candidates|end-of-candidates|ice-\w+|fingerprint|setup|connection|tls-id|dtls-id|key-mgmt"
    r"|group|mid|msid|msid-semantic|ssrc|ssrc-group|bundle-only|rid|simulcast|extmap|extmap-allow-mixed"
    r"|rtcp|rtcp-mux|rtcp-mux-only|rtcp-rsize|rtcp-xr|alt"
)
"Attributes that speak of what does not pass through us, or of addresses that are not ours."
ABOUT_FORMAT = ("rtpmap", "fmtp", "rtcp-fb")

_MIRROR: dict[Direction, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}


class Audio(Struct, frozen=True):
    """The audio stream of a description, as its author sees it."""

    host: str
    port: int
    rtcp_port: int
    direction: Direction
    codecs: tuple[Codec, ...]
    protocol: str = "RTP/AVP"
    ptime: int = 0
    index: int = 0
    "Which section of the description it is."

    @property
    def held(self) -> bool:
        """The author does not want to hear us (RFC 3264 8.4, and `c=0.0.0.0` of RFC 2543)."""
        return self.direction in ("sendonly", "inactive") or is_unspecified(self.host)

    @property
    def active(self) -> bool:
        return self.port != 0

    @property
    def telephone_event(self) -> int | None:
        """The payload type of telephone-event, preferably at the clock rate of the first codec."""
        events = [codec for codec in self.codecs if codec.is_called("telephone-event")]
        rate = self.codecs[0].rate if self.codecs else 8000
        return next((codec.payload_type for codec in sorted(events, key=lambda codec: codec.rate != rate)), None)


class Answer(Struct, frozen=True):
    """Our answer to somebody we play to, and what to play with."""

    sdp: str
    codec: CodecName
    payload_type: int
    telephone_event: int | None = None


def audio_of(text: str) -> Audio:
    """The audio stream of a description. Raises MalformedSdp, or NotAcceptable where there is none."""
    return _read(text)[1]


def _read(text: str) -> tuple[Description, Audio]:
    """A description and its audio stream. Raises MalformedSdp, or NotAcceptable."""
    return _remembered(text) if len(text) <= sdp.REMEMBERED else _read_anew(text)


def _read_anew(text: str) -> tuple[Description, Audio]:
    description = sdp.parse(text)
    index = _audio_index(description)
    media = description.media[index]
    rtcp, ptime, direction = (_known if len(text) <= sdp.REMEMBERED else _particulars)(media.lines)
    audio = Audio(
        media.host or description.host or "",
        media.port,
        rtcp or min(media.port + 1, 65_535),
        direction or description.direction or "sendrecv",
        codecs_of(media),
        media.protocol,
        ptime,
        index,
    )
    return description, audio


def _particulars(lines: tuple[Line, ...]) -> tuple[int | None, int, Direction | None]:
    """The RTCP port, the packet time and the direction that a section names."""
    rtcp = number((sdp.attribute(lines, "rtcp") or "").split(" ")[0], 65_535)
    return rtcp, number(sdp.attribute(lines, "ptime") or "", 65_535) or 0, sdp.direction(lines)


_remembered = lru_cache(maxsize=512)(_read_anew)
_known = lru_cache(maxsize=512)(_particulars)
"What a phone says in each of its calls."


# ---- between two legs ----------------------------------------------------------------------------------------------


def relay_offer(
    remote_sdp: str,
    *,
    address: str,
    port: int,
    session_id: int,
    version: int,
    codecs: Sequence[str] = (),
    greedy: bool = False,
) -> str:
    """Our offer to one leg, made from what the other leg offered. `codecs`: the profile's preference list."""
    description, audio = _read(remote_sdp)
    theirs = description.media[audio.index]
    _demand_relayable(theirs)
    section = theirs.rejected()
    if audio.active:
        section = _anchored(theirs, port, selected(audio.codecs, codecs, greedy=greedy))
        direction = _effective(audio)
        if direction not in ("sendrecv", theirs.direction):
            section = _aimed(section, direction)
    media = [section if at == audio.index else other.rejected() for at, other in enumerate(description.media)]
    return _told("offer", remote_sdp, _ours(address, session_id, version, media))


def relay_answer(remote_sdp: str, *, offer: str, address: str, port: int, session_id: int, version: int) -> str:
    """Our answer to the leg that made `offer`, from what the other leg answered. Section for section as the offer."""
    asked, offered = _read(offer)
    answered, audio = _read(remote_sdp)
    section = asked.media[offered.index].rejected()
    if audio.active:
        section = _anchored(answered.media[audio.index], port, common(audio.codecs, offered.codecs) or audio.codecs)
        section = _aimed(section, clamped(_effective(offered), _effective(audio)), offered.protocol)
    media = [section if at == offered.index else other.rejected() for at, other in enumerate(asked.media)]
    return _told("answer", remote_sdp, _ours(address, session_id, version, media))


def agreed(offer: str, answer: str) -> str:
    """The offer with only the formats that the answer took: what its author can be bridged with from now on."""
    asked, audio = _read(offer)
    keep = common(audio.codecs, audio_of(answer).codecs)
    if not keep:
        return offer
    media = [_limited(other, keep) if at == audio.index else other for at, other in enumerate(asked.media)]
    return str(replace(asked, media=tuple(media)))


# ---- by ourselves --------------------------------------------------------------------------------------------------


def answer_for_playback(
    offer: str, *, address: str, port: int, session_id: int, version: int, codecs: Sequence[str] = PLAYABLE
) -> Answer:
    """Answer an offer in order to play to its author. Raises NotAcceptable where it has neither PCMU nor PCMA."""
    description, audio = _read(offer)
    if audio.protocol.upper() not in ("RTP/AVP", "RTP/AVPF"):
        raise NotAcceptable(f"cannot play to {audio.protocol}")
    codec = _playable(audio.codecs, codecs)
    events = [one for one in accessories_for([codec], audio.codecs) if one.is_called("telephone-event")]
    keep = [codec, *events[:1]]
    section = Media("audio", port, audio.protocol, *_described(keep, _MIRROR[audio.direction]))
    media = [section if at == audio.index else other.rejected() for at, other in enumerate(description.media)]
    return Answer(
        _told("answer of our own", offer, _ours(address, session_id, version, media)),
        "PCMU" if codec.is_called("PCMU") else "PCMA",
        codec.payload_type,
        keep[1].payload_type if len(keep) > 1 else None,
    )


def offer_for_playback(
    *,
    address: str,
    port: int,
    session_id: int,
    version: int,
    codecs: Sequence[str] = PLAYABLE,
    telephone_event: int = 101,
) -> str:
    """An offer of our own to somebody we want to play to: PCMU and PCMA in the order of the preference list."""
    known = {"PCMU": Codec(0, "PCMU"), "PCMA": Codec(8, "PCMA")}
    names = [name for name in dict.fromkeys(Preference.parse(text).name for text in codecs) if name in known]
    keep = [known[name] for name in names or PLAYABLE]
    keep.append(Codec(telephone_event, "telephone-event", fmtp="0-15"))
    ours = _ours(address, session_id, version, [Media("audio", port, "RTP/AVP", *_described(keep, "sendrecv"))])
    return _told("offer of our own", "", ours)


def answer_locally(offer: str, *, local_sdp: str, address: str, port: int, session_id: int, version: int) -> str:
    """Answer a re-INVITE by ourselves, the other leg not asked: what was agreed stays, the direction follows the offer.

    `local_sdp` is our last description to this leg. Raises NotAcceptable where the offer leaves nothing of it.
    """
    asked, audio = _read(offer)
    ours, mine = _read(local_sdp)
    section = asked.media[audio.index].rejected()
    if audio.active:
        keep = [
            replace(codec, payload_type=one.payload_type)
            for codec in mine.codecs
            for one in audio.codecs
            if codec.same(one)
        ]
        if not any(not codec.is_accessory for codec in keep):
            raise NotAcceptable("the new offer has none of the codecs that were agreed")
        said = ours.media[mine.index].lines
        lines = [line for line in said if not _is_about_format(line) and not _is_direction(line)]
        formats, described = _described(keep, _MIRROR[_effective(audio)], ptime="")
        section = Media("audio", port, audio.protocol, formats, tuple(described) + tuple(lines))
    media = [section if at == audio.index else other.rejected() for at, other in enumerate(asked.media)]
    return _told("answer of our own", offer, _ours(address, session_id, version, media))


def moved(local_sdp: str, *, address: str, port: int, session_id: int, version: int) -> str:
    """Our last description again, from another address or port: the offer of a re-INVITE after a take-over."""
    description = sdp.parse(local_sdp)
    index = _audio_index(description)
    media = [replace(one, port=port) if at == index else one for at, one in enumerate(description.media)]
    return _ours(address, session_id, version, media)


def with_direction(text: str, direction: Direction) -> str:
    """The description with another direction of its audio: our own hold and unhold."""
    description = sdp.parse(text)
    index = _audio_index(description)
    media = [_aimed(one, direction) if at == index else one for at, one in enumerate(description.media)]
    # One that says nothing but its direction before the first stream keeps it: the stream's own one counts.
    lines = tuple(line for line in description.lines if not _is_direction(line)) or description.lines
    return str(Description(lines, tuple(media)))


def following(description: str, previous: str) -> str:
    """The description with session id and version such that it may follow `previous` (RFC 3264 8).

    The same version where nothing else changed, the next one where something did.
    """
    if not previous:
        return description
    new, old = sdp.parse(description), sdp.parse(previous)
    origin, last = new.origin, old.origin
    if origin is None or last is None:
        return description
    same = _with_origin(new, last)
    return str(same if same == old else _with_origin(new, replace(last, version=last.version + 1, host=origin.host)))


def _told(what: str, theirs: str, ours: str) -> str:
    """Our description, spoken of if somebody wants to hear of it."""
    if soa.level >= 5:
        lines = [line for line in ours.split("\r\n") if line[:2] in ("m=", "c=")]
        soa.say("%s: %s", what, ", ".join(lines))
    if soa.level >= 9:
        soa.say(
            "made from:\n%s\nours:\n%s",
            *(readable(masked(text.encode("utf-8", "surrogateescape"))) for text in (theirs, ours)),
        )
    return ours


def is_unspecified(host: str) -> bool:
    return host in ("", "0.0.0.0", "::", "0:0:0:0:0:0:0:0")


# ---- parts ---------------------------------------------------------------------------------------------------------


def _audio_index(description: Description) -> int:
    """The audio section we mean: the first that is switched on, else the first."""
    if len(description.media) == 1 and description.media[0].kind == "audio":
        return 0
    audio = [at for at, media in enumerate(description.media) if media.kind == "audio"]
    if not audio:
        raise NotAcceptable("no audio in the session description")
    usable = [at for at in audio if description.media[at].port and is_relayable(description.media[at])]
    return usable[0] if usable else next((at for at in audio if description.media[at].port), audio[0])


def is_relayable(media: Media) -> bool:
    """Plain RTP, or SRTP whose keys stand in the description (RFC 4568)."""
    return media.protocol.upper() in RELAYED and not (
        media.protocol.upper().startswith("RTP/SAVP") and media.attribute("crypto") is None
    )


def _demand_relayable(media: Media) -> None:
    if media.port and not is_relayable(media):
        raise NotAcceptable(f"audio over {media.protocol} without SDES keys cannot be relayed")


def _ours(address: str, session_id: int, version: int, media: Sequence[Media]) -> str:
    network = sdp.network(address)
    head = f"v=0\r\no={USER} {session_id} {version} {network}\r\ns={USER}\r\nc={network}\r\nt=0 0\r\n"
    return head + "".join([str(section) for section in media])


def _anchored(media: Media, port: int, keep: Sequence[Codec]) -> Media:
    """The section with our port, limited to some codecs, without what does not pass through us."""
    formats = _formats(media, keep)
    passing = ("", "*", *formats)
    lines = [line for line in media.lines if (_about(line[1]) in passing if line[0] == "a" else line[0] not in "ck")]
    return Media(media.kind, port, media.protocol, formats, tuple(lines))


@lru_cache(maxsize=1024)
def _about(attribute: str) -> str | None:
    """Which format an attribute is about, empty for all of them; None for one that is not passed on."""
    name = sdp.attribute_name(attribute)
    if name in ABOUT_FORMAT:
        return _format(attribute) or None
    return None if DROPPED.fullmatch(name) else ""


def _limited(media: Media, keep: Sequence[Codec]) -> Media:
    formats = _formats(media, keep)
    lines = tuple([line for line in media.lines if not _is_about_format(line) or _format(line[1]) in (*formats, "*")])
    return replace(media, formats=formats, lines=lines)


def _formats(media: Media, keep: Sequence[Codec]) -> tuple[str, ...]:
    return tuple([str(codec.payload_type) for codec in keep]) or media.formats


def _described(
    codecs: Sequence[Codec], direction: Direction, ptime: str = "20"
) -> tuple[tuple[str, ...], tuple[Line, ...]]:
    """The formats of a section, and the lines that say what they are."""
    lines: list[Line] = []
    for codec in codecs:
        channels = f"/{codec.channels}" if codec.channels > 1 else ""
        lines.append(("a", f"rtpmap:{codec.payload_type} {codec.name}/{codec.rate}{channels}"))
        if codec.fmtp:
            lines.append(("a", f"fmtp:{codec.payload_type} {codec.fmtp}"))
    if ptime:
        lines.append(("a", f"ptime:{ptime}"))
    if direction != "sendrecv":
        lines.append(("a", direction))
    return tuple(str(codec.payload_type) for codec in codecs), tuple(lines)


def _playable(offered: Sequence[Codec], preferences: Sequence[str]) -> Codec:
    known = [codec for codec in offered if codec.name.upper() in PLAYABLE and codec.rate == 8000]
    wanted = [Preference.parse(text) for text in preferences]
    codec = next((one for one in known if any(preference.wants(one) for preference in wanted)), None)
    if codec is None and not known:
        raise NotAcceptable("neither PCMU nor PCMA in the offer")
    return codec or known[0]


def _effective(audio: Audio) -> Direction:
    """The direction, with `c=0.0.0.0` said as today (RFC 3264 8.4): the author sends, if anything, and does not hear."""
    if not audio.host or not is_unspecified(audio.host):
        return audio.direction
    return "sendonly" if audio.direction in ("sendrecv", "sendonly") else "inactive"


def clamped(offered: Direction, answered: Direction) -> Direction:
    """What of the answered direction the offer allows (RFC 3264 6.1): old phones answer a hold with sendrecv."""
    allowed = _MIRROR[offered]
    sends = "send" in allowed and "send" in answered
    receives = "recv" in allowed and "recv" in answered
    if sends and receives:
        return "sendrecv"
    return "sendonly" if sends else "recvonly" if receives else "inactive"


def _aimed(media: Media, direction: Direction, protocol: str = "") -> Media:
    """The section with this direction; by the other one's protocol, where that is named."""
    lines = [line for line in media.lines if line[0] != "a" or line[1].lower() not in sdp.DIRECTIONS]
    if direction != "sendrecv":
        lines.append(("a", direction))
    return Media(media.kind, media.port, protocol or media.protocol, media.formats, tuple(lines))


def _with_origin(description: Description, origin: Origin) -> Description:
    lines = tuple(("o", str(origin)) if kind == "o" else (kind, value) for kind, value in description.lines)
    return replace(description, lines=lines)


def _is_direction(line: Line) -> bool:
    return line[0] == "a" and line[1].lower() in sdp.DIRECTIONS


def _is_about_format(line: Line) -> bool:
    return line[0] == "a" and sdp.attribute_name(line[1]) in ABOUT_FORMAT


def _format(attribute: str) -> str:
    return attribute.partition(":")[2].strip().partition(" ")[0]
