"""The stored form of a Contact, as mod_sofia's tables have it, and back to where a request goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from node.sip.fields import NameAddr
from node.sip.flow import Address, endpoint_text
from node.sip.uri import Uri

_ENCODED = re.compile(r"%(?![0-9A-Fa-f]{2})|[\x00-\x20#&+:;<=>?@\[\\\]^`{|}\"\x7f-\U0010ffff]")
_URI = re.compile(r"<([^>]*)>")
_LOOSE = re.compile(r";lr(?=[;=>]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where requests to a binding go."""

    uri: str
    "The Request-URI: the Contact as the phone gave it."
    hop: str = ""
    "URI of the next hop, which gets no Route: the address a NAT showed us. Empty: as the routes or the URI say."
    routes: tuple[str, ...] = ()
    "Route set of name-addrs: the Path it registered by (RFC 3327)."


def stored_contact(
    contact: NameAddr,
    to: NameAddr,
    *,
    source: Address,
    nat: str,
    path: Sequence[str],
    received: bool,
    secure_ws: bool,
    reg_id: int = 0,
) -> str:
    """`"display" <uri;fs_nat=yes;fs_path=...>`; parameters outside the brackets are not kept.

    `fs_reg_id` is ours: two flows of a phone (RFC 5626) may have the same Contact, and are two bindings.
    """
    uri = str(contact.uri)
    extra = ""
    if nat:
        if received:
            extra += f";received={endpoint_text(source)}"
        extra += ";fs_nat=yes"
    if reg_id:
        extra += f";fs_reg_id={reg_id}"
    if path:
        extra += ";fs_path=" + "%2C".join(_twice_encoded(each) for each in path[:20])
    elif nat:
        extra += ";fs_path=" + _twice_encoded(source_uri(contact.uri, source, secure_ws=secure_ws))
    display = contact.display or to.display
    return f'"{display}" <{uri}{extra}>'


def source_uri(uri: Uri, source: Address, *, secure_ws: bool = False) -> str:
    """The Contact with the address it really came from."""
    tail = "".join(f";{name}" if value is None else f";{name}={value}" for name, value in uri.params)
    if secure_ws:
        tail = re.sub(r";transport=ws\b", ";transport=wss", tail, flags=re.IGNORECASE)
    user = f"{uri.user}@" if uri.user else ""
    return f"{uri.scheme}:{user}{endpoint_text(source)}{tail}"


def status_of(uri: Uri, *, nat: str, via: str) -> str:
    """`Registered(UDP-NAT)`: by the Contact's transport, not the socket's."""
    if nat and via in ("WS", "WSS"):
        return f"Registered({via}-NAT)"
    transport = "TLS" if uri.scheme == "sips" else uri.transport if uri.params else ""
    kind = transport if transport in ("TCP", "TLS") else "UDP"
    return f"Registered({kind}-NAT)" if nat else f"Registered({kind})"


def wire_uri(contact: str) -> str:
    """The URI of a stored contact as the phone gave it: everything of ours taken off."""
    start = contact.find("<") + 1
    end = contact.find(">", start)
    uri = contact[start:end] if 0 < start <= end else contact
    cut = uri.find(";fs_")
    return uri if cut < 0 else uri[:cut]


def destination(contact: str) -> Destination:
    """Where requests to a stored contact go. A loose router in `fs_path` is a Path; anything else is a way through a NAT."""
    match = _URI.search(contact)
    uri = match[1] if match else contact
    _, found, rest = uri.partition(";fs_path=")
    if not found:
        return Destination(wire_uri(contact))
    hops = [unquote(hop, errors="surrogateescape") for hop in re.split(r",|%2[Cc]", rest.split(";", 1)[0]) if hop]
    if not any(_LOOSE.search(hop) for hop in hops):
        return Destination(wire_uri(contact), hops[0] if hops else "")
    return Destination(wire_uri(contact), routes=tuple(hop if hop.startswith("<") else f"<{hop}>" for hop in hops))


def encoded(text: str) -> str:
    """Percent-encoded as mod_sofia does it; what is encoded already is left alone."""
    return _ENCODED.sub(
        lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogateescape")), text
    )


def _twice_encoded(uri: str) -> str:
    """What is decoded once on its way back and then has its own escapes still, as a proxy wants its Path (RFC 3327 5.2)."""
    return encoded(uri.replace("%", "%25").replace(",", "%252C"))
