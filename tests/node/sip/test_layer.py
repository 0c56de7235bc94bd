"""Alice and Bob, over a wire in virtual time."""

from __future__ import annotations

import gc

import pytest

from node.sip import compose
from node.sip.errors import UnsupportedMedia
from node.sip.layer import ServerTransaction, State
from node.sip.message import Request, parse
from tests.support.wire import DELAY, FLOW, Party, a_request, from_outside, pair

LOST = lambda data: []  # noqa: E731


def test_a_phone_may_ring_for_an_hour():
    alice, bob, wire = pair()
    transaction = alice.send(a_request("INVITE"), bob)
    wire.run(until=1)
    bob.respond(bob.arrived[0], 180)
    wire.run(until=3600)
    assert transaction.state is State.PROCEEDING
    assert wire.times(alice, "INVITE") == [0]
    assert alice.told == ["100", "180"]


def test_an_invite_that_nobody_answers_is_sent_seven_times_and_given_up_after_32_seconds():
    alice, bob, wire = pair(LOST)
    transaction = alice.send(a_request("INVITE"), bob)
    wire.run(until=31.9)
    assert transaction.state is State.CALLING
    wire.run(until=100)
    assert wire.times(alice, "INVITE") == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert alice.failures == [("call-1", "timeout")]
    assert transaction.state is State.TERMINATED


def test_another_request_is_repeated_every_four_seconds_at_most():
    alice, bob, wire = pair(LOST)
    alice.send(a_request("OPTIONS"), bob)
    wire.run(until=100)
    assert wire.times(alice, "OPTIONS") == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert alice.failures == [("call-1", "timeout")]


def test_after_a_provisional_a_request_is_repeated_every_four_seconds_and_still_given_up_at_32():
    alice, bob, wire = pair()
    alice.send(a_request("OPTIONS"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 100)
    wire.run(until=100)
    assert wire.times(alice, "OPTIONS") == [0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert alice.told == ["100"] * 9 + ["timeout"]


def test_on_a_stream_nothing_is_repeated_and_nothing_lingers_but_the_2xx():
    alice, bob, wire = pair(transport="TCP")
    bob.answering = lambda transaction: bob.respond(transaction, 486)
    alice.send(a_request("OPTIONS"), bob)
    alice.send(a_request("INVITE", call_id="call-2"), bob)
    wire.run(until=0.1)
    assert sorted(alice.told) == ["486", "486"]
    assert alice.layer.clients == bob.layer.servers == 0
    bob.answering = lambda transaction: bob.respond(transaction, 200)
    alice.send(a_request("INVITE", call_id="call-3"), bob)
    wire.run(until=31)
    assert alice.layer.clients == bob.layer.servers == 1
    wire.run(until=33)
    assert alice.layer.clients == bob.layer.servers == alice.layer.alarms == bob.layer.alarms == 0


def test_a_refusal_is_repeated_until_its_ack_comes():
    alice, bob, wire = pair(lambda data: [] if data.startswith(b"ACK") else [DELAY])
    bob.answering = lambda transaction: bob.respond(transaction, 486)
    alice.send(a_request("INVITE"), bob)
    wire.run(until=100)
    assert wire.times(bob, "486") == pytest.approx(
        [0.001 + t for t in (0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5)]
    )
    assert wire.times(alice, "ACK") == pytest.approx([t + 0.001 for t in wire.times(bob, "486")])
    assert alice.told == ["486"]
    assert bob.told == ["INVITE", "unacknowledged"]


def test_an_acknowledged_refusal_is_sent_once_and_then_absorbs_late_acks():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 486)
    alice.send(a_request("INVITE"), bob)
    wire.run(until=2)
    assert bob.arrived[0].state is State.CONFIRMED
    wire.run(until=100)
    assert wire.times(bob, "486") == [0.001]
    assert bob.told == ["INVITE"]


def test_the_ack_to_a_refusal_goes_the_way_of_the_invite():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 486)
    invite = alice.send(a_request("INVITE", routes=["<sip:192.0.2.2;lr>", "<sip:p2;lr>"], cseq=7), bob)
    via = invite.request.header("via")
    sent = []
    wire.fate = lambda data: sent.append(data) or [DELAY]
    wire.run(until=1)
    ack = parse(next(data for data in sent if data.startswith(b"ACK")))
    assert isinstance(ack, Request)
    assert ack.headers("via") == [via]
    assert ack.headers("route") == ["<sip:192.0.2.2;lr>", "<sip:p2;lr>"]
    assert (ack.uri, str(ack.cseq), ack.to_tag) == ("sip:bob@192.0.2.2", "7 ACK", "bob.0-tag")


