"""Digest authentication (RFC 2617, 7616, 8760): stateless nonces, and both sides of the challenge."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from hmac import compare_digest
from itertools import count
from typing import Literal

import msgspec
from msgspec.structs import replace

from node.sip.errors import Malformed
from node.sip.fields import quote, unquote
from node.sip.grammar import AUTH_PARAM

Judgement = Literal["good", "stale", "unknown"]

SKEW = 60
"Seconds by which a nonce may come from the future: the clocks of the two nodes."


class Nonces:
    """Nonces that need no memory: time, salt, and a keyed hash over both. Valid on every node that has the secret."""

    __slots__ = ("_count", "_keyed", "_ttl")

    def __init__(self, secret: bytes, ttl: float = 60.0) -> None:
        """`secret`: 32 bytes that both nodes share."""
        # A keyed hash that is copied for each nonce: the key block is hashed once.
        self._keyed = hashlib.blake2s(key=secret, digest_size=16, person=b"nonce")
        self._ttl = ttl
        # What follows the time only has to differ: the hash is what nobody can guess.
        self._count = count(int.from_bytes(os.urandom(4), "big"))

    def make(self, now: float) -> str:
        """`now` in seconds since 1970: both nodes must mean the same time."""
        stem = f"{int(now):08x}{next(self._count) & 0xFFFFFFFF:08x}"
        return stem + self._mark(stem)

    def check(self, nonce: str, now: float, ttl: float | None = None) -> Judgement:
        """Good, stale (ours, but too old: challenge again with `stale=true`), or not made by us."""
        stem = nonce[:16]
        if len(nonce) != 48 or not nonce.isascii() or not compare_digest(self._mark(stem), nonce[16:]):
            return "unknown"
        age = now - int(stem[:8], 16)
        return "good" if -SKEW <= age <= (self._ttl if ttl is None else ttl) else "stale"

    def _mark(self, stem: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(stem.encode())
        return keyed.hexdigest()


def challenge(realm: str, nonce: str, *, algorithm: str = "MD5", stale: bool = False, qop: str = "auth") -> str:
    """The value of WWW-Authenticate or Proxy-Authenticate, in mod_sofia's order."""
    middle = " stale=true," if stale else ""
    return f'Digest realm={quote(realm)}, nonce="{nonce}",{middle} algorithm={algorithm}, qop="{qop}"'


