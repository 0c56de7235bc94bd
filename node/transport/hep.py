"""HEP, the encapsulation that capture servers as Homer understand: one SIP message and its circumstances in a datagram.

Version 3 is a chain of chunks (vendor, type, length, value); versions 1 and 2 are fixed headers before the message.
The numbers are those that FreeSWITCH's stack sends, a TLS connection as protocol 22 among them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

from node.config.capture import CaptureServer
from node.sip.flow import Address

MAXIMUM = 65535 - 28
"Bytes of one UDP datagram; a longer packet is cut off at its end."
PROTOCOLS = {"UDP": 17, "TCP": 6, "TLS": 22, "WS": 6, "WSS": 6, "SCTP": 132}
INET, INET6 = 2, 10
SIP = 1


@dataclass(frozen=True, slots=True)
class Captured:
    """One message as it went by."""

    data: bytes
    transport: str
    source: Address
    target: Address
    at: float
    "Seconds since 1970."


def packet(server: CaptureServer, message: Captured) -> bytes:
    """The datagram for the capture server. Raises ValueError for addresses that are none."""
    source, target = ip_address(message.source[0]), ip_address(message.target[0])
    if source.version != target.version:
        raise ValueError(f"{source} and {target} are of different families")
    family = INET if source.version == 4 else INET6
    protocol = PROTOCOLS.get(message.transport.upper(), 17)
    seconds, microseconds = int(message.at), int(message.at % 1 * 1_000_000)
    ports = message.source[1], message.target[1]
    if server.version < 3:
        head = _head(server, family, protocol, ports, source.packed + target.packed, seconds, microseconds)
        return (head + message.data)[:MAXIMUM]
    address = 3 if family == INET else 5
    chunks = b"".join(
        (
            _chunk(1, bytes([family])),
            _chunk(2, bytes([protocol])),
            _chunk(address, source.packed),
            _chunk(address + 1, target.packed),
            _chunk(7, struct.pack(">H", ports[0])),
            _chunk(8, struct.pack(">H", ports[1])),
            _chunk(9, struct.pack(">I", seconds)),
            _chunk(10, struct.pack(">I", microseconds)),
            _chunk(11, bytes([SIP])),
            _chunk(12, struct.pack(">I", server.capture_id)),
        )
    )
    room = MAXIMUM - 6 - len(chunks) - 6
    body = chunks + _chunk(15, message.data[:room])
    return b"HEP3" + struct.pack(">H", 6 + len(body)) + body


def _chunk(kind: int, value: bytes) -> bytes:
    """Of vendor 0; the length counts the six bytes of its own head."""
    return struct.pack(">HHH", 0, kind, 6 + len(value)) + value


def _head(
    server: CaptureServer,
    family: int,
    protocol: int,
    ports: tuple[int, int],
    addresses: bytes,
    seconds: int,
    microseconds: int,
) -> bytes:
    """Versions 1 and 2: ports in network order; time and id, of version 2 only, in that of the usual machines (little endian)."""
    time = struct.pack("<IIHxx", seconds, microseconds, server.capture_id & 0xFFFF) if server.version == 2 else b""
    length = 8 + len(addresses) + len(time)
    return struct.pack(">BBBBHH", server.version, length, family, protocol, *ports) + addresses + time
