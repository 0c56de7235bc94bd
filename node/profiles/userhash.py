"""Hashed user names (RFC 7616 3.4.4): whose name is it that came as H(username:realm)?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.directory import Directory
from node.sip import auth
from node.sip.auth import Credentials
from node.sip.errors import Malformed

_Index = dict[str, str]


class HiddenNames:
    """Finds users by the hash of their name.

    Nearly everybody is who its From or To says, and found by one hash. For the others all names of a domain are hashed
    once, for the realms that are ours to name: strangers cannot make us do so again and again.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._indexes: dict[tuple[str, str, str], _Index] = {}

    def find(self, credentials: Credentials, domain: str, likely: Iterable[str], realms: Iterable[str]) -> str | None:
        """The user name that was hashed, as its owner writes it; None: nobody's. `realms`: ours, beside the domains."""
        try:
            for name in likely:
                if name and auth.hashed(name, credentials.realm, credentials.algorithm) == credentials.username.lower():
                    return name
            if credentials.realm.lower() != domain.lower() and credentials.realm not in realms:
                return None
            return self._index(domain, credentials.realm, credentials.algorithm).get(credentials.username.lower())
        except Malformed:
            return None

    def _index(self, domain: str, realm: str, algorithm: str) -> _Index:
        key = domain.lower(), realm, algorithm.lower().removesuffix("-sess")
        found = self._indexes.get(key)
        if found is None:
            found = {auth.hashed(name, realm, key[2]): name for name in self._names(domain)}
            if found:
                self._indexes[key] = found
        return found

    def _names(self, domain: str) -> Iterator[str]:
        section = self._directory.domain(domain)
        for group in section.groups if section is not None else ():
            for user in group.users:
                yield user.id
                if user.number_alias:
                    yield user.number_alias
