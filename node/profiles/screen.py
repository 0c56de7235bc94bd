"""Who may come in: access lists and digest, for REGISTER and for INVITE, in mod_sofia's order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set

from node.config import Configuration
from node.config.profile import ProfileSettings
from node.directory import Directory
from node.events import EventStream
from node.profiles import nat
from node.profiles.access import Access
from node.profiles.authenticator import FORBIDDEN, Authenticator
from node.registrar.admission import Admission, Refusal
from node.sip.flow import Flow
from node.sip.message import Request

log = logging.getLogger(__name__)


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
        self.sockets: Callable[[], Set[tuple[str, int]]] = frozenset
        "The addresses we send from: a call from there is our own."
        self._settings = configuration.profiles
        self._directory = directory
        self._access = Access(configuration.acl)
        self.digest = Authenticator(self._settings, directory, self._access, events=events, clock=clock)

    def configure(self, configuration: Configuration, directory: Directory) -> None:
        """Go by another configuration; nonces that are out stay good."""
        self._settings = configuration.profiles
        self._directory = directory
        self._access = Access(configuration.acl)
        self.digest.configure(self._settings, directory, self._access)

    def set_secret(self, secret: bytes) -> None:
        """The secret that all workers of both nodes share."""
        self.digest.set_secret(secret)

    # ---- REGISTER --------------------------------------------------------------------------------------------------

    def register(self, request: Request, flow: Flow) -> Admission | Refusal:
        settings = self._settings[flow.profile]
        if settings.disable_register:
            return FORBIDDEN
        if settings.apply_register_acl:
            failing, token = self._access.all(settings.apply_register_acl, flow.remote[0])
            if failing:
                log.warning('IP %s Rejected by register acl "%s"', flow.remote[0], failing)
                return FORBIDDEN
            user, _, host = token.partition("@")
            aor = (user, host) if host and not settings.accept_blind_reg else None
            return Admission(nat=nat.register_reason(request, flow, settings, self._access), aor=aor)
        if settings.accept_blind_reg:
            return Admission(nat=nat.register_reason(request, flow, settings, self._access))
        outcome = self.digest.judge(request, flow, settings, "Authorization")
        if isinstance(outcome, Refusal):
            return outcome
        # Not before: a challenge does not depend on it.
        reason = nat.register_reason(request, flow, settings, self._access)
        return Admission(
            user=outcome.user,
            username=outcome.credentials.username,
            realm=outcome.credentials.realm,
            digest=True,
            renewed=outcome.count > 0,
            nonce=outcome.credentials.nonce if outcome.count else "",
            nonce_count=outcome.count,
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
        outcome = self.digest.judge(request, flow, settings, "Proxy-Authorization")
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

    # ---- MESSAGE ---------------------------------------------------------------------------------------------------

    def message(self, request: Request, flow: Flow) -> Admission | Refusal:
        """Outside of dialogs. The inbound lists authenticate as they do for INVITE; else digest, with `auth-messages`."""
        settings = self._settings[flow.profile]
        passed = settings.apply_inbound_acl and self._pass(settings, flow.remote[0], None)[0]
        if passed or not settings.auth_messages or flow.remote in self.sockets():
            return Admission()
        outcome = self.digest.judge(request, flow, settings, "Proxy-Authorization")
        if isinstance(outcome, Refusal):
            return outcome
        credentials = outcome.credentials
        return Admission(user=outcome.user, username=credentials.username, realm=credentials.realm, digest=True)

    # ---- inside a dialog -------------------------------------------------------------------------------------------

    def within(self, request: Request, flow: Flow, who: str) -> Refusal | None:
        """`auth-all-packets`: a request in a dialog must be from whom its INVITE was from, `user@domain`."""
        settings = self._settings[flow.profile]
        field = "Authorization" if request.header("Authorization") is not None else "Proxy-Authorization"
        outcome = self.digest.judge(request, flow, settings, field, asking="Authorization")
        if isinstance(outcome, Refusal):
            return outcome
        return None if f"{outcome.user.id}@{outcome.user.domain}" == who else FORBIDDEN

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
            return FORBIDDEN
        if settings.auth_calls_acl_only:
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
            return FORBIDDEN
        if user is not None or not settings.enforce_blind_auth_result:
            variables["sip_authorized"] = "true"
        return Admission(user=user, nat=reason, variables=variables, context=context)