def test_an_invite_whose_user_is_slow_is_answered_100_after_200_ms():
    alice, bob, wire = pair()
    alice.send(a_request("INVITE"), bob)
    wire.run(until=10)
    assert wire.times(bob, "100") == [0.201]
    assert wire.times(alice, "INVITE") == [0]


def test_a_repeated_invite_gets_the_last_response_byte_for_byte():
    alice, bob, wire = pair()
    alice.send(a_request("INVITE"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 183, body=b"v=0\r\n", content_type="application/sdp")
    transaction = bob.arrived[0]
    bob.layer.receive(parse(transaction.request.encode()), transaction.flow, wire.now)
    assert bob.layer.outgoing() == [(transaction.last_response, transaction.reply_flow)]
    assert bob.told == ["INVITE"]


def test_after_a_2xx_the_invite_is_absorbed_and_each_2xx_is_told_to_the_client():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 200)
    transaction = alice.send(a_request("INVITE"), bob)
    wire.run(until=1)
    bob.respond(bob.arrived[0], 200)
    bob.layer.receive(parse(bob.arrived[0].request.encode()), bob.arrived[0].flow, wire.now)
    assert bob.layer.outgoing() == []
    wire.run(until=2)
    assert alice.told == ["200", "200"]
    assert transaction.state is State.ACCEPTED
    wire.run(until=33)
    assert transaction.state is State.TERMINATED
    assert bob.arrived[0].state is State.TERMINATED


