"""MESSAGE outside of any dialog (RFC 3428): delivered to the contacts of a registered user, with what they answer passed back.

mod_sofia answers 202 to everything; here the author learns what became of it. A 2xx of any phone counts; if all refuse,
the first refusal does. Nothing of it is kept: a MESSAGE that meets a failover is repeated by its author.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from node.calls.exchange import Exchange, new_uuid
from node.calls.flows import without_former
from node.registrar.binding import destination
from node.sip import compose
from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.uri import Uri, unescape
from node.transport.attempt import Attempt
from store.records import Registration

if TYPE_CHECKING:
    from node.sip.layer import ServerTransaction

SENDER = "X-FS-Sending-Message"
"Core-UUID of the node that sends it: who meets its own has a loop."
UNAVAILABLE = 480
"Nobody answered: a 408 may not be said of anything but an INVITE (RFC 4320)."
SECOND_THOUGHTS = 2.0
"Seconds that other phones have after one has refused."
PATIENCE = 20.0
"Seconds that all of them have: the author's own transaction lasts 32 (RFC 3261 17.1.2.2)."
PASSED_ON = ("subject", "date", "content-disposition", "content-encoding", "in-reply-to", "reply-to", "expires")


def on_message(exchange: Exchange, request: Request, transaction: ServerTransaction) -> None:
    """One that may enter."""
    own = exchange.profile(transaction.flow.profile)
    assert own is not None, "a flow of a profile we do not have"
    if exchange.core_uuid and request.header(SENDER) == exchange.core_uuid:
        _answer(exchange, request, transaction, 503)
        return
    if "composing" in request.content_type:
        _answer(exchange, request, transaction, 200 if own.sip_messages_respond_200_ok else 202)
        return  # as in mod_sofia: that somebody types is told to nobody
    host = request.target.address
    if own.force_register_db_domain:
        host = own.force_register_db_domain
    user = unescape(request.target.user)
    found = partial(_on_found, exchange, request, transaction)
    exchange.location.find(user, host, None, found)


def _on_found(
    exchange: Exchange, request: Request, transaction: ServerTransaction, registrations: list[Registration]
) -> None:
    if not registrations:
        _answer(exchange, request, transaction, 404)
        return
    registrations = without_former(exchange, registrations)
    delivery = Delivery(exchange, request, transaction, len(registrations))
    exchange.endpoint.later(PATIENCE, delivery.conclude)
    for registration in registrations:
        delivery.send(registration)


class Delivery:
    """A MESSAGE on its way to all contacts of a user."""

    __slots__ = ("_accepts", "_exchange", "_left", "_request", "_status", "_transaction")

    def __init__(self, exchange: Exchange, request: Request, transaction: ServerTransaction, contacts: int) -> None:
        self._exchange = exchange
        self._request = request
        self._transaction = transaction
        self._left = contacts
        self._status = 0
        self._accepts = ""
        "What a phone takes that would not take this."

    def send(self, registration: Registration) -> None:
        """To one contact, by the flow it registered with or to where its URI says."""
        exchange, profile = self._exchange, registration.profile_name
        where = destination(registration.contact)
        request = self._request
        author, tag, call_id = str(request.from_.without_params("tag")), exchange.names.tag(), new_uuid()
        kept = [(name, value) for name, value in request.items() if name.lower() in PASSED_ON]
        headers = [*exchange.headers(profile), *kept, (SENDER, exchange.core_uuid)]
        hops = 70 if request.max_forwards is None else request.max_forwards

        def write(_flow: Flow) -> Request:
            return compose.request(
                "MESSAGE",
                where.uri,
                from_=f"{author};tag={tag}",
                to=f"<{where.uri}>",
                call_id=call_id,
                cseq=1,
                max_forwards=hops - 1,
                routes=where.routes,
                headers=headers,
                body=request.body,
                content_type=request.header("Content-Type") if request.body else None,
            )

        flow = Flow.from_record(registration.flow) if registration.flow is not None else None
        if flow is not None and (flow.transport != "UDP" or where.hop):
            Attempt(exchange.endpoint, profile, write, self._on_answer).on_located([flow])
            return
        hop = where.hop or (where.routes[0].strip("<>") if where.routes else where.uri)
        exchange.endpoint.request_to(Uri.parse(hop), profile, write, self._on_answer)

    def _on_answer(self, response: Response | None) -> None:
        self._left -= 1
        status = response.status if response is not None and response.status != 408 else UNAVAILABLE
        if status < 300 or self._status in (0, UNAVAILABLE):
            self._status = status
            self._accepts = (response.header("Accept") or "") if response is not None and status == 415 else ""
        if status < 300 or not self._left:
            self.conclude()
        else:
            self._exchange.endpoint.later(SECOND_THOUGHTS, self.conclude)

    def conclude(self) -> None:
        """Pass back the best answer there is."""
        if not self._transaction.final:
            challenge = self._status in (401, 407)  # of the phone's own, which its author could not answer
            status = 403 if challenge else self._status or UNAVAILABLE
            more = [("Accept", self._accepts)] if self._accepts else []
            _answer(self._exchange, self._request, self._transaction, status, more)


def _answer(
    exchange: Exchange,
    request: Request,
    transaction: ServerTransaction,
    status: int,
    more: Sequence[tuple[str, str]] = (),
) -> None:
    headers = [*exchange.headers(transaction.flow.profile), *more]
    exchange.endpoint.respond(transaction, compose.response(request, status, headers=headers))
