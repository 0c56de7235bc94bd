"""The client's side of digest: which challenges are answered, with what, and how often (RFC 3261 22, RFC 8760 2.4).

A keyring says nothing about who may ask: whoever holds one shows it only challenges from where its keys are meant for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import msgspec

from node.sip import auth
from node.sip.auth import Credentials
from node.sip.errors import Malformed
from node.sip.message import Request, Response

ANSWERS = 3
"How often one request is sent again because of challenges: a proxy's, the peer's, and one that was stale."
NONCES = 16
"Nonces whose counts are remembered."

Headers = list[tuple[str, str]]
Place = tuple[str, str]
"The field of the credentials, and the realm they are for."

FIELDS = {"WWW-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization"}


class Key(msgspec.Struct, frozen=True):
    """A name and the secret that goes with it."""

    username: str
    password: str
    realm: str = ""
    "Empty: for whatever realm is named by who may ask."


class Keyring:
    """Somebody's keys, and the nonces they were used with."""

    __slots__ = ("_challenges", "_keys", "_nonces")

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        self._challenges: dict[Place, str] = {}
        "The last challenge of each realm that was answered."
        self._nonces: dict[str, tuple[int, str]] = {}
        "By nonce: the last count, and our cnonce, which stays for as long as the nonce (`-sess`)."

    def answer(self, request: Request, response: Response, answers: int = 0) -> Headers | None:
        """The credentials to send a challenged request again with; None if that would be in vain, or we have none.

        `answers`: how often it was sent again already. Credentials that were refused are not sent twice, unless only
        their nonce was stale. What other realms were told in the request, they are told again.
        """
        if answers >= ANSWERS:
            return None
        before = sent(request)
        taken = 0
        for place, text in _asked(response).items():
            if self._key(place[1]) is None:
                continue
            if place in before and not auth.terms(text)[2]:
                return None
            self._challenges[place] = text
            before.setdefault(place, "")
            taken += 1
        if not taken:
            return None
        return self._credentials(before, request.method, request.uri, request.body)

    def prepared(self, method: str, uri: str, body: bytes = b"") -> Headers:
        """Credentials for a further request to the same server, before it asks (RFC 3261 22.2)."""
        return self._credentials(self._challenges, method, uri, body)

    def _credentials(self, places: Iterable[Place], method: str, uri: str, body: bytes) -> Headers:
        made: Headers = []
        for place in places:
            field, realm = place
            text, key = self._challenges.get(place), self._key(realm)
            if text is None or key is None:
                continue
            count, cnonce = self._next(auth.terms(text)[1])
            value = auth.answer(
                text,
                username=key.username,
                password=key.password,
                method=method,
                uri=uri,
                nc=count,
                cnonce=cnonce,
                body=body,
            )
            made.append((field, value))
        return made

    def _key(self, realm: str) -> Key | None:
        own = (key for key in self._keys if key.realm.lower() == realm.lower())
        return next(own, None) or next((key for key in self._keys if not key.realm), None)

    def _next(self, nonce: str) -> tuple[int, str]:
        count, cnonce = self._nonces.pop(nonce, (0, ""))
        if len(self._nonces) >= NONCES:
            del self._nonces[next(iter(self._nonces))]
        self._nonces[nonce] = count + 1, cnonce or os.urandom(8).hex()
        return self._nonces[nonce]


def _asked(response: Response) -> dict[Place, str]:
    """The strongest challenge of each realm that can be answered; a response may hold those of several servers."""
    found: dict[Place, list[str]] = {}
    for name, field in FIELDS.items():
        for text in response.headers(name):
            if auth.strength(text):
                found.setdefault((field, auth.terms(text)[0]), []).append(text)
    return {place: best for place, texts in found.items() if (best := auth.strongest(texts)) is not None}


def sent(request: Request) -> dict[Place, str]:
    """The credentials in a request of ours: place to nonce."""
    found: dict[Place, str] = {}
    for field in FIELDS.values():
        for text in request.headers(field):
            try:
                credentials = Credentials.parse(text)
            except Malformed:
                continue
            found[field, credentials.realm] = credentials.nonce
    return found


def challenged_realms(response: Response) -> list[str]:
    """The realms that ask, for those who want to say who asked."""
    return sorted({realm for _field, realm in _asked(response)})


def again(request: Request, credentials: Sequence[tuple[str, str]], cseq: int) -> Request:
    """The same request, without a Via, with another CSeq and these credentials in place of those it had."""
    dropped = ("Via: ", "Authorization: ", "Proxy-Authorization: ")
    start, *lines = request.text.split("\r\n")
    kept = [start]
    for line in lines:
        if line.startswith("CSeq: "):
            kept.append(f"CSeq: {cseq} {request.method}")
            kept += [f"{name}: {value}" for name, value in credentials]
        elif not line.startswith(dropped):
            kept.append(line)
    return Request(request.method, request.uri, "\r\n".join(kept), request.body)
