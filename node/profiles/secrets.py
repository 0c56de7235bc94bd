"""Nonces and accounts: what digest authentication has to remember, which is little."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Literal

from node.config.profile import ProfileSettings
from node.directory import User
from node.sip import replay
from node.sip.auth import SKEW, Credentials, Nonces, ha1, new_maker
from store.records import Registration

REMEMBERED = 200_000
IN_FLIGHT = 32
"Seconds for which a nonce of another worker is taken: as long as the answer to its challenge may be under way (64*T1)."
LONGEST = 86_400
"Seconds for which a nonce lives on at most, however long a registration is asked for."
CHECKED = 2
"Nonces looked at for each new one, whether they are over: so many that the forgetting keeps up."

_YES = frozenset(("true", "yes", "on", "1", "t", "enabled", "active", "allow"))
_NO = frozenset(("false", "no", "off", "0"))
_ONCE = replay.used(replay.UNUSED, 1)

Standing = Literal["good", "stale", "replayed"]
Bindings = Callable[[], Iterable[Registration]]


class NonceBook:
    """The nonces of one profile: good ones are told by their own hash, and no count of one is taken twice.

    After a success mod_sofia lets a nonce live for the whole registration, so that a phone refreshes without a new
    challenge. That is remembered here, and the registration's record has nonce and count too: a successor goes on from
    there. Of other uses a successor knows nothing. It takes the nonce of another worker only with the count 1 and while
    the answer to the challenge may be under way; every other good phone is challenged once more, and a request captured
    before the failover is worth nothing 32 seconds after its challenge.
    """

    def __init__(self, settings: ProfileSettings, clock: Callable[[], float], secret: bytes) -> None:
        self._clock = clock
        self._maker = new_maker()
        self._nonces = Nonces(secret, maker=self._maker)
        self.configure(settings)
        self._used: dict[str, tuple[float, replay.Window, str]] = {}
        "By nonce: until when it lives, which counts were used, and the cnonce that began a `-sess` session."
        self._order: deque[str] = deque()
        "The same nonces, those to be looked at next in front."
        self._floor = 0
        "Second of the newest nonce that had to be forgotten: those made until then are taken only if they are remembered."

    def configure(self, settings: ProfileSettings) -> None:
        self._ttl = settings.nonce_ttl
        self._most = settings.max_auth_validity

    def set_secret(self, secret: bytes) -> None:
        self._nonces = Nonces(secret, maker=self._maker)

    def __len__(self) -> int:
        return len(self._used)

    def make(self) -> str:
        return self._nonces.make(self._clock())

    def issued(self, nonce: str) -> bool:
        return self._nonces.genuine(nonce)

    def genuine(self, credentials: Credentials) -> bool:
        """For a challenge of ours, not of somebody else on the way."""
        return self._nonces.genuine(credentials.nonce)

    def judge(self, credentials: Credentials, bindings: Bindings = tuple) -> Standing:
        """May these credentials be looked at? If they are stale: challenge again.

        `bindings`: the registrations that may know the nonce; asked only if this worker does not.
        """
        now = self._clock()
        nonce = credentials.nonce
        count = count_of(credentials)
        key = nonce if count else _uncounted(credentials)
        known = self._used.get(key)
        if known is None:
            return "good" if self._unheard(nonce, count, now, bindings) else "stale"
        until, window, _ = known
        if until <= now:
            return "stale"
        if not replay.fresh(window, count or 1):
            # A count that another worker remembers may be the same request again, which our answer never reached.
            return "replayed" if self._nonces.own(nonce) else "stale"
        return "stale" if self._most and window[0] >= self._most else "good"

    def session(self, credentials: Credentials) -> str:
        """The cnonce that began the session of this nonce; empty: it begins now."""
        known = self._used.get(credentials.nonce)
        return known[2] if known is not None else ""

    def use(self, credentials: Credentials, expires: int) -> int:
        """They were right: this count is used up, and the nonce lives on as long as the registration. Returns the count."""
        count = count_of(credentials)
        key = credentials.nonce if count else _uncounted(credentials)
        now = self._clock()
        known = self._used.get(key)
        if known is None:
            self._forget_some(now)
            self._order.append(key)
            session = ""
            window = _ONCE if count <= 1 else replay.used(replay.UNUSED, count)
            if not count:
                expires = 0
        else:
            window, session = replay.used(known[1], count or 1), known[2]
        if not session and credentials.algorithm[-5:].lower() == "-sess":
            session = credentials.cnonce
        self._used[key] = now + self._ttl + (expires if expires < LONGEST else LONGEST), window, session
        return count

    def _unheard(self, nonce: str, count: int, now: float, bindings: Bindings) -> bool:
        """Whether a nonce that was never used here, as far as we remember, may be used."""
        nonces = self._nonces
        if not nonces.genuine(nonce):
            return False
        made = nonces.made(nonce)
        if nonces.own(nonce):
            return made > self._floor and -SKEW <= now - made <= self._ttl
        for each in bindings():
            if each.nonce == nonce:
                return each.nonce_count < count
        return made > self._floor and count <= 1 and now - made <= IN_FLIGHT

    def _forget_some(self, now: float) -> None:
        """Those that are over, and one that is not where there are too many: its phone is challenged once more.

        What is in front was put at the end at least half as many uses ago as are remembered, so nobody is put off whose
        challenge is still under way.
        """
        order, used = self._order, self._used
        for _ in range(CHECKED if len(order) >= CHECKED else len(order)):
            if used[order[0]][0] <= now:
                del used[order.popleft()]
            elif len(used) >= REMEMBERED:
                nonce = order.popleft()
                del used[nonce]
                self._floor = max(self._floor, self._nonces.made(nonce))
            else:
                order.rotate(-1)


class Account:
    """A user of the directory as the digest sees it: its params read once, and the hash it came with last."""

    __slots__ = ("_asked", "_hash", "acl", "agents", "barred", "has_secret", "user")

    def __init__(self, user: User) -> None:
        params = user.params
        self.user = user
        self.has_secret = user.has_secret
        self.barred = (
            user.pointer
            or is_true(params, "sip-forbid-register")
            or (not self.has_secret and params.get("allow-empty-password", "true").lower() in _NO)
        )
        "It may not come in, whatever it knows."
        self.acl = params.get("auth-acl")
        "The list its address must pass; empty: none."
        self.agents = params.get("user-agent-filter")
        self._asked = ("", "", "")
        self._hash = ""

    def hashed(self, credentials: Credentials, algorithm: str) -> str:
        """H(user:realm:password); empty: the directory has nothing of this user that the algorithm could do with."""
        asked = credentials.username, credentials.realm, algorithm
        if asked != self._asked:
            self._hash = _hashed(self.user, credentials, algorithm)
            self._asked = asked
        return self._hash


class Accounts:
    """Those who have been here, so that a refresh costs one hash less."""

    def __init__(self) -> None:
        self._known: dict[int, Account] = {}

    def of(self, user: User) -> Account:
        account = self._known.get(id(user))
        if account is None or account.user is not user:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            account = self._known[id(user)] = Account(user)
        return account


def is_true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() in _YES


def _hashed(user: User, credentials: Credentials, algorithm: str) -> str:
    """As the directory keeps it; else from the password."""
    kept = user.a1_hash_for(algorithm)
    if kept or not user.password:
        return kept
    return ha1(credentials.username, credentials.realm, user.password, algorithm)


def count_of(credentials: Credentials) -> int:
    """`nc` in hexadecimal; 0 for none, or nonsense."""
    nc = credentials.nc
    return _usual_count(nc) if len(nc) == 8 else _count(nc)


def _count(nc: str) -> int:
    try:
        return int(nc, 16) if nc.isalnum() else 0
    except ValueError:
        return 0


_usual_count = lru_cache(maxsize=1024)(_count)
"Nearly all are small."


def _uncounted(credentials: Credentials) -> str:
    """What a request without a count (RFC 2069) is remembered by: its response, good once for each nonce."""
    return f"{credentials.nonce}:{credentials.response.lower()}"
