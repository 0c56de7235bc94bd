"""The section `directory`: domains, groups and users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from types import MappingProxyType

from node.config.acl import AccessList
from node.config.complaints import Complaints, Place
from node.config.directory import DirectorySection, DomainSection, GroupSection, UserSection
from node.config.document import Element
from node.config.profile_reader import ProfileReader
from node.config.section_readers import WELL_KNOWN_PASSWORDS, check_list

CONTAINERS = frozenset(("params", "variables", "profile-variables", "groups", "users", "user", "skill"))


class DirectoryReader:
    """Reads all domains. Gateways of users are kept with them and counted among all gateways' names."""

    def __init__(self, complaints: Complaints, profiles: ProfileReader) -> None:
        self._complaints = complaints
        self._profiles = profiles
        self._acls: dict[str, Place] = {}
        self._well_known = False
        self.passwords: set[str] = set()
        self.contexts: dict[str, Place] = {}
        "The `user_context`s, each with the first place that names it."

    def read(self, sections: Iterable[Element]) -> DirectorySection:
        domains: dict[str, DomainSection] = {}
        for element in (child for section in sections for child in section.children):
            if element.name != "domain":
                self._complaints.unknown(element.place, "element", element.name)
                continue
            name = element.get("name")
            if not name:
                self._complaints.error(element.place, "a domain needs a name (is the variable set that it is made of?)")
            elif name.lower() in domains:
                self._complaints.error(element.place, f"domain {name!r} is defined twice")
            else:
                domains[name.lower()] = self._domain(element, name)
        return DirectorySection(domains=tuple(domains.values()))

    def check_acls(self, lists: Mapping[str, AccessList]) -> None:
        """Once the lists are known: whether every `auth-acl` names one."""
        for name, place in self._acls.items():
            check_list(name, lists, place, "auth-acl", self._complaints)

    def _domain(self, element: Element, name: str) -> DomainSection:
        seen: dict[str, tuple[bool, Place]] = {}
        params, variables = self._inherited(element)
        groups = []
        for parent in element.all("groups"):
            for group in parent.children:
                if group.name == "group":
                    groups.append(self._group(group, group.get("name"), group.all("users"), seen, params))
        loose = [*element.all("users")]
        direct = [child for child in element.children if child.name == "user"]
        groups.append(self._group(None, "", loose, seen, params, direct))
        for child in element.children:
            if child.name not in CONTAINERS:
                self._complaints.unknown(child.place, "element", child.name)
        return DomainSection(name=name, params=params, variables=variables, groups=tuple(g for g in groups if g.users))

    def _group(
        self,
        element: Element | None,
        name: str,
        parents: Iterable[Element],
        seen: dict[str, tuple[bool, Place]],
        domain_params: Mapping[str, str],
        direct: Iterable[Element] = (),
    ) -> GroupSection:
        params, variables = self._inherited(element) if element is not None else (_frozen({}), _frozen({}))
        inherited = {name.lower() for layer in (domain_params, params) for name, value in layer.items() if value}
        users = []
        for child in (*(user for parent in parents for user in parent.children), *direct):
            if child.name != "user":
                self._complaints.unknown(child.place, "element", child.name)
                continue
            user = self._user(child, seen, inherited)
            if user is not None:
                users.append(user)
        return GroupSection(name=name, params=params, variables=variables, users=tuple(users))

    def _user(self, element: Element, seen: dict[str, tuple[bool, Place]], inherited: set[str]) -> UserSection | None:
        name, place = element.get("id"), element.place
        pointer = element.get("type") == "pointer"
        if not name:
            self._complaints.error(place, "a user needs an id")
            return None
        if not pointer:
            before = seen.setdefault(name.lower(), (pointer, place))[1]
            if before != place:
                self._complaints.error(place, f"user {name!r} is already defined at {before}")
                return None
        params, variables = self._inherited(element)
        if not pointer:
            self._judge_secret(name, params, inherited, place)
        return UserSection(
            id=name,
            number_alias=element.get("number-alias"),
            cidr=tuple(self._cidrs(element)),
            ip=element.get("ip"),
            pointer=pointer,
            params=params,
            variables=variables,
            gateways=self._profiles.gateways(g for tag in element.all("gateways") for g in tag.children),
        )

    def _judge_secret(self, name: str, params: Mapping[str, str], inherited: set[str], place: Place) -> None:
        lower = {param.lower(): value for param, value in params.items()}
        password = lower.get("password", "")
        if password:
            self.passwords.add(password)
        if password and password in WELL_KNOWN_PASSWORDS and not self._well_known:
            self._well_known = True
            self._complaints.warning(place, f"user {name!r} (the first of them) has a password that everybody knows")
        hashed = any(value and param.startswith("a1-hash") for param, value in lower.items())
        if not password and not hashed and not inherited & {"password", "a1-hash"}:
            self._complaints.warning(
                place, f"user {name!r} has no password: FreeSWITCH would let anybody in by that name"
            )

    def _cidrs(self, element: Element) -> Iterator[str]:
        for part in filter(None, (part.strip() for part in element.get("cidr").split(","))):
            try:
                yield str(ip_network(part, strict=False))
            except ValueError:
                self._complaints.error(element.place, f"cidr: {part!r} is no CIDR such as 192.0.2.0/24")

    def _inherited(self, element: Element) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Params and variables written directly under an element."""
        params = self._pairs(element, "params", "param")
        variables = self._pairs(element, "variables", "variable")
        return _frozen(params), _frozen(variables)

    def _pairs(self, element: Element, container: str, item: str) -> dict[str, str]:
        found = {}
        for child in (child for parent in element.all(container) for child in parent.children):
            name = child.get("name")
            if child.name != item or not name:
                self._complaints.error(child.place, f"<{container}> holds <{item} name=... value=...>")
                continue
            found[name] = child.get("value")
            if name.lower() == "auth-acl":
                self._acls.setdefault(child.get("value"), child.place)
            elif name.lower() == "user_context" and "${" not in child.get("value"):
                self.contexts.setdefault(child.get("value"), child.place)
        return found


def _frozen(pairs: dict[str, str]) -> Mapping[str, str]:
    return MappingProxyType(pairs)
