"""Nonces and HA1s: what digest authentication has to remember, which is little."""

from __future__ import annotations

from collections.abc import Callable

from node.config.profile import ProfileSettings
from node.directory import User
from node.sip.auth import Credentials, Nonces, ha1

REMEMBERED = 200_000


class NonceBook:
    """The nonces of one profile: good ones are told by their own hash, and their counts must grow.

    After a success mod_sofia lets a nonce live for the whole registration, so that a phone refreshes without a new
    challenge. That is remembered here; who does not remember (a successor, another worker) challenges again.
    """

    def __init__(self, settings: ProfileSettings, clock: Callable[[], float], secret: bytes) -> None:
        self._clock = clock
        self._secret = secret
        self.configure(settings)
        self._used: dict[str, tuple[float, int]] = {}
        self._swept = 0.0

    def configure(self, settings: ProfileSettings) -> None:
        self._ttl = settings.nonce_ttl
        self._most = settings.max_auth_validity
        self._nonces = Nonces(self._secret, self._ttl)

    def set_secret(self, secret: bytes) -> None:
        self._secret = secret
        self._nonces = Nonces(secret, self._ttl)

    def make(self) -> str:
        return self._nonces.make(self._clock())

    def accepts(self, credentials: Credentials) -> bool:
        """May these credentials be looked at? If not, they are stale: challenge again."""
        now = self._clock()
        until, last = self._used.get(credentials.nonce, (0.0, 0))
        if until <= now and self._nonces.check(credentials.nonce, now) != "good":
            return False
        if self._most and last >= self._most:
            return False
        # Without a count (RFC 2069) there is no replay protection.
        return not credentials.nc or count_of(credentials) > last

    def used(self, credentials: Credentials, expires: int) -> int:
        """They were right: the nonce lives on as long as the registration. Returns how often it has been used."""
        count = count_of(credentials)
        now = self._clock()
        if count:
            self._used[credentials.nonce] = now + self._ttl + expires, count
            if now - self._swept > self._ttl:
                self._sweep(now)
        return count

    def _sweep(self, now: float) -> None:
        self._swept = now
        if len(self._used) > REMEMBERED:
            self._used.clear()
            return
        self._used = {nonce: each for nonce, each in self._used.items() if each[0] > now}


class Hashes:
    """H(user:realm:password) of who has been here, so that a refresh costs one hash less."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str, str], str] = {}

    def of(self, user: User, credentials: Credentials, algorithm: str) -> str:
        if user.a1_hash:
            return user.a1_hash.lower()
        key = credentials.username, credentials.realm, algorithm, user.password
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = ha1(credentials.username, credentials.realm, user.password, algorithm)
        return found


def count_of(credentials: Credentials) -> int:
    """`nc` in hexadecimal; 0 for none, or nonsense."""
    try:
        return int(credentials.nc, 16) if credentials.nc else 0
    except ValueError:
        return 0
