"""Where every request arrives that the stack took: screened, and handed to the registrar, the calls, or answered here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from node.calls.search import RETRY, Asker, Searches
from node.calls.switchboard import Switchboard
from node.config import Configuration
from node.config.profile import ProfileSettings
from node.profiles import subscribing
from node.profiles.profile import Profile
from node.profiles.screen import Screen
from node.registrar.admission import Admission, Refusal
from node.registrar.registrar import Registrar
from node.sip import compose
from node.sip.errors import BadExtension, LoopDetected, SipError
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, Failure, ServerTransaction
from node.sip.message import Request, Response
from node.transport.attempt import Attempt
from node.transport.capabilities import ACCEPT, EVENTS, KNOWN, METHODS, serves, standing_lines, understands
from node.transport.endpoint import Endpoint
from store.records import CallRecord

log = logging.getLogger(__name__)

KEPT = 4096
"Responses without a transaction that are kept during a claim."
UNMERGED = frozenset(("INVITE", "REGISTER"))
"The calls look for merged INVITEs themselves, once they are let in; of a REGISTER nothing comes twice."
PROXY_UNDERSTOOD = frozenset(("privacy",))
"Option tags that a Proxy-Require may name besides (RFC 3323 4.2)."


class Own:
    """The owner of a client transaction that belongs to no call: what to do with its end."""

    __slots__ = ("then",)

    def __init__(self, then: Callable[[Response | None], None]) -> None:
        self.then = then


class Reception:
    """The transaction user of a worker."""

    endpoint: Endpoint
    switchboard: Switchboard
    registrar: Registrar

    def __init__(self, configuration: Configuration, *, profile: str, screen: Screen, asker: Asker) -> None:
        self.profiles = {name: Profile(name) for name in configuration.profiles}
        self.standby = {name: each.profile_standby for name, each in configuration.profiles.items()}
        self.elsewhere: Callable[[CallRecord, Request, Flow, Callable[[], None]], None] | None = None
        "Brings a request to who has its record, or the record to us; then it calls back."
        self.claiming = False
        self.kept: list[tuple[Response, Flow]] = []
        "Responses without a transaction that came during a claim."
        self._let_in: list[tuple[Request, ServerTransaction, Flow, Admission]] = []
        "REGISTERs on their way to the registrar."
        self._profile = profile
        self._settings = configuration.profiles
        self._max_sessions = configuration.switch.max_sessions
        self._screen = screen
        self._searches = Searches(self, asker)
        self._standing = {name: standing_lines(each) for name, each in configuration.profiles.items()}
        self._served = {name: _served(each) for name, each in configuration.profiles.items()}
        self._all_proven = _all_proven(configuration)

    def configure(self, configuration: Configuration) -> None:
        """Go by another configuration."""
        for name in configuration.profiles:
            self.profiles.setdefault(name, Profile(name))
            self.standby.setdefault(name, configuration.profiles[name].profile_standby)
        self._settings = configuration.profiles
        self._max_sessions = configuration.switch.max_sessions
        self._standing = {name: standing_lines(each) for name, each in configuration.profiles.items()}
        self._served = {name: _served(each) for name, each in configuration.profiles.items()}
        self._all_proven = _all_proven(configuration)

    # ---- requests --------------------------------------------------------------------------------------------------

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        if transaction is None:
            self.switchboard.on_request(request, None, flow)  # the ACK to a 2xx
            return
        self.profiles[flow.profile].requests += 1
        try:
            if not request.to_tag and self.endpoint.is_full(request.method):
                self.refuse(request, transaction, 503, None, [RETRY])
            else:
                self._receive(request, transaction, flow)
        except Exception as error:
            self._fail(request, transaction, flow, error)

    def on_served(self) -> None:
        """Take the REGISTERs that were let in to the registrar, all of a lot together (see `Endpoint._read`): 5 us less each."""
        if not self._let_in:
            return
        let_in, self._let_in = self._let_in, []
        for request, transaction, flow, admission in let_in:
            try:
                self.registrar.on_register(request, transaction, flow, admission)
            except Exception as error:
                self._fail(request, transaction, flow, error)

    def _fail(self, request: Request, transaction: ServerTransaction, flow: Flow, error: Exception) -> None:
        """It is to be refused, or something broke."""
        if isinstance(error, SipError):
            self.refuse(request, transaction, error.status, error.reason or None, error.headers)
        else:
            log.error("%s from %s:%d broke", request.method, *flow.remote, exc_info=error)
            self.refuse(request, transaction, 500)

    def _receive(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        settings = self._settings[flow.profile]
        method = request.method
        if method in subscribing.METHODS:
            subscribing.tell(request, flow)
        if method not in self._served[flow.profile]:
            self.refuse(request, transaction, 405 if method in KNOWN else 501)
            return
        fields = request.fields
        if "require" in fields or "proxy-require" in fields:
            self._require(request, settings)
        if request.to_tag:
            self._in_dialog(request, transaction, flow)
        elif self.standby[flow.profile]:
            self.refuse(request, transaction, 503, "System Paused")
        elif method not in UNMERGED and self.endpoint.layer.merged(transaction):
            raise LoopDetected("the same request came before by another way")
        elif method == "REGISTER":
            self._register(request, transaction, flow)
        elif method == "INVITE":
            self._invite(request, transaction, flow)
        elif method == "OPTIONS":
            self._options(request, transaction, flow, settings)
        elif method == "MESSAGE":
            self._message(request, transaction, flow)
        elif method in ("SUBSCRIBE", "REFER", "NOTIFY"):
            self._not_outside(request, transaction)
        else:
            self.refuse(request, transaction, 481, "Call Does Not Exist")

    def _register(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        profile = self.profiles[flow.profile]
        profile.registers += 1
        admission = self._screen.register(request, flow)
        if isinstance(admission, Refusal):
            self._turn_away(profile, request, transaction, admission)
            return
        if admission.digest:
            self.endpoint.gate.proved(flow)
        self._let_in.append((request, transaction, flow, admission))

    def _invite(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        profile = self.profiles[flow.profile]
        if not request.contacts:
            self.refuse(request, transaction, 400, "Missing Contact Header")
            return
        admission = self._screen.invite(request, flow)
        if isinstance(admission, Refusal):
            self._turn_away(profile, request, transaction, admission)
            return
        if admission.digest:
            self.endpoint.gate.proved(flow)
        self.switchboard.on_invite(
            request,
            transaction,
            flow,
            user=admission.user,
            context=admission.context,
            variables=dict(admission.variables),
        )

    def _message(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        admission = self._screen.message(request, flow)
        if isinstance(admission, Refusal):
            self._turn_away(self.profiles[flow.profile], request, transaction, admission)
            return
        if admission.digest:
            self.endpoint.gate.proved(flow)
        self.switchboard.on_message(request, transaction)

    def _not_outside(self, request: Request, transaction: ServerTransaction) -> None:
        """What is served in dialogs only. A subscription to what a REFER comes to is made by that alone (RFC 3515 2.4.4)."""
        package = (request.header("Event") or "").partition(";")[0].strip().lower()
        match request.method:
            case "SUBSCRIBE" if package != "refer":
                self.refuse(request, transaction, 489, None, [("Allow-Events", EVENTS)])
            case "NOTIFY" if package == "keep-alive":
                self.endpoint.respond(transaction, self._plain(request, transaction, 200))
            case "NOTIFY":
                self.refuse(request, transaction, 481, "Call Does Not Exist")
            case _:
                self.refuse(request, transaction, 403)

    def _plain(self, request: Request, transaction: ServerTransaction, status: int) -> Response:
        return compose.response(request, status, lines=self._standing[transaction.flow.profile])

    def _options(self, request: Request, transaction: ServerTransaction, flow: Flow, settings: ProfileSettings) -> None:
        full = self._max_sessions and self.switchboard.sessions >= self._max_sessions
        if full and settings.sip_options_respond_503_on_busy:
            self.refuse(request, transaction, 503, "Maximum Calls In Progress", [("Retry-After", "300")])
            return
        contact = self.endpoint.contact(flow, settings.contact_user)
        lines = f"Accept: {ACCEPT}\r\n{self._standing[flow.profile]}"
        self.endpoint.respond(transaction, compose.response(request, 200, contact=contact, lines=lines))

    def _require(self, request: Request, settings: ProfileSettings) -> None:
        """RFC 3261 8.2.2.3, and 16.3 as the proxy that a phone takes us for. Not for CANCEL, which the layer answers."""
        strange = [tag for tag in request.headers("Require") if not understands(settings, tag)]
        strange += [
            tag
            for tag in request.headers("Proxy-Require")
            if tag.lower() not in PROXY_UNDERSTOOD and not understands(settings, tag)
        ]
        if strange:
            raise BadExtension(strange)

    def _turn_away(self, profile: Profile, request: Request, transaction: ServerTransaction, refusal: Refusal) -> None:
        if refusal.status in (401, 407):
            profile.challenged += 1
            self.endpoint.gate.challenged(request)
        else:
            profile.denied += 1
            if request.header("Authorization") or request.header("Proxy-Authorization"):
                self.endpoint.gate.failed(transaction.flow)
        answer = compose.response(
            request, refusal.status, refusal.reason, lines=self._standing[profile.name], headers=refusal.headers
        )
        # Nothing is kept of strangers: who comes again without credentials is challenged again.
        self.endpoint.respond_statelessly(transaction, answer)

    def refuse(
        self,
        request: Request,
        transaction: ServerTransaction,
        status: int,
        reason: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        if transaction.final:
            return
        profile = transaction.flow.profile
        self.profiles[profile].refused += 1
        answer = compose.response(request, status, reason, lines=self._standing[profile], headers=headers)
        if transaction.status == 0 and not request.to_tag:
            self.endpoint.respond_statelessly(transaction, answer)  # nothing is kept of what was refused at once
        else:
            self.endpoint.respond(transaction, answer)

    # ---- requests in dialogs ---------------------------------------------------------------------------------------

    def hold(self, message: Request | Response) -> bool:
        """While records are claimed: is this something that a record may be about? Asked before the layer sees it."""
        if isinstance(message, Response):
            return False  # those that match nothing come to `on_stray_response`
        if message.method == "CANCEL":
            return True
        if message.to_tag:
            return not self.switchboard.knows(message)
        return message.method == "INVITE"

    def _in_dialog(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        if self.switchboard.knows(request):
            self.serve(request, transaction, flow)
        else:
            self._searches.begin(request, transaction, flow)

    def serve(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """A request of a dialog here; with `auth-all-packets` it must prove to be from whom the INVITE was from."""
        if self._all_proven and (who := self.switchboard.proven(request)):
            refusal = self._screen.within(request, flow, who)
            if refusal is not None:
                self._turn_away(self.profiles[flow.profile], request, transaction, refusal)
                return
            self.endpoint.gate.proved(flow)
        self.switchboard.on_request(request, transaction, flow)

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        self._searches.begin(request, transaction, flow)

    def knows(self, request: Request) -> bool:
        return self.switchboard.knows(request)

    def say(
        self, request: Request, transaction: ServerTransaction, status: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        if status >= 300:
            self.refuse(request, transaction, status, "Call Does Not Exist" if status == 481 else None, headers)
        else:
            # Who says BYE again did not hear the answer, perhaps because a predecessor was killed before it.
            self.endpoint.respond(transaction, self._plain(request, transaction, status))

    # ---- the rest of what the layer tells --------------------------------------------------------------------------

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        self.switchboard.on_cancel(transaction, request)

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        owner = transaction.owner
        if isinstance(owner, Attempt):
            owner.hear(response)
        elif not isinstance(owner, Own):
            self.switchboard.on_response(response, transaction)
        elif response.status >= 200:
            owner.then(response)

    def on_failure(self, transaction: ClientTransaction, cause: Failure) -> None:
        owner = transaction.owner
        if isinstance(owner, Attempt):
            owner.fail(cause)
        elif isinstance(owner, Own):
            owner.then(None)
        else:
            self.switchboard.on_failure(transaction, cause)

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        self.switchboard.on_unacknowledged(transaction)

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        self.switchboard.on_ended_elsewhere(transaction)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        if self.claiming and len(self.kept) < KEPT:
            self.kept.append((response, flow))
        else:
            self.switchboard.on_stray_response(response, flow)


def _served(settings: ProfileSettings) -> frozenset[str]:
    """The methods that a profile does not refuse at once; SUBSCRIBE is told which event packages there are."""
    return frozenset(("SUBSCRIBE", *(method for method in METHODS if serves(settings, method))))


def _all_proven(configuration: Configuration) -> bool:
    return any(each.auth_all_packets for each in configuration.profiles.values())
