"""The transaction layer: matches messages to transactions, runs their machines, says what is to be sent (RFC 3261 17).

layer.receive(message, flow, now)      what the network brings
layer.wake(now)                        what the clock brings, at next_wake()
layer.request(...), respond(...), ...  what the user wants
layer.outgoing()                       after each of them: send this
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from node.debug import nta
from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.machine import Cause, State
from node.sip.mask import shown
from node.sip.message import Request, Response, parse
from node.sip.tables import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    REVIVED_INVITE_SERVER,
    acknowledge,
)
from node.sip.timers import Timers
from node.sip.token import COOKIE, Names, owner
from node.sip.transaction import ClientTransaction, Failure, Ground, ServerTransaction, TransactionUser, reply_flow

__all__ = ["ClientTransaction", "Failure", "ServerTransaction", "State", "TransactionLayer", "TransactionUser"]

DEFAULT = Timers()


class TransactionLayer:
    """All transactions of one slot."""

    def __init__(
        self,
        user: TransactionUser,
        *,
        slot_token: str,
        sent_by: Callable[[Flow], str],
        timers: Timers = DEFAULT,
    ) -> None:
        self.names = Names(slot_token)
        "Makes our branches and tags."
        self.timers = timers
        self._ground = Ground(user, self.names, sent_by, timers)
        self._servers = self._ground.servers
        self._clients = self._ground.clients
        self._answered = self._ground.answered

    # ---- what the network and the clock bring ----------------------------------------------------------------------

    def receive(self, message: Request | Response, flow: Flow, now: float) -> None:
        """A parsed message came in; a request should have passed `message.check`. Raises Malformed if it did not."""
        if nta.level >= 5:
            nta.say("received %s from %s", brief(message), flow)
        if isinstance(message, Request):
            self._receive_request(message, flow, now)
        else:
            self._receive_response(message, flow, now)

    def wake(self, now: float) -> None:
        """The time of `next_wake` has come (or any other time)."""
        due = self._ground.wheel.due
        while (item := due(now)) is not None:
            transaction, cause = item
            transaction.on_alarm(cause, now)
        self._answered.drop(now)

    def transport_failed(self, flow: Flow, now: float) -> None:
        """What was sent on this flow did not get through: its client transactions fail.

        Server transactions stay: their response may find another connection (RFC 3261 18.2.2).
        """
        if nta.level >= 3:
            nta.say("nothing gets through to %s", flow)
        for transaction in [client for client in self._clients.values() if client.flow == flow]:
            transaction.happen(Cause.BROKEN, None, now)

    def ringing(self, flow: Flow) -> list[ClientTransaction]:
        """The INVITEs of ours on this flow that were answered, and not finally: their final response may come another way."""
        return [
            client
            for client in self._clients.values()
            if client.state is State.PROCEEDING and client.flow == flow and client.method == "INVITE"
        ]

    def abandon(self, transaction: ClientTransaction) -> None:
        """Who is rung by this INVITE is gone for good: its user hears of a transport error."""
        if transaction.state is State.PROCEEDING:
            transaction.forget()
            self._ground.user.on_failure(transaction, "transport")

    # ---- what the driver fetches -----------------------------------------------------------------------------------

    def next_wake(self) -> float | None:
        """When `wake` wants to be called; None: not at all."""
        alarm, drop = self._ground.wheel.next_wake(), self._answered.next_wake()
        if alarm is None or (drop is not None and drop < alarm):
            return drop
        return alarm

    def outgoing(self) -> list[tuple[bytes, Flow]]:
        """What is to be sent now, in order; handed out once."""
        out = self._ground.out
        if not out:
            return []
        self._ground.out = []
        return out

    @property
    def transactions(self) -> int:
        """How many there are, of both kinds."""
        return len(self._servers) + len(self._answered) + len(self._clients)

    @property
    def clients(self) -> int:
        """How many client transactions there are."""
        return len(self._clients)

    @property
    def servers(self) -> int:
        """How many server transactions there are, with those of which only the answer is left."""
        return len(self._servers) + len(self._answered)

    def knows(self, branch: str, sent_by: str, method: str) -> bool:
        """Is there a server transaction that a request with this top Via would be a retransmission of?"""
        key = (branch, sent_by, method)
        return key in self._servers or self._answered.get(key) is not None

    def repeat(self, key: tuple[str, str, str], flow: Flow, now: float) -> bool:
        """A request with this branch, sent-by and method came again: as `receive`, without having read it.

        For one that is answered where it came from. False if that is not known of it, or it came by another way.
        """
        answer = self._answered.get(key)
        if answer is not None:
            self._ground.out.append((answer, flow))
            return True
        transaction = self._servers.get(key)
        if transaction is None or transaction.flow != flow:
            return False
        transaction.happen(Cause.REPEATED, None, now)
        return True

    def proceeding(self) -> int:
        """How many INVITEs wait for their final response. Counts them."""
        waiting = (State.TRYING, State.PROCEEDING)
        return sum(each.method == "INVITE" and each.state in waiting for each in self._servers.values())

    @property
    def alarms(self) -> int:
        """How many alarms are set. Counts them: for tests and inquiries."""
        return len(self._ground.wheel) + (self._answered.next_wake() is not None)

    # ---- what the user wants ---------------------------------------------------------------------------------------

    def request(self, request: Request, flow: Flow, now: float) -> ClientTransaction:
        """Send a request (not ACK, not CANCEL) by a new transaction; adds the Via."""
        assert request.method not in ("ACK", "CANCEL"), "ACK goes without a transaction, CANCEL by cancel()"
        branch = self.names.branch()
        return self._start_client(compose.with_via(request, self._via(flow, branch)), branch, flow, now, send=True)

    def respond(self, transaction: ServerTransaction, response: Response, now: float) -> None:
        """Send a response. One that the state does not allow any more is ignored.

        RFC 4320: to a request other than INVITE, no provisional but 100 is sent, and instead of a 408 nothing.
        """
        status = response.status
        if status >= 300:
            if status == 408 and transaction.method != "INVITE":
                transaction.forget()
                return
            cause = Cause.FAILURE
        elif status >= 200:
            cause = Cause.SUCCESS
        else:
            if status != 100 and transaction.method != "INVITE":
                return
            cause = Cause.PROVISIONAL
        if nta.level >= 5:
            nta.say("sends %s to %s", brief(response), transaction.reply_flow)
        transaction.happen(cause, response, now)

    def respond_statelessly(self, transaction: ServerTransaction, response: Response) -> None:
        """Send a final response and forget the request (RFC 3261 8.2.7): for challenges and refusals to strangers.

        Only while nothing was sent. A retransmission is a new request then; the ACK to such a refusal of an INVITE
        comes to the user without a transaction, and is to be ignored.
        """
        assert transaction.state is State.TRYING, "something was answered already"
        if nta.level >= 5:
            nta.say("sends %s to %s, and forgets it", brief(response), transaction.reply_flow)
        self._ground.out.append((response.encode(), transaction.reply_flow))
        transaction.forget()

    def cancel(self, transaction: ClientTransaction, now: float, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Cancel an INVITE; waits by itself for a provisional. Ignored when a final response was there already.

        The user hears of the INVITE's end by its final response, or on_failure; the CANCEL's own fate is not told.
        """
        assert transaction.method == "INVITE", "only INVITE can be cancelled"
        if not transaction.cancelled and transaction.state in (State.CALLING, State.PROCEEDING):
            transaction.wish_cancelled(tuple(headers))
            transaction.happen(Cause.CANCEL, None, now)

    def acknowledge(self, transaction: ClientTransaction, now: float) -> None:
        """ACK the refusal of an INVITE that was `reserved`, and from now on whenever it comes again."""
        transaction.reserved = False
        refusal, transaction.refusal = transaction.refusal, None
        if refusal is not None:
            acknowledge(transaction, refusal, now)
            transaction.shed()

    def meet(self, request: Request, transaction: ServerTransaction, now: float) -> bool:
        """Has a CANCEL its INVITE here? Then it is answered, and takes effect. Asked again by who may have taken that over since."""
        invite = self._servers.get(_server_key(request, "INVITE"))
        if invite is None:
            return False
        tag = _to_tag(invite.last_response)
        self.respond(transaction, compose.response(request, 200, to_tag=tag), now)
        invite.happen(Cause.CANCEL, request, now)
        return True

    def with_via(self, request: Request, flow: Flow) -> Request:
        """With a Via of ours on top, for what goes outside of transactions: the ACK to a 2xx. Retransmit its bytes."""
        return compose.with_via(request, self._via(flow, self.names.branch()))

    def merged(self, transaction: ServerTransaction) -> bool:
        """Did the same request arrive before by another path (RFC 3261 8.2.2.2)? Then answer 482."""
        request = transaction.request
        if request.to_tag:
            return False
        origin = request.origin
        if self._answered.origins.setdefault(origin, transaction.key) is not transaction.key:
            return True
        transaction.origin = origin
        return False

    # ---- after a failover ------------------------------------------------------------------------------------------

    def revive_server(self, request: Request, flow: Flow, last_response: bytes, now: float) -> ServerTransaction:
        """An INVITE of a predecessor that is not over, with the bytes of what it answered last.

        Trying if it answered nothing, Proceeding, Accepted after a 2xx, Completed (repeating it) after a refusal.
        """
        request.stamp(*flow.remote)
        key = _server_key(request)
        transaction = ServerTransaction(self._ground, REVIVED_INVITE_SERVER, key, request, flow)
        transaction.last_response = last_response
        transaction.status = status = int(last_response[8:11]) if last_response else 0
        self._servers[key] = transaction
        states = {0: State.TRYING, 1: State.PROCEEDING, 2: State.ACCEPTED}
        transaction.begin(states.get(status // 100, State.COMPLETED), now)
        return transaction

    def revive_client(self, request: Request, flow: Flow, now: float, *, proceeding: bool) -> ClientTransaction:
        """An INVITE (or another request) that a predecessor sent; it bears its Via. Not `proceeding`: sent again at once."""
        transaction = self._start_client(request, request.branch, flow, now, send=not proceeding, quiet=proceeding)
        if proceeding:
            transaction.begin(State.PROCEEDING, now)
        return transaction

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _start_client(
        self, request: Request, branch: str, flow: Flow, now: float, *, send: bool, quiet: bool = False
    ) -> ClientTransaction:
        key = (branch, request.method)
        machine = INVITE_CLIENT if request.method == "INVITE" else NON_INVITE_CLIENT
        transaction = self._clients[key] = ClientTransaction(self._ground, machine, key, request, flow)
        if not quiet:
            transaction.begin(machine.start, now)
        if nta.level >= 5:
            nta.say("%s %s to %s", "sends" if send else "takes over", brief(request), flow)
        if send:
            self._ground.out.append((request.encode(), flow))
        return transaction

    def _via(self, flow: Flow, branch: str) -> str:
        return f"SIP/2.0/{flow.transport} {self._ground.sent_by(flow)};rport;branch={branch}"

    def _receive_request(self, request: Request, flow: Flow, now: float) -> None:
        key = _server_key(request)  # of the Via as it was sent
        request.stamp(*flow.remote)
        transaction = self._servers.get(key)
        method = request.method
        if transaction is not None:
            if flow != transaction.flow:
                transaction.move(request, flow)
            transaction.happen(Cause.ACK if method == "ACK" else Cause.REPEATED, request, now)
        elif method == "ACK":
            self._ground.user.on_request(request, None, flow)
        elif (answer := self._answered.get(key)) is not None:
            self._ground.out.append((answer, reply_flow(request, flow)))
        else:
            machine = INVITE_SERVER if method == "INVITE" else NON_INVITE_SERVER
            transaction = self._servers[key] = ServerTransaction(self._ground, machine, key, request, flow)
            if method == "CANCEL":
                self._receive_cancel(request, transaction, flow, now)
            else:
                self._tell_request(request, transaction, flow, now)
            if transaction.state is State.TRYING:
                transaction.begin(State.TRYING, now)  # it was not answered at once

    def _tell_request(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        """The user may refuse by raising a SipError. If it breaks, the client hears 500 at once instead of nothing."""
        try:
            self._ground.user.on_request(request, transaction, flow)
        except SipError as error:
            self.respond(transaction, compose.refuse(request, error), now)
        except Exception:
            self.respond(transaction, compose.response(request, 500), now)
            raise

    def _receive_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow, now: float) -> None:
        """RFC 3261 9.2: the CANCEL itself is answered 200 at once, under the To tag of the INVITE's responses."""
        if not self.meet(request, transaction, now):
            self._ground.user.on_stray_cancel(request, transaction, flow)

    def _receive_response(self, response: Response, flow: Flow, now: float) -> None:
        branch = response.branch
        transaction = self._clients.get((branch, response.cseq.method))
        if transaction is None:
            if nta.level >= 9:
                nta.say("%s belongs to no transaction", brief(response))
            if owner(branch) is not None:  # else no answer to anything a node of ours has sent (RFC 3261 18.1.2)
                self._ground.user.on_stray_response(response, flow)
            return
        status = response.status
        if status >= 300:
            cause = Cause.FAILURE
        elif status >= 200:
            cause = Cause.SUCCESS
        else:
            cause = Cause.PROVISIONAL
        transaction.happen(cause, response, now)


def _server_key(request: Request, method: str | None = None) -> Sequence[str]:
    """By what a retransmission, an ACK or a CANCEL is recognised (RFC 3261 17.2.3); the branch comes first."""
    if method is None:
        method = "INVITE" if request.method == "ACK" else request.method
    branch = request.branch
    if branch.startswith(COOKIE) and branch != COOKIE:
        return (branch, request.sent_by, method)
    # RFC 2543, or nothing behind the cookie (RFC 4475 3.2.1): no branch that could be trusted to be unique. The To tag is left out: an ACK has one, its INVITE had none.
    return (branch, request.sent_by, method, request.uri, request.call_id, request.from_tag, str(request.cseq.number))


def brief(message: Request | Response) -> str:
    """`INVITE sip:1001@pbx.test (CSeq 1 INVITE, Call-ID a@b)`, for debug lines."""
    try:
        if isinstance(message, Request):
            what = f"{message.method} {message.uri}"
        else:
            what = f"{message.status} {message.reason}"
        return shown(f"{what} (CSeq {message.cseq}, Call-ID {message.call_id})")
    except SipError as error:
        return f"an unreadable message: {error}"


def _to_tag(response: bytes) -> str | None:
    if not response:
        return None
    message = parse(response)
    return message.to_tag or None
