"""Who may come in: access lists and digest, for REGISTER and for INVITE, in mod_sofia's order.

Wrong credentials get 403, not a new challenge, so that who guesses gets no fresh nonce with the answer.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping, Set
from typing import Literal

import msgspec
from msgspec.structs import replace

from node.config import Configuration
from node.config.profile import ProfileSettings
from node.directory import Directory, User
from node.events import EventStream
from node.profiles import nat
from node.profiles.access import Access
from node.profiles.secrets import Hashes, NonceBook, count_of
from node.registrar import announcement
from node.registrar.admission import Admission, Refusal
from node.registrar.binding import status_of
from node.registrar.wish import aor_of, asked_expires, contact_as_stored
from node.sip import auth
from node.sip.auth import Credentials
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request

log = logging.getLogger(__name__)

Verdict = Literal["stale", "forbidden"]
FORBIDDEN = Refusal(status=403)


class Passed(msgspec.Struct, frozen=True):
    """The credentials are right."""

    user: User
    credentials: Credentials
    count: int


class Screen:
    """Admits or refuses what starts something new."""

    def __init__(
        self,
        configuration: Configuration,
        directory: Directory,
        *,
        events: EventStream,
        clock: Callable[[], float],
    ) -> None:
        self.challenged = 0
        self.denied = 0
        self.sockets: Callable[[], Set[tuple[str, int]]] = frozenset
        "The addresses we send from: a call from there is our own."
        self._settings = configuration.profiles
        self._directory = directory
        self._access = Access(configuration.acl)
        self._events = events
        self._hashes = Hashes()
        self._clock = clock
        # Until the store tells the one that all share: nonces of this worker are then good on this worker only.
        self._secret = os.urandom(32)
        self._nonces = {name: NonceBook(each, clock, self._secret) for name, each in configuration.profiles.items()}
        self._filters: dict[str, re.Pattern[str] | None] = {}

    def configure(self, configuration: Configuration, directory: Directory) -> None:
        """Go by another configuration; nonces that are out stay good."""
        self._settings = configuration.profiles
        self._directory = directory
        self._access = Access(configuration.acl)
        self._filters.clear()
        for name, each in configuration.profiles.items():
            if name in self._nonces:
                self._nonces[name].configure(each)
            else:
                self._nonces[name] = NonceBook(each, self._clock, self._secret)

    def set_secret(self, secret: bytes) -> None:
        """The secret that all workers of both nodes share."""
        self._secret = secret
        for book in self._nonces.values():
            book.set_secret(secret)

    # ---- REGISTER --------------------------------------------------------------------------------------------------

    def register(self, request: Request, flow: Flow) -> Admission | Refusal:
        settings = self._settings[flow.profile]
        if settings.disable_register:
            return FORBIDDEN
        if settings.apply_register_acl:
            failing, token = self._access.all(settings.apply_register_acl, flow.remote[0])
            if failing:
                log.warning('IP %s Rejected by register acl "%s"', flow.remote[0], failing)
                self.denied += 1
                return FORBIDDEN
            user, _, host = token.partition("@")
            aor = (user, host) if host and not settings.accept_blind_reg else None
            return Admission(nat=self._nat(request, flow, settings), aor=aor)
        if settings.accept_blind_reg:
            return Admission(nat=self._nat(request, flow, settings))
        outcome = self._digest(request, flow, settings, "Authorization")
        if isinstance(outcome, Refusal):
            return outcome
        # Not before: a challenge does not depend on it.
        reason = self._nat(request, flow, settings)
        return Admission(
            user=outcome.user,
            username=outcome.credentials.username,
            realm=outcome.credentials.realm,
            digest=True,
            renewed=outcome.count > 0,
            nat=reason,
        )

    # ---- INVITE ----------------------------------------------------------------------------------------------------

    def invite(self, request: Request, flow: Flow) -> Admission | Refusal:
        settings = self._settings[flow.profile]
        reason = nat.invite_reason(request, flow, settings, self._access)
        variables = {"sip_nat_detected": "true"} if reason else {}
        context = ""
        if settings.apply_inbound_acl:
            verdict = self._inbound_acl(request, flow, settings, reason, variables)
            if not isinstance(verdict, str):
                return verdict
            context = verdict
        if settings.accept_blind_auth:
            return self._blind(request, settings, reason, variables, context)
        wants = settings.auth_calls or request.header("Proxy-Authorization") is not None
        if wants and flow.remote in self.sockets():
            variables["sip_looped_call"] = "true"
            wants = False
        if not wants:
            return Admission(nat=reason, variables=variables, context=context)
        outcome = self._digest(request, flow, settings, "Proxy-Authorization")
        if isinstance(outcome, Refusal):
            return outcome
        credentials = outcome.credentials
        variables["sip_authorized"] = "true"
        variables["sip_auth_username"] = credentials.username
        variables["sip_auth_realm"] = credentials.realm
        return Admission(
            user=outcome.user,
            username=credentials.username,
            realm=credentials.realm,
            digest=True,
            renewed=outcome.count > 0,
            nat=reason,
            context=context,
            variables=variables,
        )

    def _inbound_acl(
        self, request: Request, flow: Flow, settings: ProfileSettings, reason: str, variables: dict[str, str]
    ) -> str | Admission | Refusal:
        """The lists in their order, the first that lets the source pass decides.

        Returns the verdict, or the context in which the call goes on (perhaps to the digest).
        """
        ip = flow.remote[0]
        port = flow.remote[1] if settings.use_port_for_acl_check else None
        name, token, context = self._pass(settings, ip, port)
        if not name and settings.apply_proxy_acl and self._access.any(settings.apply_proxy_acl, ip):
            name, token, context = self._through_proxy(request, settings)
        if name:
            if not settings.auth_calls:
                return context
            return self._by_acl(request, settings, reason, variables, name, token, context)
        if not settings.auth_calls:
            failing = next((each.fail_context for each in settings.apply_inbound_acl if each.fail_context), "")
            if failing:
                return failing
            log.warning('IP %s Rejected by acl "%s"', ip, settings.apply_inbound_acl[0].name)
            self.denied += 1
            return FORBIDDEN
        if settings.auth_calls_acl_only:
            self.denied += 1
            return FORBIDDEN
        return ""

    def _pass(self, settings: ProfileSettings, ip: str, port: int | None) -> tuple[str, str, str]:
        """Name, token and context of the first inbound list that lets the address pass."""
        for each in settings.apply_inbound_acl:
            allowed, token = self._access.check(each.name, ip, port)
            if allowed:
                return each.name, token, each.pass_context
        return "", "", ""

    def _through_proxy(self, request: Request, settings: ProfileSettings) -> tuple[str, str, str]:
        """A trusted proxy says for whom it speaks: by a token, or by the address it saw."""
        token_field = settings.apply_proxy_acl_x_token
        token = request.header(token_field) if token_field else None
        if token:
            return settings.apply_proxy_acl[0], token, ""
        seen = request.header("X-AUTH-IP")
        if not seen:
            return "", "", ""
        port = request.header("X-AUTH-PORT") or ""
        asked = int(port) if port.isdigit() and settings.use_port_for_acl_check else None
        return self._pass(settings, seen.strip(), asked)

    def _by_acl(
        self,
        request: Request,
        settings: ProfileSettings,
        reason: str,
        variables: dict[str, str],
        name: str,
        token: str,
        context: str,
    ) -> Admission | Refusal:
        """Authenticated by its address; the token names the user it is."""
        if settings.apply_inbound_acl_x_token:
            token = request.header(settings.apply_inbound_acl_x_token) or token
        variables["sip_authorized"] = "true"
        variables["sip_acl_authed_by"] = name
        user = None
        if token:
            variables["sip_acl_token"] = token
            id_, _, domain = token.partition("@")
            user = self._directory.find(id_, domain)
            if user is None and settings.auth_require_user:
                return Refusal(status=480)
        return Admission(user=user, nat=reason, variables=variables, context=context)

    def _blind(
        self, request: Request, settings: ProfileSettings, reason: str, variables: dict[str, str], context: str
    ) -> Admission | Refusal:
        """`accept-blind-auth`: From is believed."""
        from_ = request.from_.uri
        user = self._directory.find(from_.user, settings.force_register_domain or from_.host)
        if user is None and settings.enforce_blind_auth_result and settings.blind_auth_reply_403:
            self.denied += 1
            return FORBIDDEN
        if user is not None or not settings.enforce_blind_auth_result:
            variables["sip_authorized"] = "true"
        return Admission(user=user, nat=reason, variables=variables, context=context)

    # ---- digest ----------------------------------------------------------------------------------------------------

    def _digest(self, request: Request, flow: Flow, settings: ProfileSettings, field: str) -> Passed | Refusal:
        """Challenge, refuse, or let pass; with the events and the lines for fail2ban."""
        text = request.header(field)
        verdict: Verdict | Passed | None = None
        credentials = None
        if text is not None:
            try:
                credentials = Credentials.parse(text)
            except SipError:
                log.debug("Invalid Authorization header!")
                verdict = "stale"
            else:
                verdict = self._judge(request, flow, settings, credentials)
            self._tell_attempt(request, flow, settings, credentials, verdict)
        if isinstance(verdict, Passed):
            return verdict
        user, host = aor_of(request, settings)
        if verdict == "forbidden":
            self.denied += 1
            self._log_for_ban(settings, request, flow, "failure", user)
            announcement.register_failure(self._events, request, flow, (user, host))
            return FORBIDDEN
        self.challenged += 1
        self._log_for_ban(settings, request, flow, "challenge", user)
        self._tell_pre_register(request, flow, settings, (user, host))
        return self._challenge(request, settings, field, stale=verdict == "stale")

    def _judge(
        self, request: Request, flow: Flow, settings: ProfileSettings, credentials: Credentials
    ) -> Verdict | Passed:
        """The first step that fails decides (registrar rules, digest verification order)."""
        if not (credentials.username and credentials.realm and credentials.nonce and credentials.uri):
            return "stale"
        must_match = settings.inbound_reg_force_matching_username and request.method == "REGISTER"
        if must_match and credentials.username.lower() != request.to.uri.user.lower():
            return "forbidden"
        if settings.auth_algorithms == ("MD5",) and credentials.algorithm != "MD5":
            credentials = replace(credentials, algorithm="MD5")  # mod_sofia: whatever the client says
        algorithm = credentials.algorithm.upper()
        if algorithm not in settings.auth_algorithms:
            return "forbidden"
        book = self._nonces[settings.name]
        if not book.accepts(credentials):
            return "stale"
        domain = settings.force_register_domain or credentials.realm
        user = self._directory.find(credentials.username, domain, flow.remote[0])
        if user is None:
            log.warning("Can't find user [%s@%s] from %s", credentials.username, domain, flow.remote[0])
            return "forbidden"
        if not self._user_may(user, request, flow, settings):
            return "forbidden"
        if user.has_secret and not self._right(user, request, settings, credentials, algorithm):
            return "forbidden"
        book.used(credentials, self._lasting(request))
        return Passed(user, credentials, count_of(credentials) if credentials.cnonce and credentials.qop else 0)

    def _lasting(self, request: Request) -> int:
        """Seconds the registration is asked for, so long its nonce is good."""
        expires = request.expires
        if expires is not None or request.method != "REGISTER":
            return expires or 0
        contacts = request.contacts
        return asked_expires(request, contacts[0], "") if contacts else 0

    def _user_may(self, user: User, request: Request, flow: Flow, settings: ProfileSettings) -> bool:
        params = user.params
        if user.pointer or _true(params, "sip-forbid-register"):
            return False
        acl = params.get("auth-acl")
        if acl and not self._address_may(acl, request, flow, settings):
            return False
        if not user.has_secret and params.get("allow-empty-password", "true").lower() in ("false", "no", "off", "0"):
            return False
        pattern = params.get("user-agent-filter") or settings.user_agent_filter
        if not pattern or not user.has_secret:
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
        self, user: User, request: Request, settings: ProfileSettings, credentials: Credentials, algorithm: str
    ) -> bool:
        hashed = self._hashes.of(user, credentials, algorithm)
        if auth.verify(credentials, request.method, ha1=hashed, body=request.body):
            return True
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
        headers = tuple(
            (name, auth.challenge(realm, book.make(), algorithm=algorithm, stale=stale))
            for algorithm in settings.auth_algorithms
        )
        return Refusal(status=status, headers=headers)

    def _filter(self, pattern: str) -> re.Pattern[str] | None:
        if pattern not in self._filters:
            try:
                self._filters[pattern] = re.compile(pattern)
            except re.error as error:
                log.error("user-agent-filter %r: %s", pattern, error)
                self._filters[pattern] = None
        return self._filters[pattern]

    # ---- what is told ----------------------------------------------------------------------------------------------

    def _log_for_ban(self, settings: ProfileSettings, request: Request, flow: Flow, what: str, user: str) -> None:
        """Lines that fail2ban's filter for FreeSWITCH reads."""
        if not settings.log_auth_failures or (what == "challenge" and not settings.log_auth_challenges):
            return
        kind = "REGISTER" if request.method == "REGISTER" else "INVITE"
        log.warning(
            "SIP auth %s (%s) on sofia profile '%s' for [%s@%s] from ip %s",
            what,
            kind,
            settings.name,
            user,
            request.to.uri.host,
            flow.remote[0],
        )

    def _tell_pre_register(self, request: Request, flow: Flow, settings: ProfileSettings, aor: tuple[str, str]) -> None:
        if self._events.wanted("sofia::pre_register"):
            contact, status, expires = self._contact(request, flow, settings)
            announcement.pre_register(self._events, request, flow, aor, contact=contact, status=status, expires=expires)

    def _tell_attempt(
        self,
        request: Request,
        flow: Flow,
        settings: ProfileSettings,
        credentials: Credentials | None,
        verdict: Verdict | Passed | None,
    ) -> None:
        if not self._events.wanted("sofia::register_attempt"):
            return
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


def _true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() in ("true", "yes", "on", "1", "t", "enabled", "active", "allow")
