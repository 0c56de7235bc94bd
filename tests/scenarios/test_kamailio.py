"""Kamailio between phones and the node: Path, Record-Route and loose routing, each transport on either side of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.support.baresip import Baresip, all_gone, connect, hang_up, hold_and_take_back, registered, ring
from tests.support.certificates import Authority
from tests.support.kamailio import Edge
from tests.support.node import DOMAIN, PASSWORD, Node, loopback_address, secured, until
from tests.support.phone import Phone
from tests.support.ports import block

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Node]:
    made = secured(tmp_path_factory.mktemp("kamailio"), authority)
    with made.serving():
        yield made


@pytest.fixture(autouse=True)
def nobody_registered(request: pytest.FixtureRequest) -> None:
    """Phones that were killed have not said good-bye."""
    if "node" in request.fixturenames:
        request.getfixturevalue("node").api("sofia profile internal flush_inbound_reg")


def before(node: Node, *, answers: bool = True) -> Baresip:
    """A phone that speaks to the node itself."""
    return Baresip("1001", PASSWORD, DOMAIN, node.sip, tone=700, answers=answers)


SIDES = [("udp", "udp"), ("tcp", "tcp"), ("tls", "tls"), ("udp", "tls"), ("tls", "udp"), ("tcp", "udp"), ("tls", "tcp")]


@pytest.mark.parametrize(("near", "far"), SIDES)
def test_a_phone_behind_a_proxy_calls_and_is_called_holds_and_hangs_up(
    node: Node, authority: Authority, near: str, far: str
) -> None:
    """`near`: how the phone speaks to the proxy; `far`: how the proxy speaks to the node."""
    with (
        Edge(loopback_address(), node.sip[0], authority, towards=far) as edge,
        edge.phone(near) as inner,
        before(node) as outer,
    ):
        registered(node, inner, outer)
        rows = node.api(f"sofia status profile internal user 1000@{DOMAIN}")
        assert f"fs_path=sip%3A{edge.host}" in rows  # RFC 3327
        for caller, callee in ((inner, outer), (outer, inner)):
            connect(caller, callee)
            until(lambda: 690 < inner.heard() < 710 and 430 < outer.heard() < 450, 15, "both tones to be heard", node)
            hold_and_take_back(inner, outer)
            hold_and_take_back(outer, inner)
            hang_up(caller, callee)
            all_gone(node)
            connect(caller, callee)
            hang_up(callee, caller)
            all_gone(node)
        assert edge.count("[407 INVITE") == 2  # both calls of the inner phone are challenged through it
        assert edge.count("[loose BYE]") == 4
        assert edge.count("[astray") == 0


@pytest.mark.parametrize("near", ["udp", "tcp", "tls"])
def test_a_wrong_password_is_refused_through_a_proxy(node: Node, authority: Authority, near: str) -> None:
    with Edge(loopback_address(), node.sip[0], authority, towards="udp") as edge:
        with edge.phone(near, password="not this one") as phone:
            phone.says("403 Forbidden")
        assert edge.count("[401 REGISTER") == 1
        assert "1000" not in node.api("show registrations")


@pytest.mark.parametrize(("near", "far"), SIDES[:4])
def test_a_call_is_cancelled_and_refused_through_a_proxy(node: Node, authority: Authority, near: str, far: str) -> None:
    with (
        Edge(loopback_address(), node.sip[0], authority, towards=far) as edge,
        edge.phone(near, answers=False) as inner,
        before(node, answers=False) as outer,
    ):
        registered(node, inner, outer)
        for number, (caller, callee) in enumerate(((inner, outer), (outer, inner)), 1):
            ring(caller, callee)
            gone = callee.more("session closed")
            caller.command("hangup")
            gone()
            edge.saw("[CANCEL", times=number)
            edge.saw("[487 INVITE", times=number)
            all_gone(node)
            ring(caller, callee)
            refused = caller.more("session closed: 486")
            callee.command("hangup")
            refused()
            all_gone(node)
        assert edge.count("[astray") == 0


def test_two_phones_of_one_user_ring_behind_a_proxy_and_one_answers(node: Node, authority: Authority) -> None:
    """Our fork, by two ways through the same proxy; the other phone is told who answered (RFC 3326)."""
    with (
        Edge(loopback_address(), node.sip[0], authority, towards="tcp") as edge,
        edge.phone("udp", answers=False) as desk,
        edge.phone("tls", answers=False) as cell,
        before(node) as outer,
    ):
        registered(node, desk, cell, outer)
        until(lambda: node.api("show registrations").count("1000,") == 2, 5, "both to be registered", node)
        for winner, loser in ((desk, cell), (cell, desk)):
            rings = [phone.more("Incoming call") for phone in (desk, cell)]
            outer.command("dial", f"sip:1000@{DOMAIN}")
            for wait in rings:
                wait()
            waits = [winner.more("Call established"), outer.more("Call established"), loser.more("session closed")]
            winner.command("accept")
            for wait in waits:
                wait()
            hang_up(winner, outer)
            all_gone(node)
        assert edge.count('[because SIP;cause=200;text="Call completed elsewhere"]') == 2


def test_a_proxy_forks_and_one_dialog_is_left(node: Node, authority: Authority) -> None:
    """Its fork: two phones behind one contact answer at once or one after the other; one of them is talked to."""
    first, second = block(), block()
    both = f"sip:1003@127.0.0.1:{first}", f"sip:1004@127.0.0.1:{second}"
    with (
        Edge(loopback_address(), node.sip[0], authority, towards="udp", forked=("team", *both)) as edge,
        edge.phone("udp", user="1003", port=first) as desk,
        edge.phone("udp", user="1004", port=second) as cell,
        before(node) as outer,
    ):
        registered(node, desk, cell, outer)
        bind(node, "1002", f"sip:team@{edge.host}")
        for _ in range(3):
            closed = [phone.output().count("session closed") for phone in (desk, cell)]
            established = outer.more("Call established")
            outer.command("dial", f"sip:1002@{DOMAIN}")
            established()
            # Whoever answered too late is hung up or cancelled; the other one stays.
            until(lambda was=closed: ends(desk, cell, was) == 1, 10, "one phone to be let go", node)  # type: ignore[misc]
            outer.command("hangup")
            until(lambda was=closed: ends(desk, cell, was) == 2, 10, "the other phone to be hung up", node)  # type: ignore[misc]
            all_gone(node)
        assert edge.count("[astray") == 0


def ends(one: Baresip, other: Baresip, before: list[int]) -> int:
    """How many of two phones have seen the end of a call since."""
    return sum(phone.output().count("session closed") > was for phone, was in zip((one, other), before, strict=True))


def bind(node: Node, user: str, contact: str) -> None:
    async def register() -> None:
        async with Phone(user, PASSWORD, node.sip, domain=DOMAIN) as phone:
            await phone.register(contact=contact)

    asyncio.run(register())
