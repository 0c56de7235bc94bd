"""STUN binding (RFC 8489): the question to a server, and the address that its answer says we have.

As bytes only; who asks is `node/config/host.py` when the configuration is read, and `node/transport/outside.py` later.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

PORT = 3478
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_RESPONSE, BINDING_ERROR = 0x0001, 0x0101, 0x0111
MAPPED_ADDRESS, ERROR_CODE, XOR_MAPPED_ADDRESS = 0x0001, 0x0009, 0x0020
FAMILIES = {1: 4, 2: 16}
"Bytes of an address, by family."
TRANSACTION = 12
"Bytes of a transaction's id."


class Refused(Exception):
    """The server answers with an error; the text says which."""


def request(transaction: bytes) -> bytes:
    """A binding request without attributes; `transaction`: 12 bytes of which nobody else can know."""
    assert len(transaction) == TRANSACTION, "a transaction id has 96 bits"
    return struct.pack("!HHI", BINDING_REQUEST, 0, MAGIC_COOKIE) + transaction


def mapped(answer: bytes, transaction: bytes) -> str:
    """The address in a response to this transaction; `` if it is none. Raises Refused.

    Servers of RFC 3489 do not know XOR-MAPPED-ADDRESS: theirs is taken where there is no other.
    """
    if len(answer) < 20 or answer[4:20] != struct.pack("!I", MAGIC_COOKIE) + transaction:
        return ""
    kind, length = struct.unpack_from("!HH", answer)
    if kind not in (BINDING_RESPONSE, BINDING_ERROR) or 20 + length > len(answer):
        return ""
    attributes = _attributes(answer[20 : 20 + length])
    if kind == BINDING_ERROR:
        raise Refused(_error(attributes.get(ERROR_CODE, b"")))
    key = answer[4:20]
    return _address(attributes.get(XOR_MAPPED_ADDRESS, b""), key) or _address(attributes.get(MAPPED_ADDRESS, b""), b"")


def _attributes(data: bytes) -> dict[int, bytes]:
    """The first of each kind (RFC 8489 14)."""
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, size = struct.unpack_from("!HH", data, at)
        if at + 4 + size > len(data):
            break
        found.setdefault(kind, data[at + 4 : at + 4 + size])
        at += 4 + size + (-size % 4)
    return found


def _address(value: bytes, key: bytes) -> str:
    size = FAMILIES.get(value[1], 0) if len(value) >= 4 else 0
    if not size or len(value) != 4 + size:
        return ""
    raw = value[4:]
    if key:
        raw = bytes(one ^ other for one, other in zip(raw, key, strict=False))
    return str(ip_address(raw))


def _error(value: bytes) -> str:
    if len(value) < 4:
        return "an error without a code"
    return f"{(value[2] & 7) * 100 + value[3]} {value[4:].decode('utf-8', 'replace')}".strip()


def server(text: str) -> tuple[str, int]:
    """`host[:port]` of a `stun:` form, an IPv6 address in brackets. Raises ValueError."""
    name, port = text, ""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("must name a server, as stun:host[:port]")
        port = rest[1:]
    elif text.count(":") == 1:
        name, _, port = text.partition(":")
    if not name or (port and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise ValueError("must name a server, as stun:host[:port]")
    return name, int(port) if port else PORT
