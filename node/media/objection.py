"""Why an offer cannot be taken, for the Warning of its refusal (RFC 3261 20.43; pure)."""

from __future__ import annotations

from node.media import sdp
from node.media.errors import MalformedSdp
from node.media.negotiation import is_relayable

AGENT = "sofia-node"
"Who warns: a pseudonym, for a host would tell a stranger more than it needs."


def warnings(offer: str) -> list[tuple[str, str]]:
    """The header that says what is wrong with an offer, if it is something that we would refuse whoever is called."""
    try:
        audio = [media for media in sdp.parse(offer).media if media.kind == "audio" and media.port]
    except MalformedSdp:
        return []
    if not audio:
        return [_warning(304, "there is no audio in the session description")]
    if any(is_relayable(media) for media in audio):
        return []
    return [_warning(303, f"audio over {audio[0].protocol} is not relayed, RTP/AVP and RTP/SAVP with SDES keys are")]


def _warning(code: int, text: str) -> tuple[str, str]:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return "Warning", f'{code} {AGENT} "{quoted}"'