class Credentials(msgspec.Struct, frozen=True):
    """The value of Authorization or Proxy-Authorization."""

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str = "MD5"
    "As the client names it; MD5 if it names none."
    qop: str = ""
    nc: str = ""
    cnonce: str = ""
    opaque: str = ""

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Raises Malformed."""
        found = _params(text)
        try:
            return cls(
                found["username"],
                found["realm"],
                found["nonce"],
                found["uri"],
                found["response"],
                found.get("algorithm", "MD5"),
                found.get("qop", ""),
                found.get("nc", ""),
                found.get("cnonce", ""),
                found.get("opaque", ""),
            )
        except KeyError as missing:
            raise Malformed("credentials", f"no {missing.args[0]}") from None

    def __str__(self) -> str:
        text = (
            f"Digest username={quote(self.username)}, realm={quote(self.realm)}, nonce={quote(self.nonce)}, "
            f'uri={quote(self.uri)}, response="{self.response}", algorithm={self.algorithm}'
        )
        if self.qop:
            text += f", qop={self.qop}, nc={self.nc}, cnonce={quote(self.cnonce)}"
        elif self.cnonce:
            text += f", cnonce={quote(self.cnonce)}"
        if self.opaque:
            text += f", opaque={quote(self.opaque)}"
        return text


# ---- the server's side ---------------------------------------------------------------------------------------------


def ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    """What may be kept instead of the password. The session part of the `-sess` algorithms is added by `verify`."""
    return _hash(algorithm)(f"{username}:{realm}:{password}")


_ha1 = ha1
"For `verify`, which has a parameter of that name."


def verify(
    credentials: Credentials,
    method: str,
    *,
    password: str | None = None,
    ha1: str | None = None,
    body: bytes = b"",
) -> bool:
    """Is the response right? By the password or by its HA1 (which saves one hash).

    Judges neither the nonce nor realm and uri. An algorithm or qop that we do not have is not right.
    """
    try:
        if ha1 is None:
            assert password is not None, "password or ha1 is needed"
            ha1 = _ha1(credentials.username, credentials.realm, password, credentials.algorithm)
        expected = _response(credentials, method, ha1, body)
    except Malformed:
        return False
    return compare_digest(expected.encode(), credentials.response.lower().encode("utf-8", "surrogateescape"))


# ---- the client's side ---------------------------------------------------------------------------------------------


def answer(
    challenge_text: str,
    *,
    username: str,
    password: str,
    method: str,
    uri: str,
    nc: int = 1,
    cnonce: str | None = None,
    body: bytes = b"",
) -> str:
    """The credentials for a challenge. Raises Malformed for one that we cannot answer."""
    found = _params(challenge_text)
    if "realm" not in found or "nonce" not in found:
        raise Malformed("challenge", challenge_text)
    offered = [item.strip().lower() for item in found.get("qop", "").split(",") if item.strip()]
    qop = next((item for item in ("auth", "auth-int") if item in offered), "")
    if offered and not qop:
        raise Malformed("qop", found["qop"])
    algorithm = found.get("algorithm", "MD5")
    needs_cnonce = bool(qop) or algorithm.lower().endswith("-sess")
    unsigned = Credentials(
        username=username,
        realm=found["realm"],
        nonce=found["nonce"],
        uri=uri,
        response="",
        algorithm=algorithm,
        qop=qop,
        nc=f"{nc:08x}" if qop else "",
        cnonce=(cnonce or os.urandom(8).hex()) if needs_cnonce else "",
        opaque=found.get("opaque", ""),
    )
    ha1 = _ha1(username, unsigned.realm, password, algorithm)
    return str(replace(unsigned, response=_response(unsigned, method, ha1, body)))


def strongest(challenges: Iterable[str]) -> str | None:
    """The challenge to answer of several (RFC 8760 2.4: the first one that we can); None if there is none."""
    for text in challenges:
        if text[:7].lower() == "digest " and _params(text).get("algorithm", "MD5").lower() in _ALGORITHMS:
            return text
    return None


# ---- inside --------------------------------------------------------------------------------------------------------


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _sha512_256(text: str) -> str:
    return hashlib.new("sha512_256", text.encode("utf-8", "surrogateescape")).hexdigest()


_ALGORITHMS: dict[str, Callable[[str], str]] = {"md5": _md5, "sha-256": _sha256}
if "sha512_256" in hashlib.algorithms_available:
    _ALGORITHMS["sha-512-256"] = _sha512_256
_ALGORITHMS |= {f"{name}-sess": function for name, function in _ALGORITHMS.items()}


def _hash(algorithm: str) -> Callable[[str], str]:
    function = _ALGORITHMS.get(algorithm.lower())
    if function is None:
        raise Malformed("algorithm", algorithm)
    return function


def _response(credentials: Credentials, method: str, ha1: str, body: bytes) -> str:
    """`request-digest` of RFC 7616 3.4.1, or of RFC 2069 without qop."""
    digest = _hash(credentials.algorithm)
    nonce, cnonce, qop = credentials.nonce, credentials.cnonce, credentials.qop
    if credentials.algorithm.lower().endswith("-sess"):
        ha1 = digest(f"{ha1}:{nonce}:{cnonce}")
    a2 = f"{method}:{credentials.uri}"
    if qop:
        lowered = qop.lower()
        if lowered not in ("auth", "auth-int"):
            raise Malformed("qop", qop)
        if lowered == "auth-int":
            a2 += f":{digest(body.decode('utf-8', 'surrogateescape'))}"
        return digest(f"{ha1}:{nonce}:{credentials.nc}:{cnonce}:{qop}:{digest(a2)}")
    return digest(f"{ha1}:{nonce}:{digest(a2)}")


def _params(text: str) -> dict[str, str]:
    """The parameters of a challenge or of credentials, names in lower case. Raises Malformed if it is not Digest."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise Malformed("authentication scheme", scheme)
    found = AUTH_PARAM.findall(rest)
    if "\\" in rest:
        found = [(name, unquote(f'"{quoted}"'), plain) for name, quoted, plain in found]
    return {name.lower(): quoted or plain for name, quoted, plain in found}
