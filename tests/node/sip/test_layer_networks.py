"""Alice and Bob over 200 bad networks."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from node.sip.layer import ClientTransaction, ServerTransaction
from node.sip.message import Response
from node.sip.timers import TwoHundredRepeater
from tests.support.wire import Party, Wire, a_request, lossy, pair


def busy_pair(seed: int) -> tuple[Party, Party, Wire]:
    """Alice asks all kinds of things, Bob answers them in all kinds of ways, both do their part as transaction users."""
    alice, bob, wire = pair(lossy(seed))
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
def test_on_a_bad_network_nothing_is_told_twice_and_nothing_is_left(block):
    for seed in range(block * 20, block * 20 + 20):
        alice, bob, wire = busy_pair(seed)
        for number in range(4):
            method = ("INVITE", "OPTIONS", "INVITE", "REGISTER")[number]
            transaction = alice.send(a_request(method, call_id=f"{seed}-{number}"), bob)
            if number == 2:
                wire.later(1.0, lambda it=transaction, who=alice: who.cancel(it))
        wire.run(until=200)
        arrived = Counter(transaction.request.call_id for transaction in bob.arrived)
        assert not [call_id for call_id, times in arrived.items() if times > 1], f"told twice, seed {seed}"
        ends = Counter(call_id for call_id, _ in alice.failures)
        accepted = {r.call_id for r in alice.responses if r.cseq.method == "INVITE" and 200 <= r.status < 300}
        ends.update(r.call_id for r in alice.responses if r.status >= 200 and r.call_id not in accepted)
        ends.update(accepted)
        assert ends == {f"{seed}-{number}": 1 for number in range(4)}, f"seed {seed}"
        left = (alice.layer.clients, bob.layer.servers, alice.layer.alarms, bob.layer.alarms)
        assert left == (0, 0, 0, 0), f"seed {seed}"
        assert alice.layer.next_wake() is None
        assert bob.layer.next_wake() is None
