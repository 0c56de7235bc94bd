"""The param `dns-servers`: whom to ask for names instead of those of resolv.conf."""

from __future__ import annotations

import re
from ipaddress import ip_address

PORT = 53


def name_servers(text: str) -> tuple[tuple[str, int], ...]:
    """`192.0.2.53, [2001:db8::53]:5353` as addresses with ports; none for an empty text."""
    return tuple(_server(part) for part in re.split(r"[,\s]+", text.strip()) if part)


def _server(text: str) -> tuple[str, int]:
    host, port = text, str(PORT)
    if match := re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+):(\d+)", text):
        host, port = match[1] or match[3], match[2] or match[4] or port
    try:
        address = str(ip_address(host))
    except ValueError:
        raise ValueError(f"needs addresses of name servers, not {text!r}") from None
    if not 0 < int(port) < 65536:
        raise ValueError(f"names a port that does not exist: {text!r}")
    return address, int(port)
