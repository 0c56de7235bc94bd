"""The peer link's protocol: two sessions, and bytes carried between them by hand."""

from __future__ import annotations

import struct

import pytest

from ha.session import AskPromise, HandedOver, PeerBeat, PleaseHandOver, Promise, Refused, Session

SECRET = b"s" * 32
BEAT = PeerBeat(role="active", epoch=7, ready=True, lease="mine")


def two(secret: bytes = SECRET, other: bytes = SECRET) -> tuple[Session, Session]:
    return Session("dialler", "alpha", secret), Session("listener", "beta", other)


def greet(one: Session, other: Session) -> None:
    for _ in range(2):
        other.receive(one.outgoing())
        one.receive(other.outgoing())


def test_both_know_each_other_by_name_after_the_greeting():
    alpha, beta = two()
    greet(alpha, beta)
    assert (alpha.peer, beta.peer) == ("beta", "alpha")


@pytest.mark.parametrize("message", [BEAT, AskPromise(1, 0.7), Promise(1, 0.7), PleaseHandOver(), HandedOver()])
def test_everything_can_be_said_both_ways(message):
    alpha, beta = two()
    greet(alpha, beta)
    for one, other in ((alpha, beta), (beta, alpha), (alpha, beta)):
        one.say(message)
        assert other.receive(one.outgoing()) == [message]


def test_frames_may_come_in_pieces_and_in_heaps():
    alpha, beta = two()
    greet(alpha, beta)
    for number in range(3):
        alpha.say(AskPromise(number, 0.7))
    data = alpha.outgoing()
    said = [message for index in range(len(data)) for message in beta.receive(data[index : index + 1])]
    assert [message.number for message in said] == [0, 1, 2]


def test_another_secret_is_refused_by_both():
    alpha, beta = two(other=b"x" * 32)
    beta.receive(alpha.outgoing())
    alpha_hears = beta.outgoing()
    with pytest.raises(Refused, match="does not know the secret"):
        alpha.receive(alpha_hears)
    with pytest.raises(Refused, match="does not know the secret"):
        beta.receive(alpha.outgoing())


def test_a_node_does_not_believe_its_own_echo():
    alpha = Session("dialler", "alpha", SECRET)
    with pytest.raises(Refused, match="it calls itself 'alpha'"):
        alpha.receive(alpha.outgoing())


def test_a_proof_sent_back_is_no_proof():
    alpha = Session("dialler", "alpha", SECRET)
    mallory = Session("listener", "beta", b"")
    mallory.receive(alpha.outgoing())
    greeting = mallory.outgoing()
    length = 2 + struct.unpack_from("!H", greeting)[0]
    alpha.receive(greeting[:length])
    with pytest.raises(Refused, match="does not know the secret"):
        alpha.receive(alpha.outgoing())


def test_a_repeated_message_is_refused():
    alpha, beta = two()
    greet(alpha, beta)
    alpha.say(HandedOver())
    data = alpha.outgoing()
    beta.receive(data)
    with pytest.raises(Refused, match="wrong code"):
        beta.receive(data)


def test_a_changed_message_is_refused():
    alpha, beta = two()
    greet(alpha, beta)
    alpha.say(BEAT)
    data = bytearray(alpha.outgoing())
    data[8] ^= 1
    with pytest.raises(Refused, match="wrong code"):
        beta.receive(bytes(data))


def test_nothing_is_said_before_the_greeting_is_over():
    alpha, _beta = two()
    alpha.outgoing()
    alpha.say(BEAT)
    assert alpha.outgoing() == b""


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\x05hello", b"\x00\x00", b"\xff" * 100])
def test_who_speaks_something_else_is_refused(noise: bytes):
    _alpha, beta = two()
    with pytest.raises(Refused):
        beta.receive(noise)
