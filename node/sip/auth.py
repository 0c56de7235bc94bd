"""Digest authentication (RFC 2617, 7616, 8760): stateless nonces, both sides of the challenge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Judgement = Literal["good", "stale", "unknown"]


class Nonces:
    """Nonces that need no memory: time, salt, and a keyed hash over both. Valid on every node that has the secret."""

    def __init__(self, secret: bytes, ttl: float = 60.0) -> None: ...
    def make(self, now: float) -> str:
        """`now` in seconds since 1970: both nodes must mean the same time."""
        raise NotImplementedError

    def check(self, nonce: str, now: float, ttl: float | None = None) -> Judgement:
        raise NotImplementedError


def challenge(realm: str, nonce: str, *, algorithm: str = "MD5", stale: bool = False, qop: str = "auth") -> str:
    """The value of WWW-Authenticate or Proxy-Authenticate, in mod_sofia's order."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Credentials:
    """The value of Authorization or Proxy-Authorization."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Raises Malformed."""
        raise NotImplementedError


def ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    raise NotImplementedError


def verify(
    credentials: Credentials, method: str, *, password: str | None = None, ha1: str | None = None, body: bytes = b""
) -> bool:
    """Is the response right? By the password or by its HA1 (which saves one hash)."""
    raise NotImplementedError


def answer(
    challenge_text: str, *, username: str, password: str, method: str, uri: str, nc: int = 1, cnonce: str | None = None
) -> str:
    """The credentials for a challenge. Raises Malformed for one that we cannot answer."""
    raise NotImplementedError
