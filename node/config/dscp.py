"""The DSCP that a param names: how routers are to treat our packets (RFC 2474)."""

from __future__ import annotations

import re

CLASSES = {"EF": 46, "VA": 44, "BE": 0, "DF": 0}
"DSCPs that have a name of their own."


def dscp(text: str) -> int:
    """A number from 0 to 63, or a class by its name: `EF`, `CS3`, `AF31`, `VA` (RFC 4594, RFC 5865)."""
    name = text.upper()
    if match := re.fullmatch(r"CS([0-7])", name):
        return 8 * int(match[1])
    if match := re.fullmatch(r"AF([1-4])([1-3])", name):
        return 8 * int(match[1]) + 2 * int(match[2])
    if name in CLASSES:
        return CLASSES[name]
    if not text.isdecimal() or int(text) > 63:
        raise ValueError(f"must be a DSCP, 0 to 63 or EF, CS0 to CS7, AF11 to AF43, not {text!r}")
    return int(text)
