"""Digest authentication (RFC 2617, 7616, 8760): stateless nonces, and both sides of the challenge."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from hmac import compare_digest
from itertools import count
from typing import Literal
from urllib.parse import unquote as decoded

import msgspec
from msgspec.structs import replace

from node.sip.errors import Malformed
from node.sip.fields import quote, unquote
from node.sip.grammar import AUTH_PARAM
from node.sip.uri import REMEMBERED

Judgement = Literal["good", "stale", "unknown"]

SKEW = 60
"Seconds by which a nonce may come from the future: the clocks of the two nodes."


class Nonces:
    """Nonces that need no memory: time, maker, number, and a keyed hash over them. Valid wherever the secret is."""

    __slots__ = ("_count", "_keyed", "_maker", "_ttl")

    def __init__(self, secret: bytes, ttl: float = 60.0, maker: str = "") -> None:
        """`secret`: 32 bytes that both nodes share. `maker`: 6 hexadecimal digits that tell who made it; empty: random."""
        # A keyed hash that is copied for each nonce: the key block is hashed once.
        self._keyed = hashlib.blake2s(key=secret, digest_size=16, person=b"nonce")
        self._ttl = ttl
        self._maker = maker or new_maker()
        # It only has to differ: the hash is what nobody can guess.
        self._count = count(int.from_bytes(os.urandom(3), "big"))

    def make(self, now: float) -> str:
        """`now` in seconds since 1970: both nodes must mean the same time."""
        stem = f"{int(now):08x}{self._maker}{next(self._count) & 0xFFFFFF:06x}"
        return stem + self._mark(stem)

    def check(self, nonce: str, now: float, ttl: float | None = None) -> Judgement:
        """Good, stale (ours, but too old: challenge again with `stale=true`), or made by nobody who has the secret."""
        if not self.genuine(nonce):
            return "unknown"
        age = now - int(nonce[:8], 16)
        return "good" if -SKEW <= age <= (self._ttl if ttl is None else ttl) else "stale"

    def genuine(self, nonce: str) -> bool:
        """Made with this secret, whenever and by whomever."""
        return len(nonce) == 52 and nonce.isascii() and compare_digest(self._mark(nonce[:20]), nonce[20:])

    def own(self, nonce: str) -> bool:
        """Made here, if it is genuine: so we would know had it been used."""
        return nonce[8:14] == self._maker

    @staticmethod
    def made(nonce: str) -> int:
        """When a genuine nonce was made: seconds since 1970."""
        return int(nonce[:8], 16)

    def _mark(self, stem: str) -> str:
        keyed = self._keyed.copy()
        keyed.update(stem.encode())
        return keyed.hexdigest()


def new_maker() -> str:
    """Who makes nonces, as they say it: unlike any other process of both nodes."""
    return os.urandom(3).hex()


def challenge(
    realm: str, nonce: str, *, algorithm: str = "MD5", stale: bool = False, qop: str = "auth", userhash: bool = False
) -> str:
    """The value of WWW-Authenticate or Proxy-Authenticate, in mod_sofia's order.

    `userhash`: say that user names may come hashed (RFC 7616 3.4.4).
    """
    middle = " stale=true," if stale else ""
    end = ", userhash=true" if userhash else ""
    return f'Digest realm={quote(realm)}, nonce="{nonce}",{middle} algorithm={algorithm}, qop="{qop}"{end}'


class Credentials(msgspec.Struct, frozen=True, gc=False):
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
    userhash: bool = False
    "The user name is `hashed` (RFC 7616 3.4.4)."

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Raises Malformed."""
        found = _params(text)
        try:
            return cls(
                found["username"] if "username" in found else _extended(found["username*"]),
                found["realm"],
                found["nonce"],
                found["uri"],
                found["response"],
                found.get("algorithm", "MD5"),
                found.get("qop", ""),
                found.get("nc", ""),
                found.get("cnonce", ""),
                found.get("opaque", ""),
                found.get("userhash", "").lower() == "true",
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
        return f"{text}, userhash=true" if self.userhash else text


# ---- the server's side ---------------------------------------------------------------------------------------------


def ha1(username: str, realm: str, password: str, algorithm: str = "MD5") -> str:
    """What may be kept instead of the password. The session part of the `-sess` algorithms is added by `verify`."""
    return _hash(algorithm)(f"{username}:{realm}:{password}")


def hashed(username: str, realm: str, algorithm: str = "MD5") -> str:
    """A user name as it is sent by who hides it: H(username:realm), RFC 7616 3.4.4. Raises Malformed."""
    return _hash(algorithm)(f"{username}:{realm}")


_ha1 = ha1
"For `verify`, which has a parameter of that name."


def verify(
    credentials: Credentials,
    method: str,
    *,
    password: str | None = None,
    ha1: str | None = None,
    body: bytes = b"",
    session: str = "",
) -> bool:
    """Is the response right? By the password or by its HA1 (which saves one hash).

    Judges neither the nonce nor realm and uri. An algorithm or qop that we do not have is not right. `session`: the
    cnonce that began the session, for the `-sess` algorithms; empty: this one.
    """
    try:
        if ha1 is None:
            assert password is not None, "password or ha1 is needed"
            ha1 = _ha1(credentials.username, credentials.realm, password, credentials.algorithm)
        expected = _response(credentials, method, ha1, body, session)
    except Malformed:
        return False
    given = credentials.response.lower()
    return given.isascii() and compare_digest(expected, given)


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
    hides = found.get("userhash", "").lower() == "true"
    unsigned = Credentials(
        username=hashed(username, found["realm"], algorithm) if hides else username,
        realm=found["realm"],
        nonce=found["nonce"],
        uri=uri,
        response="",
        algorithm=algorithm,
        qop=qop,
        nc=f"{nc:08x}" if qop else "",
        cnonce=(cnonce or os.urandom(8).hex()) if needs_cnonce else "",
        opaque=found.get("opaque", ""),
        userhash=hides,
    )
    ha1 = _ha1(username, unsigned.realm, password, algorithm)
    return str(replace(unsigned, response=_response(unsigned, method, ha1, body)))


def strength(challenge_text: str) -> int:
    """How strong the algorithm of a challenge is, 1 or more; 0 if it is none that we can answer."""
    try:
        found = _params(challenge_text)
    except Malformed:
        return 0
    name = found.get("algorithm", "MD5").lower()
    offered = [item.strip().lower() for item in found.get("qop", "").split(",") if item.strip()]
    if name not in _ALGORITHMS or not found.get("nonce") or "realm" not in found:
        return 0
    if offered and "auth" not in offered and "auth-int" not in offered:
        return 0
    return _STRENGTH[name.removesuffix("-sess")]


def strongest(challenges: Iterable[str]) -> str | None:
    """The challenge to answer of several for one realm; None if there is none that we can.

    RFC 8760 2.4 takes the first one that the client knows, unless its policy is another. Ours is the strongest: who
    can put a weaker one on top has won nothing.
    """
    best = max(challenges, key=strength, default=None)  # the first of equals
    return best if best is not None and strength(best) else None


def terms(challenge_text: str) -> tuple[str, str, bool]:
    """Realm, nonce and stale of a challenge. Raises Malformed."""
    found = _params(challenge_text)
    if "realm" not in found or "nonce" not in found:
        raise Malformed("challenge", challenge_text)
    return found["realm"], found["nonce"], found.get("stale", "").lower() == "true"


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
_STRENGTH = {"md5": 1, "sha-256": 2, "sha-512-256": 3}


_NAMES = "username realm nonce uri response algorithm qop nc cnonce opaque stale domain userhash"
_USUAL = {space + name: name for name in _NAMES.split() for space in ("", " ")}
"Params as they usually stand behind a comma."
_OPENINGS = {f"{comma}{written}=": name for written, name in _USUAL.items() for comma in ("", ",")}
"What usually stands before a quoted value."


def _hash(algorithm: str) -> Callable[[str], str]:
    function = _ALGORITHMS.get(algorithm.lower())
    if function is None:
        raise Malformed("algorithm", algorithm)
    return function


def _response(credentials: Credentials, method: str, ha1: str, body: bytes, session: str = "") -> str:
    """`request-digest` of RFC 7616 3.4.1, or of RFC 2069 without qop."""
    algorithm = credentials.algorithm
    digest = _md5 if algorithm == "MD5" else _hash(algorithm)
    nonce, cnonce, qop = credentials.nonce, credentials.cnonce, credentials.qop
    if algorithm[-5:].lower() == "-sess":
        ha1 = digest(f"{ha1}:{nonce}:{session or cnonce}")
    if (qop == "auth" or not qop) and len(credentials.uri) <= REMEMBERED:
        a2 = _usual_a2(digest, method, credentials.uri)
    else:
        lowered = qop.lower()
        if lowered not in ("", "auth", "auth-int"):
            raise Malformed("qop", qop)
        text = f"{method}:{credentials.uri}"
        if lowered == "auth-int":
            text += f":{digest(body.decode('utf-8', 'surrogateescape'))}"
        a2 = digest(text)
    if qop:
        return digest(f"{ha1}:{nonce}:{credentials.nc}:{cnonce}:{qop}:{a2}")
    return digest(f"{ha1}:{nonce}:{a2}")


@lru_cache(maxsize=1024)
def _usual_a2(digest: Callable[[str], str], method: str, uri: str) -> str:
    """`H(A2)` without a body: all REGISTERs of a domain have the same."""
    return digest(f"{method}:{uri}")


def _extended(value: str) -> str:
    """A user name as RFC 5987 writes what is not ASCII (RFC 7616 3.4): `UTF-8''J%C3%A4s`. Raises Malformed."""
    charset, _, rest = value.partition("'")
    _language, quotes, text = rest.partition("'")
    if charset.upper() != "UTF-8" or not quotes:
        raise Malformed("username*", value)
    return decoded(text, errors="surrogateescape")


def _params(text: str) -> dict[str, str]:
    """The parameters of a challenge or of credentials, names in lower case. Raises Malformed if it is not Digest."""
    scheme, _, rest = text.strip().partition(" ")
    if scheme.lower() != "digest":
        raise Malformed("authentication scheme", scheme)
    return _plain(rest) or _any(rest)


def _plain(rest: str) -> dict[str, str] | None:
    """As nearly everybody writes them, in a third of the time; None for anything else.

    Without escapes every other piece between quotes is a value, and what stands before it names it.
    """
    if "\\" in rest:
        return None
    pieces = rest.split('"')
    last = pieces.pop()
    if len(pieces) % 2:
        return None
    found: dict[str, str] = {}
    each = iter(pieces)
    for before, value in zip(each, each, strict=True):
        name = _OPENINGS.get(before)
        if name is None:
            unquoted, _, opening = before.rpartition(",")
            name = _OPENINGS.get(opening)
            if name is None or not _unquoted(unquoted, found):
                return None
        found[name] = value
    return found if not last or _unquoted(last, found) else None


def _unquoted(text: str, found: dict[str, str]) -> bool:
    """Add such as `, algorithm=MD5, qop=auth`; False if that is not what it is."""
    for part in text.removeprefix(",").split(","):
        name, _, value = part.partition("=")
        if name not in _USUAL or not value.isalnum():
            return False
        found[_USUAL[name]] = value
    return True


def _any(rest: str) -> dict[str, str]:
    found = AUTH_PARAM.findall(rest)
    if "\\" in rest:
        found = [(name, unquote(f'"{quoted}"'), plain) for name, quoted, plain in found]
    return {name.lower(): quoted or plain for name, quoted, plain in found}
