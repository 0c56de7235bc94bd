"""sipp as a crowd: it registers and calls by the hundred, over UDP and TCP."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.node import DOMAIN, PASSWORD, Node
from tests.support.phone import Phone
from tests.support.sipp import Sipp, user_rows

pytestmark = [pytest.mark.real, pytest.mark.peers]
USERS = [f"10{number:02d}" for number in range(20)]


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


@pytest.mark.parametrize(("transport", "calls", "port"), [("u1", 300, 15300), ("t1", 100, 15700)])
def test_hundreds_of_calls_at_fifty_a_second_all_succeed(solo: Node, transport: str, calls: int, port: int) -> None:
    """The callers over UDP or TCP, the callees over UDP."""
    server = solo.sip

    async def register() -> None:
        async with Phone("1011", PASSWORD, server, domain=DOMAIN) as phone:
            await phone.register(contact=f"sip:1011@127.0.0.1:{port}")

    asyncio.run(register())
    rows = user_rows(USERS[:10], PASSWORD, DOMAIN, "1011")
    callee = Sipp("uas_is_hung_up", server=server, calls=calls, port=port, media_port=port + 50)
    caller = Sipp(
        "uac_hangs_up",
        server=server,
        calls=calls,
        port=port + 100,
        media_port=port + 150,
        rate=50,
        pause=0.5,
        rows=rows,
        transport=transport,
    )
    try:
        assert caller.wait(60) == 0, caller.errors()
        assert callee.wait(20) == 0, callee.errors()
        assert caller.received("SIP/2.0 5") == 0
    finally:
        caller.stop()
        callee.stop()
    assert solo.api("show channels count") == "\n0 total.\n"