def test_two_2xx_of_a_forked_invite_are_both_tfrom_outside():
    alice, bob, wire = pair()
    alice.send(a_request("INVITE"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 200, to_tag="fork-1")
    bob.respond(bob.arrived[0], 200, to_tag="fork-2")
    wire.run(until=1)
    assert [response.to_tag for response in alice.responses] == ["fork-1", "fork-2"]


# ---- CANCEL --------------------------------------------------------------------------------------------------------


def test_cancel_waits_for_a_provisional_response():
    alice, bob, wire = pair()
    bob.cancelling = lambda transaction: bob.respond(transaction, 487)
    invite = alice.send(a_request("INVITE"), bob)
    alice.cancel(invite, (("Reason", 'Q.850;cause=16;text="NORMAL_CLEARING"'),))
    assert wire.times(alice, "CANCEL") == []
    wire.run(until=10)
    assert wire.times(alice, "CANCEL") == [0.202]
    assert alice.told == ["100", "487"]
    assert bob.told == ["INVITE", "CANCEL"]
    assert bob.cancels[0].header("Reason") == 'Q.850;cause=16;text="NORMAL_CLEARING"'
    assert bob.cancels[0].via.branch == invite.branch
    wire.run(until=100)
    assert alice.layer.clients == bob.layer.servers == 0


def test_a_2xx_that_races_with_cancel_is_told_and_nothing_else():
    alice, bob, wire = pair()
    invite = alice.send(a_request("INVITE"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 180)
    wire.run(until=0.2)
    bob.respond(bob.arrived[0], 200)
    alice.cancel(invite)
    wire.run(until=5)
    assert alice.told == ["180", "200"]
    assert bob.told == ["INVITE"]
    assert wire.times(bob, "200") == [0.2, 0.201]


def test_a_cancelled_invite_that_gets_no_final_response_is_given_up():
    alice, bob, wire = pair()
    invite = alice.send(a_request("INVITE"), bob)
    wire.run(until=1)
    alice.cancel(invite)
    assert invite.state is State.CANCELLING
    wire.run(until=32.9)
    assert invite.state is State.CANCELLING
    wire.run(until=34)
    assert alice.told == ["100", "timeout"]


def test_cancelling_what_is_over_does_nothing():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 486)
    invite = alice.send(a_request("INVITE"), bob)
    wire.run(until=1)
    alice.cancel(invite)
    wire.run(until=2)
    assert wire.times(alice, "CANCEL") == []


def test_a_cancel_for_nothing_is_the_users():
    alice, bob, wire = pair()
    invite = alice.send(a_request("INVITE"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 180)
    wire.run(until=0.2)
    wire.unplug(bob)
    stranger = Party("stranger", "192.0.2.2")
    wire.join(stranger)
    alice.cancel(invite)
    wire.run(until=5)
    assert stranger.told == ["stray CANCEL"]
    assert wire.times(stranger, "481") == [0.201]


def test_the_200_to_a_cancel_has_the_to_tag_of_the_invites_responses():
    alice, bob, wire = pair()
    invite = alice.send(a_request("INVITE"), bob)
    wire.run(until=0.1)
    bob.respond(bob.arrived[0], 180, to_tag="ring")
    wire.run(until=0.2)
    sent = []
    wire.fate = lambda data: sent.append(data) or [DELAY]
    alice.cancel(invite)
    wire.run(until=1)
    answer = parse(next(data for data in sent if data.startswith(b"SIP/2.0 200")))
    assert (answer.to_tag, str(answer.cseq)) == ("ring", "1 CANCEL")


# ---- matching ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("branch", ["", ";branch=1", ";branch=z9hg4bk"])
def test_an_rfc_2543_client_is_matched_by_the_whole_of_its_request(branch):
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("INVITE", branch=branch), FLOW, 0.0)
    bob.layer.receive(from_outside("INVITE", branch=branch), FLOW, 0.1)
    assert bob.told == ["INVITE"]
    bob.layer.receive(from_outside("INVITE", cseq=2, branch=branch), FLOW, 0.2)
    assert bob.told == ["INVITE", "INVITE"]
    bob.respond(bob.arrived[0], 486)
    bob.layer.receive(from_outside("ACK", branch=branch, to_tag=";tag=bob.0-tag"), FLOW, 0.3)
    assert bob.arrived[0].state is State.CONFIRMED
    bob.layer.receive(from_outside("CANCEL", cseq=2, branch=branch), FLOW, 0.4)
    assert bob.told == ["INVITE", "INVITE", "CANCEL"]


def test_the_same_branch_of_another_sender_is_another_transaction():
    bob = Party("bob", "192.0.2.2")
    first = from_outside("OPTIONS", branch=";branch=z9hG4bK1")
    second = parse(first.encode().replace(b"192.0.2.9:5060", b"192.0.2.8:5060"))
    bob.layer.receive(first, FLOW, 0.0)
    bob.layer.receive(second, FLOW, 0.0)
    assert bob.told == ["OPTIONS", "OPTIONS"]


def test_an_ack_that_matches_nothing_is_told_without_a_transaction():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("ACK", branch=";branch=z9hG4bKnew", to_tag=";tag=b"), FLOW, 0.0)
    assert bob.told == ["ACK"]
    assert bob.layer.servers == 0


def test_an_ack_to_a_2xx_under_the_invites_own_branch_is_told_too():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    bob.respond(bob.arrived[0], 200)
    bob.layer.receive(from_outside("ACK", branch=";branch=z9hG4bK1", to_tag=";tag=bob.0-tag"), FLOW, 0.1)
    assert bob.told == ["INVITE", "ACK"]


def test_a_response_to_nothing_is_told_as_stray():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 200)
    alice.send(a_request("OPTIONS"), bob)
    wire.run(until=10)
    bob.layer.receive(parse(bob.requests[bob.arrived[0]].encode()), bob.arrived[0].flow, wire.now)
    wire.run(until=11)
    assert alice.told == ["200", "stray 200"]


