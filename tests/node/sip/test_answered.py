"""What is left of an answered request: its answer, until nobody can repeat the request any more."""

from __future__ import annotations

import gc
import weakref

import pytest

from node.sip import answered
from node.sip.answered import LUMP, Answered
from node.sip.flow import Flow
from node.sip.layer import ServerTransaction
from node.sip.message import Request, parse
from tests.support.wire import Party

PHONE = ("192.0.2.9", 5060)
FLOW = Flow("bob", "UDP", ("192.0.2.2", 5060), PHONE)


def options(method: str = "OPTIONS", branch: str = "z9hG4bK1", host: str = PHONE[0]) -> Request:
    text = (
        f"{method} sip:bob@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;rport;branch={branch}\r\n"
        f"Max-Forwards: 70\r\nFrom: <sip:alice@192.0.2.9>;tag=a\r\nTo: <sip:bob@192.0.2.2>\r\nCall-ID: 1@alice\r\n"
        f"CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    message = parse(text.encode())
    assert isinstance(message, Request)
    return message


def answered_at_once() -> Party:
    bob = Party("bob", "192.0.2.2")
    bob.answering = lambda transaction: bob.respond(transaction, 200)
    return bob


def test_a_repeated_request_gets_the_same_bytes_again_where_it_came_from() -> None:
    bob = answered_at_once()
    bob.layer.receive(options(), FLOW, 0.0)
    (first,) = bob.layer.outgoing()
    moved = FLOW._replace(remote=("192.0.2.9", 5099))
    bob.layer.receive(options(), moved, 31.0)
    assert bob.layer.outgoing() == [(first[0], moved)]
    assert bob.told == ["OPTIONS"]


def test_nothing_is_kept_of_a_request_but_the_answer() -> None:
    bob = answered_at_once()
    request = options()
    gone = weakref.ref(request)
    bob.layer.receive(request, FLOW, 0.0)
    bob.arrived.clear()
    bob.requests.clear()
    bob.layer.outgoing()
    del request
    gc.collect()
    assert gone() is None
    assert bob.layer.servers == 1
    assert bob.layer.knows("z9hG4bK1", "192.0.2.9:5060", "OPTIONS")


def test_after_half_a_minute_the_request_would_be_a_new_one() -> None:
    bob = answered_at_once()
    bob.layer.receive(options(), FLOW, 0.0)
    at = bob.layer.next_wake()
    assert at == 32.0 + LUMP
    bob.layer.wake(at)
    assert bob.layer.servers == bob.layer.alarms == 0
    assert bob.layer.next_wake() is None
    bob.layer.receive(options(), FLOW, 34.0)
    assert bob.told == ["OPTIONS", "OPTIONS"]


def test_the_same_request_by_another_way_is_a_merged_one_even_after_the_answer() -> None:
    bob = Party("bob", "192.0.2.2")
    seen: list[bool] = []

    def answer(transaction: ServerTransaction) -> None:
        seen.append(bob.layer.merged(transaction))
        bob.respond(transaction, 200)

    bob.answering = answer
    bob.layer.receive(options(), FLOW, 0.0)
    bob.layer.receive(options(branch="z9hG4bK2"), FLOW, 5.0)
    bob.layer.wake(50.0)
    bob.layer.receive(options(branch="z9hG4bK3"), FLOW, 50.0)
    assert seen == [False, True, False]


def test_of_too_many_the_oldest_are_forgotten_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answered, "MOST", 10)
    bob = answered_at_once()
    for number in range(30):
        bob.layer.receive(options(branch=f"z9hG4bK{number}"), FLOW, number / 100)
    assert (bob.layer.servers, bob.layer.alarms) == (10, 1)
    known = [bob.layer.knows(f"z9hG4bK{number}", "192.0.2.9:5060", "OPTIONS") for number in range(30)]
    assert known == [False] * 20 + [True] * 10


def test_an_answer_is_dropped_in_the_order_of_time_and_not_before() -> None:
    answers = Answered()
    answers.keep(("a",), b"1", ("origin",), 10.0)
    answers.keep(("b",), b"2", None, 11.0)
    answers.drop(10.5)
    assert (answers.get(("a",)), answers.get(("b",)), len(answers), answers.origins) == (None, b"2", 1, {})
    assert answers.next_wake() == 11.0 + LUMP
    answers.drop(11.0)
    assert answers.next_wake() is None
