"""Whether a leg has to be told that we are somewhere else now: by its media address, or by our Contact (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from node.config.acl import AccessList, of_our_network
from node.config.profile import ProfileSettings
from store.records import MediaRecord

Reinvite = Literal["auto", "always", "never"]
"When a recovered leg is re-INVITEd: where our address changed, whatever happened, or not at all."
EVERY = ("0.0.0.0", "::")


def media_named(settings: ProfileSettings, lists: Mapping[str, AccessList], peer: str) -> str:
    """The address that our descriptions name towards a peer; empty `peer`: it is not known."""
    if not settings.auto_nat or not peer:
        return settings.public_rtp_ip
    return settings.rtp_ip if of_our_network(lists, settings.local_network_acl, peer) else settings.public_rtp_ip


def media_moved(media: MediaRecord | None, settings: ProfileSettings, named: str) -> bool:
    """The leg sends its audio to an address that is not ours."""
    if media is None or not media.port or media.engine:
        return False  # an rtpengine stays where it is
    return media.advertised not in ("", named) or media.address not in ("", *settings.rtp_ips, settings.rtp_ip)


def contact_moved(local: str, settings: ProfileSettings, transport: str = "UDP") -> bool:
    """The leg sends its requests to an address that is not ours; `local`: where it was served.

    Behind an `ext-sip-ip` that does not say anything: the other node may well be called by the same name. Nor does it of
    WebSockets that are heard on every address; those of an address of their own are called by `sip-ip` all the same.
    """
    binding = {"WS": settings.ws_binding, "WSS": settings.wss_binding}.get(transport)
    heard = (binding.host if binding is not None else "") or settings.sip_ip
    if local in ("", settings.sip_ip, heard) or heard in EVERY:
        return False
    return settings.public_ip == settings.sip_ip