def test_the_same_request_by_two_paths_is_merged():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK2"), FLOW, 0.0)
    first, second = bob.arrived
    assert not bob.layer.merged(first)
    assert not bob.layer.merged(first)
    assert bob.layer.merged(second)
    bob.respond(first, 486)
    bob.layer.receive(from_outside("ACK", branch=";branch=z9hG4bK1", to_tag=";tag=t"), FLOW, 0.0)
    bob.layer.wake(10.0)
    assert not bob.layer.merged(second)


# ---- the way back --------------------------------------------------------------------------------------------------


def reply_to(via: str, source: tuple[str, int]) -> tuple[str, tuple[str, int]]:
    bob = Party("bob", "192.0.2.2")
    request = parse(from_outside("OPTIONS").encode().replace(b"SIP/2.0/UDP 192.0.2.9:5060", via.encode()))
    bob.layer.receive(request, FLOW._replace(remote=source), 0.0)
    bob.respond(bob.arrived[0], 200)
    [(data, flow)] = bob.layer.outgoing()
    return parse(data).header("via") or "", flow.remote


@pytest.mark.parametrize(
    ("via", "source", "stamped", "remote"),
    [
        (
            "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1",
            ("192.0.2.9", 5060),
            "SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1",
            5060,
        ),
        ("SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1", ("192.0.2.9", 7000), "SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1", 5060),
        (
            "SIP/2.0/UDP pc.example.org:5070;branch=z9hG4bK1",
            ("192.0.2.9", 7000),
            "SIP/2.0/UDP pc.example.org:5070;branch=z9hG4bK1;received=192.0.2.9",
            5070,
        ),
        (
            "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1",
            ("192.0.2.9", 7000),
            "SIP/2.0/UDP 10.0.0.1;rport=7000;branch=z9hG4bK1;received=192.0.2.9",
            7000,
        ),
        (
            "SIP/2.0/UDP 192.0.2.9:5060;rport;branch=z9hG4bK1;received=1.1.1.1",
            ("192.0.2.9", 5060),
            "SIP/2.0/UDP 192.0.2.9:5060;rport=5060;branch=z9hG4bK1;received=192.0.2.9",
            5060,
        ),
        (
            "SIP/2.0/UDP [2001:db8::9]:5066;rport;branch=z9hG4bK1",
            ("2001:db8::9", 5066),
            "SIP/2.0/UDP [2001:db8::9]:5066;rport=5066;branch=z9hG4bK1;received=2001:db8::9",
            5066,
        ),
    ],
)
def test_responses_go_where_rfc_3581_says_and_tell_it_in_the_via(via, source, stamped, remote):
    assert reply_to(via, source) == (stamped, (source[0], remote))


def test_only_the_top_via_is_stamped_and_all_are_returned_in_order():
    via, _ = reply_to(
        "SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1, SIP/2.0/TCP 10.0.0.2;rport;branch=z9hG4bK0", ("192.0.2.9", 7000)
    )
    assert via == (
        "SIP/2.0/UDP 10.0.0.1;rport=7000;branch=z9hG4bK1;received=192.0.2.9, SIP/2.0/TCP 10.0.0.2;rport;branch=z9hG4bK0"
    )


def test_a_retransmission_by_another_way_is_answered_there():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("OPTIONS", branch=";branch=z9hG4bK1;rport"), FLOW, 0.0)
    bob.respond(bob.arrived[0], 200)
    bob.layer.outgoing()
    other = FLOW._replace(remote=("192.0.2.9", 6000))
    bob.layer.receive(from_outside("OPTIONS", branch=";branch=z9hG4bK1;rport"), other, 0.1)
    assert [flow.remote for _, flow in bob.layer.outgoing()] == [("192.0.2.9", 6000)]


# ---- amendments ----------------------------------------------------------------------------------------------------


