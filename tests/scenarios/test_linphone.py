"""Linphone as a phone: it registers, calls and is called, pauses, transfers and writes, over UDP, TCP and TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.baresip import Baresip, all_gone, registered
from tests.support.certificates import Authority
from tests.support.linphone import PAUSED, PAUSED_BY_OTHER, RUNNING, Linphone
from tests.support.node import DOMAIN, PASSWORD, Node, secured

pytestmark = [pytest.mark.real, pytest.mark.peers]

NOTHING = ""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Node]:
    made = secured(tmp_path_factory.mktemp("linphone"), authority)
    with made.serving():
        yield made


@pytest.fixture
def node(running: Node) -> Node:
    """With nobody registered: phones that were killed have not said good-bye."""
    running.api("sofia profile internal flush_inbound_reg")
    return running


def linphone(
    node: Node,
    transport: str,
    trust: Path,
    *,
    user: str = "1000",
    password: str = PASSWORD,
    answers: bool = True,
) -> Linphone:
    server = (node.sip[0], 5061 if transport == "tls" else 5060)
    return Linphone(user, password, server, transport=transport, trust=trust, answers=answers)


def baresip(node: Node, *, user: str = "1001", answers: bool = True) -> Baresip:
    return Baresip(user, PASSWORD, DOMAIN, node.sip, tone=700, answers=answers)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_linphone_calls_is_called_pauses_and_hangs_up(node: Node, authority: Authority, transport: str) -> None:
    with linphone(node, transport, authority.certificate) as phone, baresip(node) as other:
        phone.registered()
        registered(node, other)
        for outwards in (True, False):
            for it_hangs_up in (True, False):
                talking = other.more("Call established")
                if outwards:
                    phone.call("1001")
                else:
                    other.command("dial", f"sip:1000@{DOMAIN}")
                talking()
                phone.is_in(RUNNING)
                pause_from_both_sides(phone, other)
                closed = other.more("session closed")
                if it_hangs_up:
                    phone.does("terminate")
                    closed()
                else:
                    other.command("hangup")
                phone.is_in(NOTHING)
                all_gone(node)


def pause_from_both_sides(phone: Linphone, other: Baresip) -> None:
    """By re-INVITEs of either."""
    number = phone.focus()
    phone.does(f"call-pause {number}")
    phone.is_in(PAUSED, number)
    phone.does(f"call-resume {number}")
    phone.is_in(RUNNING, number)
    other.press("x")
    phone.is_in(PAUSED_BY_OTHER, number)
    other.press("X")
    phone.is_in(RUNNING, number)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_linphone_cancels_refuses_and_is_cancelled_and_refused(
    node: Node, authority: Authority, transport: str
) -> None:
    trust = authority.certificate
    with linphone(node, transport, trust, answers=False) as phone, baresip(node, answers=False) as other:
        phone.registered()
        registered(node, other)
        for it_ends in (True, False):
            rings, gone = other.more("Incoming call"), other.more("session closed")
            number = phone.call("1001")
            rings()
            phone.is_in("OutgoingRinging", number)
            if it_ends:
                phone.does(f"terminate {number}")
                gone()
            else:
                other.command("hangup")
            phone.is_in(NOTHING, number)
            all_gone(node)
            refused = other.more("session closed: 603")
            other.command("dial", f"sip:1000@{DOMAIN}")
            phone.is_in("IncomingReceived")
            if it_ends:
                phone.does("terminate")
                refused()
            else:
                other.command("hangup")
            phone.is_in(NOTHING)
            all_gone(node)


def test_linphone_with_a_wrong_password_is_refused(node: Node, authority: Authority) -> None:
    with linphone(node, "tcp", authority.certificate, password="not this one") as phone:
        phone.refused()
    assert "1000" not in node.api("show registrations")


def test_linphone_transfers_blindly(node: Node, authority: Authority) -> None:
    with (
        linphone(node, "tcp", authority.certificate) as phone,
        baresip(node) as partner,
        baresip(node, user="1002") as third,
    ):
        phone.registered()
        registered(node, partner, third)
        talking = partner.more("Call established")
        number = phone.call("1001")
        talking()
        phone.is_in(RUNNING, number)
        called = third.more("Call established")
        phone.does(f"call-transfer {number} sip:1002@{DOMAIN}")
        called()
        phone.is_in(NOTHING, number)
        closed = partner.more("session closed")
        third.command("hangup")
        closed()
        all_gone(node)


@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_linphone_brings_two_partners_together(node: Node, authority: Authority, transport: str) -> None:
    """REFER with Replaces (RFC 3891) between two calls, one that it made and one that it got."""
    with (
        linphone(node, transport, authority.certificate) as phone,
        baresip(node) as partner,
        baresip(node, user="1002") as third,
    ):
        phone.registered()
        registered(node, partner, third)
        talking = partner.more("Call established")
        partner.command("dial", f"sip:1000@{DOMAIN}")
        talking()
        phone.is_in(RUNNING)
        first = phone.focus()
        phone.does(f"call-pause {first}")
        phone.is_in(PAUSED, first)
        called = third.more("Call established")
        second = phone.call("1002")
        called()
        phone.is_in(RUNNING, second)
        phone.does(f"call-transfer {first} {second}")
        phone.is_in(NOTHING, first)
        phone.is_in(NOTHING, second)
        closed = partner.more("session closed")
        third.command("hangup")
        closed()
        all_gone(node)


def test_two_linphones_write_to_each_other(node: Node, authority: Authority) -> None:
    """MESSAGE (RFC 3428), across transports, answered 200 by who gets it."""
    with (
        linphone(node, "udp", authority.certificate) as one,
        linphone(node, "tls", authority.certificate, user="1001") as other,
    ):
        one.registered()
        other.registered()
        for author, reader, text in ((one, other, "good morning"), (other, one, "and to you")):
            author.does(f"message sip:{reader.user}@{DOMAIN} {text}")
            reader.logs(f"\n{text}")
