"""Who proves to know a secret: the digest of a request judged in mod_sofia's order, and the challenge where there is none.

Wrong credentials get 403, not a new challenge, so that who guesses gets no fresh nonce with the answer.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import msgspec
from msgspec.structs import replace

from node.config.profile import ProfileSettings
from node.debug import iptsec
from node.directory import Directory, User
from node.events import EventStream
from node.profiles import nat
from node.profiles.access import Access
from node.profiles.secrets import Account, Accounts, NonceBook
from node.profiles.userhash import HiddenNames
from node.registrar import announcement
from node.registrar.admission import Refusal
from node.registrar.binding import status_of
from node.registrar.wish import aor_of, asked_expires, contact_as_stored
from node.sip import auth
from node.sip.auth import Credentials
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.mask import shown
from node.sip.message import Request
from node.sip.uri import Uri, same
from store.records import Registration

log = logging.getLogger(__name__)

Verdict = Literal["stale", "forbidden"]
FORBIDDEN = Refusal(status=403)


class UriMismatch(SipError):
    """The credentials are for another request (RFC 7616 3.4.6)."""

    status = 400
    reason = "Digest URI Mismatch"


class Passed(msgspec.Struct, frozen=True, gc=False):
    """The credentials are right."""

    user: User
    credentials: Credentials
    count: int


class Authenticator:
    """Digest for all profiles of one worker."""

    def __init__(
        self,
        settings: Mapping[str, ProfileSettings],
        directory: Directory,
        access: Access,
        *,
        events: EventStream,
        clock: Callable[[], float],
    ) -> None:
        self.bindings: Callable[[str, str], list[Registration]] = lambda user, host: []
        "What is registered for user and host: the nonces a predecessor took are in there."
        self._directory = directory
        self._access = access
        self._events = events
        self._clock = clock
        self._accounts = Accounts()
        self._hidden = HiddenNames(directory)
        # Until the store tells the one that all share: nonces of this worker are then good on this worker only.
        self._secret = os.urandom(32)
        self._nonces = {name: NonceBook(each, clock, self._secret) for name, each in settings.items()}
        self._filters: dict[str, re.Pattern[str] | None] = {}

    def configure(self, settings: Mapping[str, ProfileSettings], directory: Directory, access: Access) -> None:
        """Go by another configuration; nonces that are out stay good."""
        self._directory = directory
        self._access = access
        self._accounts = Accounts()
        self._hidden = HiddenNames(directory)
        self._filters.clear()
        for name, each in settings.items():
            if name in self._nonces:
                self._nonces[name].configure(each)
            else:
                self._nonces[name] = NonceBook(each, self._clock, self._secret)

    def set_secret(self, secret: bytes) -> None:
        """The secret that all workers of both nodes share."""
        self._secret = secret
        for book in self._nonces.values():
            book.set_secret(secret)

    def issued(self, profile: str, nonce: str) -> bool:
        """Is it a nonce of this profile, whatever it is worth now? For who must tell quickly."""
        book = self._nonces.get(profile)
        return book is not None and book.issued(nonce)

    def judge(
        self, request: Request, flow: Flow, settings: ProfileSettings, field: str, *, asking: str = ""
    ) -> Passed | Refusal:
        """Challenge, refuse, or let pass by the credentials in `field`; with the events and the lines for fail2ban.

        `asking`: the field that a challenge asks for, if that is another one.
        """
        verdict: Verdict | Passed | None = None
        credentials = None
        given = request.headers(field)
        if given:
            credentials = self._credentials(given, settings)
            verdict = "stale" if credentials is None else self._judge(request, flow, settings, credentials)
            if isinstance(verdict, Passed):
                credentials = verdict.credentials
            if self._events.wanted("sofia::register_attempt"):
                self._tell_attempt(request, flow, settings, credentials, verdict)
        if iptsec.level >= 5:
            _tell(request, flow, credentials, verdict)
        if isinstance(verdict, Passed):
            return verdict
        if verdict == "forbidden":
            self._log_for_ban(settings, request, flow, "failure")
            announcement.register_failure(self._events, request, flow, aor_of(request, settings))
            return FORBIDDEN
        if settings.log_auth_challenges:
            self._log_for_ban(settings, request, flow, "challenge")
        if self._events.wanted("sofia::pre_register"):
            self._tell_pre_register(request, flow, settings)
        return self._challenge(request, settings, asking or field, stale=verdict == "stale")

    def _credentials(self, given: list[str], settings: ProfileSettings) -> Credentials | None:
        """Those for a challenge of ours, where there are others for proxies on the way (RFC 3261 22.3); None: unreadable."""
        found = []
        for text in given:
            try:
                found.append(Credentials.parse(text))
            except SipError:
                log.debug("Invalid Authorization header!")
        if len(found) > 1:
            book = self._nonces[settings.name]
            found = [each for each in found if book.genuine(each)] or found
        return found[0] if found else None

    def _judge(
        self, request: Request, flow: Flow, settings: ProfileSettings, credentials: Credentials
    ) -> Verdict | Passed:
        """The first step that fails decides (registrar rules, digest verification order)."""
        username, realm, algorithm = credentials.username, credentials.realm, credentials.algorithm
        if not (username and realm and credentials.nonce and credentials.uri):
            return "stale"
        if settings.auth_qop == "auth-int" and credentials.qop.lower() != "auth-int":
            return "stale"
        if settings.auth_check_uri and credentials.uri != request.uri and not _means(credentials.uri, request):
            raise UriMismatch(credentials.uri)
        registers = request.method == "REGISTER"
        must_match = registers and settings.inbound_reg_force_matching_username
        if must_match and not credentials.userhash and username.lower() != request.to.uri.user.lower():
            return "forbidden"
        if algorithm not in settings.auth_algorithms:
            algorithm = _agreed(algorithm, settings.auth_algorithms)
            if not algorithm:
                return "forbidden"
            if algorithm == "MD5":
                credentials = replace(credentials, algorithm=algorithm)
        book = self._nonces[settings.name]
        standing = book.judge(credentials, partial(self._bindings_of, request, settings) if registers else tuple)
        if standing != "good":
            return "forbidden" if standing == "replayed" and settings.replayed_nonce_count == "forbid" else "stale"
        domain = settings.force_register_domain or realm
        if credentials.userhash:
            named = self._revealed(request, settings, credentials, domain, must_match=must_match)
            if named is None:
                return "forbidden"
            credentials = named
        user = self._directory.find(credentials.username, domain, flow.remote[0])
        if user is None:
            log.warning("Can't find user [%s@%s] from %s", credentials.username, domain, flow.remote[0])
            return "forbidden"
        account = self._accounts.of(user)
        if not self._user_may(account, request, flow, settings):
            return "forbidden"
        if account.has_secret and not self._right(account, request, settings, credentials, algorithm):
            return "forbidden"
        count = book.use(credentials, _lasting(request) if registers else request.expires or 0)
        return Passed(user, credentials, count if credentials.cnonce and credentials.qop else 0)

    def _revealed(
        self, request: Request, settings: ProfileSettings, credentials: Credentials, domain: str, *, must_match: bool
    ) -> Credentials | None:
        """The credentials with the user name that was hashed in them."""
        likely = request.to.uri.user, request.from_.uri.user
        name = self._hidden.find(credentials, domain, likely, (settings.challenge_realm,))
        if name is None or (must_match and name.lower() != likely[0].lower()):
            log.warning("Nobody's name is hidden in %s of [%s]", credentials.username, domain)
            return None
        return replace(credentials, username=name, userhash=False)

    def _bindings_of(self, request: Request, settings: ProfileSettings) -> list[Registration]:
        """A nonce that registered is remembered with the registration, and good for the next REGISTER only."""
        return self.bindings(*aor_of(request, settings))

    def _user_may(self, account: Account, request: Request, flow: Flow, settings: ProfileSettings) -> bool:
        if account.barred or (account.acl and not self._address_may(account.acl, request, flow, settings)):
            return False
        pattern = account.agents or settings.user_agent_filter
        if not pattern or not account.has_secret:
            return True
        compiled = self._filter(pattern)
        return compiled is not None and compiled.search(request.user_agent or "unknown") is not None

    def _address_may(self, acl: str, request: Request, flow: Flow, settings: ProfileSettings) -> bool:
        """`auth-acl`; a trusted proxy may tell the address it saw. Any other source must pass itself."""
        if self._access.check(acl, flow.remote[0])[0]:
            return True
        if not self._access.any(settings.apply_proxy_acl, flow.remote[0]):
            return False
        seen = request.header("X-AUTH-IP")
        return bool(seen) and self._access.check(acl, str(seen).strip())[0]

    def _right(
        self, account: Account, request: Request, settings: ProfileSettings, credentials: Credentials, algorithm: str
    ) -> bool:
        hashed = account.hashed(credentials, algorithm)
        if not hashed:
            return False
        if auth.verify(credentials, request.method, ha1=hashed, body=request.body):
            return True
        if algorithm[-5:].lower() == "-sess" and (session := self._nonces[settings.name].session(credentials)):
            # RFC 7616 3.4.2: the session key is made once, with the first cnonce.
            return auth.verify(credentials, request.method, ha1=hashed, body=request.body, session=session)
        tolerant = settings.ndlb_broken_auth_hash and request.method not in ("REGISTER", "INVITE")
        return tolerant and auth.verify(credentials, "INVITE", ha1=hashed, body=request.body)

    def _challenge(self, request: Request, settings: ProfileSettings, field: str, *, stale: bool) -> Refusal:
        """One challenge for each algorithm, in the order they are offered (RFC 8760)."""
        book = self._nonces[settings.name]
        realm = settings.challenge_realm
        if realm in ("", "auto_to"):
            realm = request.to.uri.host
        elif realm == "auto_from":
            realm = request.from_.uri.host
        name, status = ("WWW-Authenticate", 401) if field == "Authorization" else ("Proxy-Authenticate", 407)
        qop, userhash = settings.auth_qop, settings.auth_userhash
        headers = [
            (name, auth.challenge(realm, book.make(), algorithm=each, stale=stale, qop=qop, userhash=userhash))
            for each in settings.auth_algorithms
        ]
        return Refusal(status=status, headers=tuple(headers))

    def _filter(self, pattern: str) -> re.Pattern[str] | None:
        if pattern not in self._filters:
            try:
                self._filters[pattern] = re.compile(pattern)
            except re.error as error:
                log.error("user-agent-filter %r: %s", pattern, error)
                self._filters[pattern] = None
        return self._filters[pattern]

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _log_for_ban(self, settings: ProfileSettings, request: Request, flow: Flow, what: str) -> None:
        """Lines that fail2ban's filter for FreeSWITCH reads."""
        if settings.log_auth_failures:
            log.warning(
                "SIP auth %s (%s) on sofia profile '%s' for [%s@%s] from ip %s",
                what,
                "REGISTER" if request.method == "REGISTER" else "INVITE",
                settings.name,
                aor_of(request, settings)[0],
                request.to.uri.host,
                flow.remote[0],
            )

    def _tell_pre_register(self, request: Request, flow: Flow, settings: ProfileSettings) -> None:
        contact, status, expires = self._contact(request, flow, settings)
        aor = aor_of(request, settings)
        announcement.pre_register(self._events, request, flow, aor, contact=contact, status=status, expires=expires)

    def _tell_attempt(
        self,
        request: Request,
        flow: Flow,
        settings: ProfileSettings,
        credentials: Credentials | None,
        verdict: Verdict | Passed | None,
    ) -> None:
        contact, status, expires = self._contact(request, flow, settings)
        if isinstance(verdict, Passed):
            result = "RENEWED" if verdict.count else "SUCCESS"
        else:
            result = (verdict or "stale").upper()
        announcement.register_attempt(
            self._events,
            request,
            flow,
            aor_of(request, settings),
            contact=contact,
            status=status,
            expires=expires,
            username=credentials.username if credentials else "unknown",
            realm=credentials.realm if credentials else "unknown",
            result=result,
        )

    def _contact(self, request: Request, flow: Flow, settings: ProfileSettings) -> tuple[str, str, int]:
        """The Contact as it would be stored, its status, and the seconds asked for."""
        contacts = request.contacts
        if not contacts:
            return "", "Registered(UDP)", 0
        contact = contacts[0]
        reason = self._nat(request, flow, settings)
        stored = contact_as_stored(request, contact, flow, settings, reason)
        status = status_of(contact.uri, nat=reason, via=flow.transport)
        return stored, status, asked_expires(request, contact, reason)

    def _nat(self, request: Request, flow: Flow, settings: ProfileSettings) -> str:
        return nat.register_reason(request, flow, settings, self._access)


