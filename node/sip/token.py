"""The owner, written into what comes back: our tags and branches begin with the token of their slot.

Slots are named alike on both hosts, so whoever receives an answer or a request in a dialog knows whose it is, also
after a failover. A token holds only `[A-Za-z0-9.]` and `_`, never `-`, which ends it.
"""

from __future__ import annotations

import os
import re
from itertools import count

COOKIE = "z9hG4bK"
"RFC 3261 8.1.1.7."

_PLAIN = re.compile(r"[A-Za-z0-9]+")
_OWNED = re.compile(r"([A-Za-z0-9._]+\.[0-9]+)-[A-Za-z0-9]+")


def token(slot: str) -> str:
    """`internal#0` -> `internal.0`; what is neither letter nor digit in the profile's name becomes `_XX` (hexadecimal)."""
    profile, _, number = slot.rpartition("#")
    return f"{_escape(profile)}.{number}"


def _escape(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    return "".join(c if c.isascii() and c.isalnum() else "".join(f"_{byte:02X}" for byte in c.encode()) for c in name)


def slot(token: str) -> str:
    """The slot of a token: the inverse of `token`."""
    profile, _, number = token.rpartition(".")
    raw = re.sub(rb"_([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), profile.encode())
    return f"{raw.decode(errors='replace')}#{number}"


def owner(text: str) -> str | None:
    """The slot token in a tag or branch of ours, or None when it is nobody's we know."""
    match = _OWNED.fullmatch(text.removeprefix(COOKIE))
    return match[1] if match else None


class Names:
    """Makes the tags and branches of one slot."""

    __slots__ = ("_branch", "_count", "_tag")

    def __init__(self, slot_token: str) -> None:
        # Branches need to be unique, not secret: a random of the process and a counter (0.2 us instead of 0.6).
        self._branch = f"{COOKIE}{slot_token}-{os.urandom(6).hex()}x"
        self._tag = f"{slot_token}-"
        self._count = count(1)

    def branch(self) -> str:
        return f"{self._branch}{next(self._count):x}"

    def tag(self) -> str:
        """A tag of 64 random bits (RFC 3261 19.3 demands 32)."""
        return self._tag + os.urandom(8).hex()


def new_tag(slot_token: str) -> str:
    """A tag of this slot."""
    return f"{slot_token}-{os.urandom(8).hex()}"
