"""Access lists asked by name, each answer remembered: a phone asks from the same address all day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from node.config import acl
from node.config.acl import AccessList

REMEMBERED = 50_000


class Access:
    """The lists of acl.conf, and CIDRs in place of a name."""

    def __init__(self, lists: Mapping[str, AccessList]) -> None:
        self._lists = lists
        self._known: dict[tuple[str, str, int | None], tuple[bool, str]] = {}

    def check(self, name: str, ip: str, port: int | None = None) -> tuple[bool, str]:
        """Whether the address may pass, and the token of the node that decided."""
        key = name, ip, port
        answer = self._known.get(key)
        if answer is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            answer = self._known[key] = acl.check(self._lists, name, ip, port)
        return answer

    def all(self, names: Sequence[str], ip: str) -> tuple[str, str]:
        """Do all lists let the address pass? The first that does not (`` when all do), and the last token."""
        token = ""
        for name in names:
            allowed, found = self.check(name, ip)
            if not allowed:
                return name, ""
            token = found or token
        return "", token

    def any(self, names: Sequence[str], ip: str) -> bool:
        return any(self.check(name, ip)[0] for name in names)
