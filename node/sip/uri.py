"""SIP, SIPS and TEL URIs (RFC 3261 19.1)."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from node.sip.errors import Malformed
from node.sip.grammar import OTHER_URI, SIP_URI

Params = tuple[tuple[str, str | None], ...]
"Parameters in order, names as written; None for one without `=`."

REMEMBERED = 256
"Characters of a URI up to which it is remembered: longer ones are nobody's usual, and would fill the memory."

_DECISIVE = ("user", "ttl", "method", "maddr", "transport")
"Parameters that must be on both sides or on none for two URIs to be the same (RFC 3261 19.1.4)."

_ESCAPED_UNRESERVED = re.compile(r"%(3[0-9]|4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa]|2[1A789DEade]|5[Ff]|7[Ee])")
"Letters, digits and marks, which mean the same escaped or not (RFC 3261 19.1.4)."


class Uri(msgspec.Struct, frozen=True, gc=False):
    """A URI in its parts, escapes kept. `host` of an IPv6 reference keeps its brackets; of tel or urn, `user` holds the rest."""

    scheme: str
    user: str
    host: str
    port: int | None = None
    password: str | None = None
    params: Params = ()
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises Malformed. Reads what it has read lately from memory: the same few URIs come in every message of a peer."""
        return _remembered(text) if len(text) <= REMEMBERED else _parse(text)

    def __str__(self) -> str:
        if self.user and self.password is None and self.host and not self.headers:
            # As nearly all are.
            text = f"{self.scheme}:{self.user}@{self.host}"
            if self.port is not None:
                text += f":{self.port}"
            for name, value in self.params:
                text += f";{name}" if value is None else f";{name}={value}"
            return text
        parts = [self.scheme, ":"]
        if self.user:
            parts.append(self.user)
            if self.password is not None:
                parts += ":", self.password
            if self.host:
                parts.append("@")
        parts.append(self.host)
        if self.port is not None:
            parts.append(f":{self.port}")
        for name, value in self.params:
            parts.append(f";{name}" if value is None else f";{name}={value}")
        if self.headers:
            parts += "?", self.headers
        return "".join(parts)

    def param(self, name: str) -> str | None:
        """Value of a parameter: `""` if it stands there without one, None if it is not there."""
        return find_param(self.params, name)

    def with_param(self, name: str, value: str | None) -> Uri:
        """With this parameter set (None: present without value)."""
        return replace(self, params=set_param(self.params, name, value))

    def without_params(self, *names: str) -> Uri:
        """Without these parameters; without any if none is named."""
        return replace(self, params=drop_params(self.params, names))

    @property
    def transport(self) -> str:
        """`;transport=` in capitals, or ``."""
        return (find_param(self.params, "transport") or "").upper()

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 reference, `:::` taken for `::` (RFC 5118 4.10)."""
        return self.host[1:-1].replace(":::", "::") if self.host[:1] == "[" else self.host

    @property
    def host_port(self) -> str:
        """As it stands in the URI: `example.org` or `[::1]:5080`."""
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def secure(self) -> bool:
        return self.scheme == "sips"

    @property
    def aor(self) -> str:
        """`scheme:user@host`: without port, password, parameters and headers."""
        return (
            f"{self.scheme}:{self.user}@{self.host}"
            if self.user and self.host
            else f"{self.scheme}:{self.user}{self.host}"
        )


def _parse(text: str) -> Uri:
    match = SIP_URI.fullmatch(text)
    if match is None:
        return _parse_other(text)
    scheme, user, password, host, port, params, headers = match.groups()
    number = int(port) if port is not None else None
    if number is not None and number > 65535:
        raise Malformed("URI", text)
    return Uri(
        scheme.lower(), user or "", host, number, password, parse_uri_params(params) if params else (), headers or ""
    )


_remembered = lru_cache(maxsize=4096)(_parse)


def _parse_other(text: str) -> Uri:
    match = OTHER_URI.fullmatch(text)
    if match is None or match["scheme"].lower() in ("sip", "sips"):
        raise Malformed("URI", text)
    return Uri(match["scheme"].lower(), match["rest"], "", params=parse_uri_params(match["params"]))


# ---- parameters ----------------------------------------------------------------------------------------------------


def parse_uri_params(text: str) -> Params:
    """`;a=1;lr` as they stand in a URI: no quoting, no white space, empty ones dropped, `%6Cr` read as `lr`."""
    found: list[tuple[str, str | None]] = []
    for part in text.split(";"):
        if part:
            name, equals, value = part.partition("=")
            if "%" in name:
                name = _ESCAPED_UNRESERVED.sub(lambda match: chr(int(match[1], 16)), name)
            found.append((name, value if equals else None))
    return tuple(found)


def find_param(params: Params, name: str) -> str | None:
    """Value of a parameter: `""` if it stands there without one, None if it is not there. `name` in lower case."""
    for key, value in params:
        if key == name or key.lower() == name:
            return value if value is not None else ""
    return None


def set_param(params: Params, name: str, value: str | None) -> Params:
    """In its place if it was there, else at the end."""
    found = [(key, value) if key.lower() == name else (key, old) for key, old in params]
    if found == list(params) and find_param(params, name) is None:
        found.append((name, value))
    return tuple(found)


def drop_params(params: Params, names: tuple[str, ...]) -> Params:
    """Without these; without any if none is named."""
    return tuple(item for item in params if item[0].lower() not in names) if names else ()


# ---- comparison ----------------------------------------------------------------------------------------------------


def unescape(text: str) -> str:
    """`%61` -> `a`."""
    if "%" not in text:
        return text
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode("utf-8", "surrogateescape")
    )
    return raw.decode("utf-8", "surrogateescape")


def same(a: Uri, b: Uri) -> bool:
    """Equal by the rules of RFC 3261 19.1.4."""
    if a.scheme != b.scheme or a.host.lower() != b.host.lower() or a.port != b.port:
        return False
    if unescape(a.user) != unescape(b.user) or unescape(a.password or "") != unescape(b.password or ""):
        return False
    return _same_params(a, b) and _headers(a) == _headers(b)


def _same_params(a: Uri, b: Uri) -> bool:
    ours, theirs = _comparable(a), _comparable(b)
    if any((name in ours) != (name in theirs) for name in _DECISIVE):
        return False
    return all(theirs[name] == value for name, value in ours.items() if name in theirs)


def _comparable(uri: Uri) -> dict[str, str]:
    return {name.lower(): unescape(value or "").lower() for name, value in uri.params}


def _headers(uri: Uri) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in uri.headers.split("&") if part)
    return sorted((name.lower(), unescape(value)) for name, _, value in pairs)
