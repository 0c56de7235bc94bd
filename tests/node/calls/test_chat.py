"""MESSAGE outside of dialogs: what the phones say to it, its author hears."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.registrar.test_registrar import configured
from tests.node.rig import PhoneLine, Rig, rig
from tests.support.sipmessage import Sip

TO = {"To": "<sip:1001@pbx.test>", "Content-Type": "text/plain"}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield configured(made, auth_messages=False)


def written(author: PhoneLine, text: str = "hello", **fields: str) -> Sip:
    message = author.request("MESSAGE", "sip:1001@pbx.test", **{**TO, **fields})
    message.body = text
    author.send(message)
    return message


def delivered(phone: PhoneLine) -> Sip:
    while (message := phone.receive()).is_response:
        pass
    return message


def test_a_refusal_of_the_body_comes_back_with_what_the_phone_would_read(node: Rig) -> None:
    bob, alice = node.phone("1001"), node.phone("1000")
    assert bob.register().status == 200
    written(alice, Content_Type="application/x-secret", Content_Disposition="render")
    message = delivered(bob)
    assert message.get("Content-Type") == "application/x-secret"
    assert message.get("Content-Disposition") == "render"
    assert message.get("Max-Forwards") == "69"
    bob.send(message.answer(415, "Unsupported Media Type", "b", [("Accept", "text/plain"), ("X-Own", "business")]))
    refusal = alice.receive()
    assert (refusal.status, refusal.get("Accept"), refusal.get("X-Own")) == (415, "text/plain", "")


def test_a_phone_that_has_run_out_of_time_is_not_passed_back_as_such(node: Rig) -> None:
    """A 408 may not be said of a MESSAGE (RFC 4320), and was once said by saying nothing."""
    bob, alice = node.phone("1001"), node.phone("1000")
    assert bob.register().status == 200
    written(alice)
    bob.send(delivered(bob).answer(408, "Request Timeout", "b"))
    assert alice.receive().status == 480


def test_one_phone_that_takes_it_is_enough(node: Rig) -> None:
    alice, phones = node.phone("1000"), [node.phone("1001"), node.phone("1001")]
    for phone in phones:
        assert phone.register().status == 200
    written(alice)
    first, second = [delivered(phone) for phone in phones]
    phones[0].send(first.answer(415, "Unsupported Media Type", "b", [("Accept", "text/html")]))
    phones[1].send(second.answer(200, "OK", "c"))
    answer = alice.receive()
    assert (answer.status, answer.get("Accept")) == (200, "")


def test_what_has_gone_far_enough_goes_no_further(node: Rig) -> None:
    bob, alice = node.phone("1001"), node.phone("1000")
    assert bob.register().status == 200
    assert alice.ask(written_with_no_hops(alice)).status == 483
    assert bob.silent()


def written_with_no_hops(author: PhoneLine) -> Sip:
    message = author.request("MESSAGE", "sip:1001@pbx.test", **TO, Max_Forwards="0")
    message.body = "hello"
    return message
