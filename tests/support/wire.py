"""Transaction layers talking over a network that exists only in virtual time: an hour of ringing takes no time."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Address, Flow, endpoint_text
from node.sip.layer import ClientTransaction, ServerTransaction, TransactionLayer
from node.sip.message import Request, Response, check, parse
from node.sip.timers import Timers
from store.records import Transport

Fate = Callable[[bytes], list[float]]
"What becomes of a datagram: the delays after which it arrives, none if it is lost."

DELAY = 0.001


def punctual(data: bytes) -> list[float]:
    """Every datagram arrives once, a millisecond later."""
    return [DELAY]


def lossy(seed: int, *, loss: float = 0.25, doubled: float = 0.1, late: float = 0.4) -> Fate:
    """A bad network: loses a quarter, doubles a tenth, and overtaking is common."""
    random = Random(seed)

    def fate(data: bytes) -> list[float]:
        if random.random() < loss:
            return []
        copies = 2 if random.random() < doubled else 1
        return [random.uniform(DELAY, late) for _ in range(copies)]

    return fate


class Party:
    """A transaction user with its layer that notes what it is told. Scripts replace its `answering` and `hearing`."""

    def __init__(
        self, name: str, host: str, *, transport: Transport = "UDP", timers: Timers | None = None, port: int = 5060
    ) -> None:
        self.name = name
        self.address: Address = (host, port)
        self.transport: Transport = transport
        self.wire: Wire | None = None
        self.layer = self.new_layer(timers or Timers())
        self.arrived: list[ServerTransaction] = []
        self.requests: dict[ServerTransaction, Request] = {}
        "What they came with: the layer keeps no request that is answered, but an INVITE."
        self.acks: list[Request] = []
        self.cancels: list[Request] = []
        self.responses: list[Response] = []
        self.failures: list[tuple[str, str]] = []
        self.unacknowledged: list[ServerTransaction] = []
        self.ended_elsewhere: list[ServerTransaction] = []
        self.stray: list[Response] = []
        self.told: list[str] = []
        "Everything, in order, in a word or two each."
        self.answering: Callable[[ServerTransaction], None] = lambda transaction: None
        self.cancelling: Callable[[ServerTransaction], None] = lambda transaction: None
        self.hearing: Callable[[Response, ClientTransaction], None] = lambda response, transaction: None
        self.acknowledged: Callable[[Request], None] = lambda request: None

    def new_layer(self, timers: Timers) -> TransactionLayer:
        return TransactionLayer(
            self, slot_token=f"{self.name}.0", sent_by=lambda flow: endpoint_text(flow.local), timers=timers
        )

    @property
    def now(self) -> float:
        return self.wire.now if self.wire is not None else 0.0

    # ---- what a test does ------------------------------------------------------------------------------------------

    def flow_to(self, other: Party) -> Flow:
        return Flow(self.name, self.transport, self.address, other.address)

    def send(self, request: Request, other: Party) -> ClientTransaction:
        transaction = self.layer.request(request, self.flow_to(other), self.now)
        self._settle()
        return transaction

    def respond(self, transaction: ServerTransaction, status: int, **options: object) -> None:
        options.setdefault("to_tag", f"{self.name}.0-tag")
        request = self.requests.get(transaction, transaction.request)
        response = compose.response(request, status, **options)  # type: ignore[arg-type]
        self.layer.respond(transaction, response, self.now)
        self._settle()

    def cancel(self, transaction: ClientTransaction, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.layer.cancel(transaction, self.now, headers)
        self._settle()

    def send_raw(self, data: bytes, flow: Flow) -> None:
        assert self.wire is not None
        self.wire.carry(data, flow)

    def _settle(self) -> None:
        if self.wire is not None:
            self.wire.settle(self)

    # ---- TransactionUser -------------------------------------------------------------------------------------------

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        self.told.append(request.method)
        if transaction is None:
            self.acks.append(request)
            self.acknowledged(request)
        else:
            self.arrived.append(transaction)
            self.requests[transaction] = request
            self.answering(transaction)

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        self.told.append("CANCEL")
        self.cancels.append(request)
        self.cancelling(transaction)

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        self.told.append(str(response.status))
        self.responses.append(response)
        self.hearing(response, transaction)

    def on_failure(self, transaction: ClientTransaction, cause: str) -> None:
        self.told.append(cause)
        self.failures.append((transaction.request.call_id, cause))

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        self.told.append("unacknowledged")
        self.unacknowledged.append(transaction)

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        self.told.append("ended elsewhere")
        self.ended_elsewhere.append(transaction)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        self.told.append(f"stray {response.status}")
        self.stray.append(response)

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        self.told.append("stray CANCEL")
        self.layer.respond(transaction, compose.response(request, 481), self.now)


class Wire:
    """What is in flight between the parties, and the clock."""

    def __init__(self, *parties: Party, fate: Fate = punctual) -> None:
        self.now = 0.0
        self.fate = fate
        self.sent: list[tuple[float, str, str]] = []
        "When, who, and the start line's first word or status, of everything that was sent, lost or not."
        self._parties = {party.address: party for party in parties}
        self._flying: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        for party in parties:
            party.wire = self

    def times(self, who: Party, what: str) -> list[float]:
        """When this party sent this: a method, or a status."""
        return [round(at, 3) for at, name, word in self.sent if name == who.name and word == what]

    def join(self, party: Party) -> None:
        """From now on this party is at its address."""
        self._parties[party.address] = party
        party.wire = self

    def unplug(self, party: Party) -> None:
        """What is sent to it is lost, and its clock stands still."""
        del self._parties[party.address]

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        heappush(self._flying, (self.now + delay, next(self._number), callback))

    def carry(self, data: bytes, flow: Flow) -> None:
        word = data.split(b" ", 2)
        self.sent.append((self.now, self._name(flow.local), (word[1] if word[0] == b"SIP/2.0" else word[0]).decode()))
        delays = self.fate(data) if not flow.reliable else [DELAY]
        for delay in delays:
            self.later(delay, lambda: self._arrive(data, flow))

    def run(self, until: float) -> None:
        """Let time pass."""
        while True:
            self._settle_all()
            wakes = [(at, party) for party in self._parties.values() if (at := party.layer.next_wake()) is not None]
            alarm, party = min(wakes, key=lambda wake: wake[0], default=(None, None))
            message = self._flying[0][0] if self._flying else None
            if message is not None and (alarm is None or message <= alarm):
                if message > until:
                    break
                self.now, _, callback = heappop(self._flying)
                callback()
            elif alarm is not None and party is not None and alarm <= until:
                self.now = max(self.now, alarm)
                party.layer.wake(self.now)
            else:
                break
        self.now = until

    def settle(self, party: Party) -> None:
        for data, flow in party.layer.outgoing():
            self.carry(data, flow)

    def _settle_all(self) -> None:
        for party in self._parties.values():
            self.settle(party)

    def _arrive(self, data: bytes, flow: Flow) -> None:
        party = self._parties.get(flow.remote)
        if party is None:
            return
        back = Flow(party.name, flow.transport, flow.remote, flow.local, flow.connection)
        message = parse(data)
        try:
            if isinstance(message, Request):
                check(message)
            party.layer.receive(message, back, self.now)
        except SipError as error:
            raise AssertionError(f"{party.name} refused what a party sent: {error}") from error

    def _name(self, address: Address) -> str:
        party = self._parties.get(address)
        return party.name if party is not None else endpoint_text(address)


def pair(fate: Fate = punctual, *, transport: Transport = "UDP") -> tuple[Party, Party, Wire]:
    """Alice, Bob, and the wire between them."""
    alice = Party("alice", "192.0.2.1", transport=transport)
    bob = Party("bob", "192.0.2.2", transport=transport)
    return alice, bob, Wire(alice, bob, fate=fate)


def a_request(method: str = "OPTIONS", *, call_id: str = "call-1", cseq: int = 1, **options: object) -> Request:
    """A request from Alice to Bob, without Via."""
    fields: dict[str, object] = {
        "from_": "<sip:alice@example.org>;tag=alice.0-1",
        "to": "<sip:bob@example.org>",
        "call_id": call_id,
        "cseq": cseq,
    }
    if method in ("INVITE", "SUBSCRIBE"):
        fields["contact"] = "<sip:alice@192.0.2.1>"
    return compose.request(method, "sip:bob@192.0.2.2", **{**fields, **options})  # type: ignore[arg-type]


OUTSIDE = (
    "{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9:5060{branch}\r\nFrom: <sip:old@x>{from_tag}\r\n"
    "To: <sip:bob@192.0.2.2>{to_tag}\r\nCall-ID: old-1\r\nCSeq: {cseq} {method}\r\nContact: <sip:old@192.0.2.9>\r\n"
    "Content-Length: 0\r\n\r\n"
)


def from_outside(method: str, cseq: int = 1, branch: str = "", to_tag: str = "", from_tag: str = ";tag=o") -> Request:
    """A request as an old client at 192.0.2.9 sends it to Bob, who has it by `FLOW`."""
    data = OUTSIDE.format(method=method, cseq=cseq, branch=branch, to_tag=to_tag, from_tag=from_tag).encode()
    message = parse(data)
    assert isinstance(message, Request)
    return message


FLOW = Flow("bob", "UDP", ("192.0.2.2", 5060), ("192.0.2.9", 5060))
