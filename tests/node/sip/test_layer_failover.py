"""Transactions that are taken over from a worker that died."""

from __future__ import annotations

import pytest

from node.sip import compose
from node.sip.layer import ClientTransaction, ServerTransaction, State
from node.sip.message import Request, Response, parse
from tests.support.wire import FLOW, Party, Wire, a_request, from_outside, pair


def revived(last_status: int | None) -> tuple[Party, ServerTransaction, Request]:
    """Bob's successor, with an INVITE that Bob answered with this status."""
    request = from_outside("INVITE", branch=";branch=z9hG4bK1;rport")
    last = compose.response(request, last_status, to_tag="bob.0-tag").encode() if last_status else b""
    successor = Party("bob", "192.0.2.2")
    transaction = successor.layer.revive_server(
        from_outside("INVITE", branch=";branch=z9hG4bK1;rport"), FLOW, last, 100.0
    )
    return successor, transaction, request


def test_a_revived_invite_answers_its_retransmission_with_the_predecessors_bytes():
    successor, transaction, request = revived(183)
    assert transaction.state is State.PROCEEDING
    successor.layer.receive(request, FLOW, 100.1)
    assert [data for data, _ in successor.layer.outgoing()] == [transaction.last_response]
    assert successor.told == []


def test_a_revived_invite_can_be_answered():
    successor, transaction, _ = revived(180)
    successor.respond(transaction, 200)
    [(data, flow)] = successor.layer.outgoing()
    answer = parse(data)
    assert isinstance(answer, Response)
    assert (answer.status, answer.via.rport, flow.remote) == (200, 5060, ("192.0.2.9", 5060))
    assert transaction.state is State.ACCEPTED


def test_a_revived_invite_can_be_cancelled():
    successor, transaction, _ = revived(180)
    successor.cancelling = lambda invite: successor.respond(invite, 487)
    successor.layer.receive(from_outside("CANCEL", branch=";branch=z9hG4bK1;rport"), FLOW, 100.1)
    statuses = [parse(data).status for data, _ in successor.layer.outgoing()]
    assert statuses == [200, 487]
    assert transaction.state is State.COMPLETED


@pytest.mark.parametrize("status", [None, 180])
def test_a_revived_invite_that_is_acknowledged_was_refused_by_the_predecessor(status):
    successor, transaction, _ = revived(status)
    successor.layer.receive(from_outside("ACK", branch=";branch=z9hG4bK1;rport", to_tag=";tag=bob.0-tag"), FLOW, 100.1)
    assert successor.told == ["ended elsewhere"]
    assert successor.layer.servers == successor.layer.alarms == 0
    assert not transaction.alive


def test_a_revived_2xx_is_sent_again_to_who_repeats_the_invite():
    successor, transaction, request = revived(200)
    assert transaction.state is State.ACCEPTED
    successor.layer.receive(request, FLOW, 100.1)
    assert [data for data, _ in successor.layer.outgoing()] == [transaction.last_response]
    successor.layer.wake(132.0)
    assert successor.layer.servers == 0


def test_a_revived_refusal_is_repeated_until_acknowledged():
    successor, transaction, _ = revived(486)
    successor.layer.wake(100.5)
    assert [data for data, _ in successor.layer.outgoing()] == [transaction.last_response]
    successor.layer.receive(from_outside("ACK", branch=";branch=z9hG4bK1;rport", to_tag=";tag=bob.0-tag"), FLOW, 100.6)
    assert transaction.state is State.CONFIRMED


def take_over(proceeding: bool) -> tuple[Party, Party, Wire, ClientTransaction]:
    """Alice calls Bob and dies; her successor at the same address goes on."""
    alice, bob, wire = pair()
    request = alice.send(a_request("INVITE"), bob).request.encode()
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 180)
    wire.run(until=0.2)
    successor = Party("alice", "192.0.2.1")
    wire.unplug(alice)
    wire.join(successor)
    message = parse(request)
    assert isinstance(message, Request)
    transaction = successor.layer.revive_client(message, successor.flow_to(bob), wire.now, proceeding=proceeding)
    return successor, bob, wire, transaction


@pytest.mark.parametrize("proceeding", [True, False])
@pytest.mark.parametrize("status", [183, 200, 486])
def test_a_revived_client_hears_the_answers_to_the_predecessors_branch(proceeding, status):
    successor, bob, wire, _ = take_over(proceeding)
    wire.run(until=1)
    bob.respond(bob.arrived[0], status)
    wire.run(until=10)
    assert successor.told == ([] if proceeding else ["180"]) + [str(status)]
    assert wire.times(successor, "ACK") == ([1.001] if status == 486 else [])
    assert bob.told == ["INVITE"]


def test_a_revived_client_in_calling_sends_the_same_bytes_again():
    _, _, wire, transaction = take_over(proceeding=False)
    wire.run(until=0.2)
    assert wire.times(Party("alice", "192.0.2.1"), "INVITE") == [0, 0.2]
    assert transaction.request.headers("via")[0].count("branch=") == 1


def test_a_revived_client_can_cancel_under_the_old_branch():
    successor, bob, wire, transaction = take_over(proceeding=True)
    bob.cancelling = lambda invite: bob.respond(invite, 487)
    successor.cancel(transaction)
    wire.run(until=10)
    assert bob.told == ["INVITE", "CANCEL"]
    assert successor.told == ["487"]
    wire.run(until=100)
    assert successor.layer.clients == successor.layer.alarms == 0