def _agreed(algorithm: str, offered: tuple[str, ...]) -> str:
    """What an algorithm comes to that was not offered in these letters; empty: nothing."""
    if offered == ("MD5",):
        return "MD5"  # mod_sofia: whatever the client says
    return algorithm if algorithm.lower() in map(str.lower, offered) else ""


def _lasting(request: Request) -> int:
    """Seconds a registration is asked for, so long its nonce is good."""
    expires = request.expires
    if expires is not None:
        return expires
    contacts = request.contacts
    return asked_expires(request, contacts[0], "") if contacts else 0


def _means(uri: str, request: Request) -> bool:
    """Is the uri of the credentials the Request-URI (RFC 3261 22.4), though written otherwise?"""
    try:
        return same(Uri.parse(uri), request.target)
    except SipError:
        return False


def _tell(request: Request, flow: Flow, credentials: Credentials | None, verdict: Verdict | Passed | None) -> None:
    """For `sofia loglevel iptsec`: who came with what, and what was thought of it."""
    who = credentials.username if credentials is not None else "nobody"
    judged = "good" if isinstance(verdict, Passed) else verdict or "challenged"
    iptsec.say("%s from %s by %s: %s", request.method, flow, shown(who), judged)
    if iptsec.level >= 7 and credentials is not None:
        words = credentials.realm, credentials.algorithm, credentials.qop, credentials.nonce, credentials.nc
        iptsec.say("realm %s, algorithm %s, qop %s, nonce %s, count %s", *(shown(str(word)) for word in words))
