"""Makes a message fit to be shown to somebody else than its receiver: in traces, dumps, captures and the log.

Masked are: what proves a password (`response` and `cnonce` of digest credentials, `rspauth`), credentials of other
schemes and cookies as a whole, passwords in SIP URIs, and keys in SDP (RFC 4568 inline keys, RFC 4567, the `k=` line of
RFC 4566, ICE passwords). Lengths change, so a masked message is for reading only.
"""

from __future__ import annotations

import re
from collections.abc import Callable

MASK = b"***"
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"What would move a terminal's cursor, colour it, or turn its text around."

# The limits of length keep a hostile message from costing more than a glance.
# A pattern that begins with a line feed is found fast; nothing of a message's first line is looked for by these.
# A field goes on in the next line if that begins with a blank (RFC 3261 7.3.1).
_VALUE = rb"(?:[^\r\n]|\r?\n[ \t])*"
_FIELDS = re.compile(
    rb"(?i)(\n(?:(?:Proxy-)?(?:Authorization|Authentication-Info)|(?:Set-)?Cookie2?))([ \t]*:)(" + _VALUE + rb")"
)
_PROOF = re.compile(rb'(?i)\b(response|cnonce|rspauth)(\s*=\s*)("(?:[^"\\]|\\.)*"?|[^\s,;"]+)')
_PASSWORD = re.compile(rb'(?i)\b(sips?:[^\s@<>":]{0,256}+:)[^\s@<>";]{0,256}+(?=@)')
_ESCAPED_PASSWORD = re.compile(
    rb"(?i)\b(sips?%3A(?:(?!%40|%3A)[^\s;<>@\"]){0,256}%3A)(?:(?!%40)[^\s;<>@\"]){0,256}(?=%40)"
)
_ESCAPED_PROOF = re.compile(rb"(?i)(?<![A-Za-z])((?:response|cnonce)%3D(?:%22)?)(?:(?!%22|%2C)[^&>\s\"])*")
_SDP = re.compile(rb"(?i)\n(?:a=(?:crypto|key-mgmt|ice-pwd):|k=)[^\r\n]*")
_INLINE = re.compile(rb"(?i)(inline:)[^\s|;]*")
_SDP_WHOLE = re.compile(rb"(?i)(\n(?:a=key-mgmt:\S*|a=ice-pwd:|k=[^:\r\n]*:?))[^\r\n]*")

Found = re.Match[bytes]


def masked(data: bytes) -> bytes:
    """The message with `***` in place of each secret."""
    lower = data.lower()
    for words, pattern, replace in _RULES:
        for word in words:
            if word in lower:
                data = pattern.sub(replace, data)
                break
    return data


def readable(data: bytes) -> str:
    """Lines end as on Unix; what is no text, or would do something to a terminal, is shown as `\\x1b`."""
    text = data.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
    return UNSAFE.sub(_escaped, text)


def shown(text: str) -> str:
    """Text from a message, for one line of the log: without secrets, safe for a terminal."""
    return readable(masked(text.encode("utf-8", "surrogateescape"))).replace("\n", "\\n")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _field(found: Found) -> bytes:
    name, colon, value = found.groups()
    kind, words = name.lower(), value.split(None, 1)
    if kind.endswith(b"-info") or (words and words[0].lower() == b"digest"):
        return name + colon + _PROOF.sub(rb'\1\2"***"', value)
    if kind.endswith(b"authorization") and len(words) > 1:
        return name + colon + b" " + words[0] + b" " + MASK
    return name + colon + b" " + MASK


def _key(found: Found) -> bytes:
    line = found[0]
    if line[:10].lower() == b"\na=crypto:":
        return _INLINE.sub(rb"\1***", line)
    return _SDP_WHOLE.sub(rb"\1***", line)


_RULES: tuple[tuple[tuple[bytes, ...], re.Pattern[bytes], bytes | Callable[[Found], bytes]], ...] = (
    ((b"authorization", b"authentication-info", b"cookie"), _FIELDS, _field),
    ((b"sip:", b"sips:"), _PASSWORD, rb"\1***"),
    ((b"%40",), _ESCAPED_PASSWORD, rb"\1***"),
    ((b"response%3d", b"cnonce%3d"), _ESCAPED_PROOF, rb"\1***"),
    ((b"a=crypto:", b"a=key-mgmt:", b"a=ice-pwd:", b"\nk="), _SDP, _key),
)
"Words without one of which, in lower case, a pattern cannot match; looking for them is a tenth of the work."