def test_rfc_4320_no_408_and_no_provisional_but_100_to_other_requests():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("OPTIONS", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    bob.respond(bob.arrived[0], 180)
    assert bob.layer.outgoing() == []
    bob.respond(bob.arrived[0], 408)
    assert bob.layer.outgoing() == []
    assert bob.layer.servers == 0


def test_a_stateless_refusal_leaves_nothing_behind():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    refusal = compose.response(bob.arrived[0].request, 407)
    bob.layer.respond_statelessly(bob.arrived[0], refusal)
    assert [data for data, _ in bob.layer.outgoing()] == [refusal.encode()]
    assert bob.layer.servers == bob.layer.alarms == 0
    assert compose.response(from_outside("INVITE", branch=";branch=z9hG4bK1"), 407).to_tag == refusal.to_tag


def test_a_request_that_the_user_forgets_is_forgotten_when_its_client_gives_up():
    bob = Party("bob", "192.0.2.2")
    bob.layer.receive(from_outside("OPTIONS", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    bob.layer.wake(31.9)
    assert bob.layer.servers == 1
    bob.layer.wake(32.0)
    assert bob.layer.servers == bob.layer.alarms == 0
    assert bob.layer.outgoing() == []


def test_a_user_may_refuse_by_raising():
    def refuse(transaction: ServerTransaction) -> None:
        raise UnsupportedMedia

    bob = Party("bob", "192.0.2.2")
    bob.answering = refuse
    bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    [(data, _)] = bob.layer.outgoing()
    assert data.startswith(b"SIP/2.0 415 Unsupported Media Type\r\n")
    assert bob.arrived[0].state is State.COMPLETED


def test_when_the_user_breaks_the_client_hears_500():
    def stumble(transaction: ServerTransaction) -> None:
        raise ZeroDivisionError

    bob = Party("bob", "192.0.2.2")
    bob.answering = stumble
    with pytest.raises(ZeroDivisionError):
        bob.layer.receive(from_outside("INVITE", branch=";branch=z9hG4bK1"), FLOW, 0.0)
    assert [data[:11] for data, _ in bob.layer.outgoing()] == [b"SIP/2.0 500"]


def test_what_is_over_leaves_no_cycle_to_the_garbage_collector():
    alice, bob, wire = pair()
    bob.answering = lambda transaction: bob.respond(transaction, 486 if transaction.method == "INVITE" else 200)
    for number, method in enumerate(("INVITE", "OPTIONS")):
        alice.send(a_request(method, call_id=f"call-{number}"), bob)
    gc.collect()
    gc.disable()
    try:
        wire.run(until=100)
        bob.arrived.clear()
        alice.responses.clear()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = [item for item in gc.garbage if type(item).__module__.startswith("node.sip")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left == []


def test_a_broken_transport_fails_what_was_asked_there_and_leaves_the_rest():
    alice, bob, wire = pair(transport="TCP")
    carol = Party("carol", "192.0.2.3", transport="TCP")
    wire.join(carol)
    gone = alice.send(a_request("INVITE"), bob)
    kept = alice.send(a_request("INVITE", call_id="call-2"), carol)
    alice.layer.transport_failed(alice.flow_to(bob), wire.now)
    assert alice.failures == [("call-1", "transport")]
    assert (gone.state, kept.state) == (State.TERMINATED, State.CALLING)


def test_what_is_repeated_is_answered_without_being_read():
    bob = Party("bob", "192.0.2.2")
    request = from_outside("OPTIONS", branch=";branch=z9hG4bK1;rport")
    assert not bob.layer.repeat(("z9hG4bK1", request.via.sent_by, "OPTIONS"), FLOW, 0.0)
    bob.layer.receive(request, FLOW, 0.0)
    branch, sent_by, method = bob.arrived[0].key
    key = branch, sent_by, method
    assert bob.layer.repeat(key, FLOW, 0.1)
    assert bob.layer.outgoing() == [], "nothing was answered yet"
    assert not bob.layer.repeat(key, FLOW._replace(remote=("198.51.100.7", 7)), 0.2), "by another way it must be read"
    bob.respond(bob.arrived[0], 200)
    answer = bob.layer.outgoing()
    assert bob.layer.repeat(key, FLOW, 0.5)
    assert bob.layer.outgoing() == answer
    assert bob.told == ["OPTIONS"]
