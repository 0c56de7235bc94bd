"""sipp as a crowd: it registers by the hundred, calls and is called, over UDP, TCP and TLS."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, secured, until
from tests.support.phone import Phone
from tests.support.ports import block
from tests.support.sipp import Sipp, user_rows
from tests.support.tcpproxy import TcpProxy

pytestmark = [pytest.mark.real, pytest.mark.peers]
USERS = [f"10{number:02d}" for number in range(20)]
CALLERS = user_rows(USERS[:10], PASSWORD, DOMAIN, "1011")
PROXY = "127.0.0.2"


@pytest.mark.parametrize(("transport", "port"), [("u1", 15100), ("t1", 15200)])
def test_five_hundred_registrations_with_digest_all_succeed(solo: Node, transport: str, port: int) -> None:
    rows = user_rows(USERS, PASSWORD, DOMAIN)
    server = solo.sip
    sipp = Sipp(
        "register", server=server, calls=500, port=port, media_port=port + 50, rate=200, rows=rows, transport=transport
    )
    try:
        assert sipp.wait(60) == 0, sipp.errors()
        assert sipp.count("SuccessfulCall(C)") == 500
    finally:
        sipp.stop()
    assert "20 total" in solo.api("show registrations count")


CALLS = [("uac_hangs_up", "uas_is_hung_up"), ("uac_is_hung_up", "uas_hangs_up")]


@pytest.mark.parametrize(("calling", "called"), CALLS)
@pytest.mark.parametrize(
    ("near", "far", "calls"), [("u1", "u1", 300), ("t1", "u1", 100), ("u1", "t1", 100), ("t1", "t1", 100)]
)
def test_hundreds_of_calls_at_fifty_a_second_all_succeed(
    solo: Node, calling: str, called: str, near: str, far: str, calls: int
) -> None:
    """`near`: how the callers speak to the node; `far`: how it speaks to the callees."""
    port = block()
    register(solo, f"sip:1011@127.0.0.1:{port};transport={'tcp' if far == 't1' else 'udp'}")
    callee = Sipp(called, server=solo.sip, calls=calls, port=port, media_port=port + 50, transport=far, pause=0.5)
    caller = Sipp(
        calling,
        server=solo.sip,
        calls=calls,
        port=port + 100,
        media_port=port + 150,
        rate=50,
        pause=0.5,
        rows=CALLERS,
        transport=near,
    )
    all_succeed(solo, caller, callee)


@pytest.mark.parametrize(("calling", "called"), CALLS)
@pytest.mark.parametrize(("near", "far"), [("tls", "tls"), ("udp", "tls"), ("tls", "udp")])
def test_calls_by_tls_all_succeed(
    tmp_path: Path, authority: Authority, calling: str, called: str, near: str, far: str
) -> None:
    """Debian builds sipp without TLS: a proxy before each sipp has it in its place, at another address by the same port."""
    port, calls = block(), 50
    node = secured(tmp_path, authority)
    with node.serving(), ExitStack() as stack:
        words = behind_tls(stack, node, authority, port) if far == "tls" else {}
        host = PROXY if far == "tls" else "127.0.0.1"
        register(node, f"sip:1011@{host}:{port};transport={far}")
        callee = Sipp(called, calls=calls, port=port, media_port=port + 50, pause=0.5, **({"server": node.sip} | words))  # type: ignore[arg-type]
        words = behind_tls(stack, node, authority, port + 100) if near == "tls" else {}
        caller = Sipp(
            calling,
            calls=calls,
            port=port + 100,
            media_port=port + 150,
            rate=25,
            pause=0.5,
            rows=CALLERS,
            **({"server": node.sip} | words),  # type: ignore[arg-type]
        )
        all_succeed(node, caller, callee)


def behind_tls(stack: ExitStack, node: Node, authority: Authority, port: int) -> dict[str, object]:
    """What a sipp on this port is told, so that it speaks TLS with the node: by one proxy there, by another one back."""
    shows = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown = authority.folder / "proxy.pem"
    shown.write_text(authority.issue(PROXY))
    shows.load_cert_chain(shown)
    stack.enter_context(TcpProxy(("127.0.0.1", port), host=PROXY, port=port, shows=shows))
    there = stack.enter_context(TcpProxy((node.sip[0], 5061), trusts=authority.trusting()))
    instead = {"[transport]": "TLS", "[local_ip]": PROXY}
    return {"server": (there.host, there.port), "transport": "t1", "instead": instead}


def register(node: Node, contact: str) -> None:
    async def scenario() -> None:
        async with Phone("1011", PASSWORD, node.sip, domain=DOMAIN) as phone:
            await phone.register(contact=contact)

    asyncio.run(scenario())


def all_succeed(node: Node, caller: Sipp, callee: Sipp) -> None:
    try:
        assert caller.wait(60 * STRETCH) == 0, caller.errors()
        assert callee.wait(20 * STRETCH) == 0, callee.errors()
        assert caller.received("SIP/2.0 5") == 0
    finally:
        caller.stop()
        callee.stop()
    until(lambda: node.api("show channels count") == "\n0 total.\n", 10, "the calls to be gone", node)
