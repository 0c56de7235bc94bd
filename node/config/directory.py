"""The user directory as written: domains, groups, users. `node.directory` merges it and answers lookups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from node.config.gateway import GatewaySettings


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSection:
    """One `<user>`. Names of params and variables are kept as written; they are found in any case."""

    id: str
    number_alias: str = ""
    cidr: tuple[str, ...] = ()
    "Its own networks: entries of every access list with a `domain=` node for its domain."
    ip: str = ""
    pointer: bool = False
    "`type=pointer`: stands for a user that is written in full elsewhere."
    params: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    variables: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    gateways: tuple[GatewaySettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSection:
    """A `<group>`, or the users outside of any group (whose name is empty)."""

    name: str = ""
    params: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    variables: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    users: tuple[UserSection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSection:
    """A `<domain>`: its groups in the order of search, users outside of groups last."""

    name: str
    params: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    variables: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    groups: tuple[GroupSection, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySection:
    """All domains, in the order of the document."""

    domains: tuple[DomainSection, ...] = ()
