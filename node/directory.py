"""The user directory: users merged with their group and domain, found at once by id or number alias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from sys import intern

from node.config.directory import DirectorySection, DomainSection, GroupSection, UserSection
from node.config.gateway import GatewaySettings


class Names(Mapping[str, str]):
    """Params or variables by name, in any case; iteration gives the names as written.

    Each user has two, with much the same names in them: those are shared.
    """

    __slots__ = ("_layers", "_values")

    def __init__(self, *layers: Mapping[str, str]) -> None:
        """Later layers win."""
        self._layers = layers
        self._values = {intern(name.lower()): value for layer in layers for name, value in layer.items()}

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: str = "") -> str:  # type: ignore[override]
        return self._values.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        written = {name.lower(): name for layer in self._layers for name in layer}
        return iter(written.values())

    def __len__(self) -> int:
        return len(self._values)

    def plain(self) -> dict[str, str]:
        """All of them, by their names as written."""
        values = self._values
        written = {name.lower(): name for layer in self._layers for name in layer}
        return {name: values[lower] for lower, name in written.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user of the directory with what it inherits: its own values win over its group's, those over the domain's."""

    id: str
    domain: str
    number_alias: str = ""
    group: str = ""
    ip: str = ""
    pointer: bool = False
    params: Names = field(repr=False)
    variables: Names = field(repr=False)
    gateways: tuple[GatewaySettings, ...] = ()

    @property
    def password(self) -> str:
        return self.params.get("password", "")

    @property
    def a1_hash(self) -> str:
        """H(user:realm:password) in hex; wins over the password."""
        return self.params.get("a1-hash", "")

    def a1_hash_for(self, algorithm: str) -> str:
        """The one kept for a digest algorithm, in lower case: `a1-hash-sha256`, `a1-hash-sha512-256`, or `a1-hash` if it is as long."""
        family = algorithm.lower().removesuffix("-sess").replace("sha-", "sha")
        named = self.params.get(f"a1-hash-{family}", "")
        if not named and len(self.a1_hash) == (32 if family == "md5" else 64):
            named = self.a1_hash
        return named.lower()

    @property
    def has_secret(self) -> bool:
        return bool(self.password or self.a1_hash) or any(name.lower().startswith("a1-hash-") for name in self.params)

    @property
    def dial_string(self) -> str:
        """Unexpanded; the call knows dialed_user and dialed_domain."""
        return self.params.get("dial-string", "")

    @property
    def context(self) -> str:
        """The dialplan context of its calls; empty: the profile's."""
        return self.variables.get("user_context", "")


class Directory:
    """Answers lookups in constant time. Merging is done at the first lookup of a user and kept."""

    def __init__(self, section: DirectorySection) -> None:
        self._domains: dict[str, DomainSection] = {}
        self._by_name: dict[tuple[str, str], _Entry] = {}
        self._by_ip: dict[tuple[str, str], _Entry] = {}
        for domain in section.domains:
            if self._domains.setdefault(domain.name.lower(), domain) is domain:
                self._index(domain)

    def find(self, user: str, domain: str, ip: str = "") -> User | None:
        """A user by id or number alias; one whose attribute `ip` equals the source address comes first."""
        entry = self._by_ip.get((ip, domain.lower())) if ip and self._by_ip else None
        if entry is None:
            entry = self._by_name.get((user.lower(), domain.lower()))
            if entry is None:
                return None
        return entry.merged or entry.merge()

    def domain(self, name: str) -> DomainSection | None:
        return self._domains.get(name.lower())

    @property
    def domains(self) -> list[str]:
        return [domain.name for domain in self._domains.values()]

    def users(self, domain: str, group: str = "") -> list[User]:
        """The users of a domain, or of one of its groups, pointers resolved, each once."""
        found = self._domains.get(domain.lower())
        if found is None:
            return []
        names = [user.id for section in found.groups if group in ("", section.name) for user in section.users]
        users = (self.find(name, domain) for name in dict.fromkeys(name.lower() for name in names))
        return [user for user in users if user is not None]

    def _index(self, domain: DomainSection) -> None:
        """First come, first served, but a pointer never stands before the user it points to."""
        name = domain.name.lower()
        entries = [_Entry(domain, group, user) for group in domain.groups for user in group.users]
        for entry in sorted(entries, key=lambda entry: entry.user.pointer):
            self._by_name.setdefault((entry.user.id.lower(), name), entry)
            if entry.user.ip:
                self._by_ip.setdefault((entry.user.ip, name), entry)
        for entry in entries:
            if entry.user.number_alias and not entry.user.pointer:
                self._by_name.setdefault((entry.user.number_alias.lower(), name), entry)


class _Entry:
    """Where a user stands, and what it comes to with what it inherits."""

    __slots__ = ("domain", "group", "merged", "user")

    def __init__(self, domain: DomainSection, group: GroupSection, user: UserSection) -> None:
        self.domain = domain
        self.group = group
        self.user = user
        self.merged: User | None = None

    def merge(self) -> User:
        self.merged = User(
            id=self.user.id,
            domain=self.domain.name,
            number_alias=self.user.number_alias,
            group=self.group.name,
            ip=self.user.ip,
            pointer=self.user.pointer,
            params=Names(self.domain.params, self.group.params, self.user.params),
            variables=Names(self.domain.variables, self.group.variables, self.user.variables),
            gateways=self.user.gateways,
        )
        return self.merged
