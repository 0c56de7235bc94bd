"""Alice and Bob over 200 bad networks of each kind."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from node.sip.layer import ClientTransaction, ServerTransaction
from node.sip.message import Response
from node.sip.timers import TwoHundredRepeater
from tests.support.wire import Party, Wire, a_request, lossy, pair

KINDS = {
    "lossy": {"loss": 0.25, "doubled": 0.1, "late": 0.4},
    "dreadful": {"loss": 0.5, "doubled": 0.1, "late": 0.4},
    "doubling": {"loss": 0.05, "doubled": 0.8, "late": 0.4},
    "overtaking": {"loss": 0.1, "doubled": 0.3, "late": 4.0},
}
"What befalls datagrams: how many are lost, how many come twice, and how many seconds late at most."


def busy_pair(seed: int, kind: str) -> tuple[Party, Party, Wire]:
    """Alice asks all kinds of things, Bob answers them in all kinds of ways, both do their part as transaction users."""
    alice, bob, wire = pair(lossy(seed, **KINDS[kind]))
    random = Random(seed)
    pending: set[str] = set()

    def finish(transaction: ServerTransaction) -> None:
        if transaction.final or not transaction.alive:
            return
        if transaction.method == "INVITE" and random.random() < 0.5:
            pending.add(transaction.request.call_id)
            repeat(transaction, TwoHundredRepeater())
        else:
            bob.respond(transaction, random.choice([200, 302, 404, 503]) if transaction.method != "INVITE" else 486)

    def repeat(transaction: ServerTransaction, repeater: TwoHundredRepeater) -> None:
        if transaction.request.call_id in pending:
            bob.respond(transaction, 200)
            delay = repeater.next_delay()
            if delay is not None:
                wire.later(delay, lambda: repeat(transaction, repeater))

    def answering(transaction: ServerTransaction) -> None:
        if transaction.method == "INVITE":
            bob.respond(transaction, random.choice([100, 180]))
        wire.later(random.uniform(0, 3), lambda: finish(transaction))

    def hearing(response: Response, transaction: ClientTransaction) -> None:
        if transaction.method == "INVITE" and 200 <= response.status < 300:
            ack = a_request("ACK", call_id=response.call_id, to=f"<sip:bob@example.org>;tag={response.to_tag}")
            flow = alice.flow_to(bob)
            alice.send_raw(alice.layer.with_via(ack, flow).encode(), flow)

    bob.answering = answering
    bob.cancelling = lambda transaction: bob.respond(transaction, 487)
    bob.acknowledged = lambda request: pending.discard(request.call_id)
    alice.hearing = hearing
    return alice, bob, wire


@pytest.mark.parametrize("block", range(10))
@pytest.mark.parametrize("kind", KINDS)
def test_on_a_bad_network_nothing_is_told_twice_and_nothing_is_left(kind, block):
    for seed in range(block * 20, block * 20 + 20):
        alice, bob, wire = busy_pair(seed, kind)
        for number in range(4):
            method = ("INVITE", "OPTIONS", "INVITE", "REGISTER")[number]
            transaction = alice.send(a_request(method, call_id=f"{seed}-{number}"), bob)
            if number == 2:
                wire.later(1.0, lambda it=transaction, who=alice: who.cancel(it))
        wire.run(until=300)
        arrived = Counter(request.call_id for request in bob.requests.values())
        assert not [call_id for call_id, times in arrived.items() if times > 1], f"told twice, {kind} {seed}"
        one_end_each(alice, {f"{seed}-{number}" for number in range(4)}, f"{kind} {seed}")
        all_heard_of(alice, bob, f"{kind} {seed}")
        left = (alice.layer.clients, bob.layer.servers, alice.layer.alarms, bob.layer.alarms)
        assert left == (0, 0, 0, 0), f"{kind} {seed}"
        assert alice.layer.next_wake() is None
        assert bob.layer.next_wake() is None


def one_end_each(alice: Party, asked: set[str], where: str) -> None:
    """Each request has one end: a refusal, a failure, or success (a 2xx to INVITE is told again whenever it comes again)."""
    ends = Counter(call_id for call_id, _ in alice.failures)
    accepted = {r.call_id for r in alice.responses if r.cseq.method == "INVITE" and 200 <= r.status < 300}
    ends.update(r.call_id for r in alice.responses if r.status >= 200 and r.call_id not in accepted)
    ends.update(accepted)
    assert ends == dict.fromkeys(asked, 1), where


def all_heard_of(alice: Party, bob: Party, where: str) -> None:
    """What Alice heard, Bob has said; and nothing came from nowhere."""
    said = {request.call_id: transaction.status for transaction, request in bob.requests.items()}
    for response in alice.responses:
        if response.status >= 200:
            assert said[response.call_id] == response.status, where
    assert {response.call_id for response in alice.stray} <= set(said), where
    assert {request.call_id for request in bob.acks} <= set(said), where
    cancelled = {request.call_id for request in bob.cancels}
    assert all(call_id.endswith("-2") for call_id in cancelled), where
