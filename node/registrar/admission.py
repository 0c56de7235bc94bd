"""As whom a request was let in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from node.directory import User


class Admission(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the screen found out about a request that may go on."""

    user: User | None = None
    "The directory user whose secret, address or token it was; None where nobody asked."
    username: str = "unknown"
    "Of the credentials, as `sip_username` stores it."
    realm: str = ""
    "Of the credentials; empty where nobody asked."
    digest: bool = False
    "It proved to know the secret."
    renewed: bool = False
    "By a digest with a nonce count: `RENEWED` in mod_sofia's events."
    nonce: str = ""
    "Of the credentials, with its count, where there was one."
    nonce_count: int = 0
    aor: tuple[str, str] | None = None
    "User and host of the access list's token: the address of record, whatever To says."
    nat: str = ""
    "Why we believe that there is a NAT between us; empty: none."
    context: str = ""
    "The dialplan context an access list demands."
    variables: Mapping[str, str] = MappingProxyType({})


class Refusal(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How to refuse a request that may not go on."""

    status: int
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
