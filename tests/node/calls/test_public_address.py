"""Which address our descriptions and Contacts name to whom (`ext-rtp-ip`, `ext-sip-ip`, `autonat:`)."""

from __future__ import annotations

from node.calls.leg import Leg
from node.sip.flow import Flow
from tests.node.calls.peer import OFFER
from tests.node.calls.test_targets import Scene, play

PUBLIC = {"ext_sip_ip": "203.0.113.5", "ext_rtp_ip": "203.0.113.6"}


def test_a_trunk_is_told_the_public_addresses() -> None:
    async def test(here: Scene) -> None:
        callee, _other = await here.two()
        await here.call()
        invite = await callee.expect("INVITE")
        assert "c=IN IP4 203.0.113.6" in invite.body
        assert "@203.0.113.5:" in invite.get("Contact")
        assert " 203.0.113.5:" in invite.get("Via")

    play(test, **PUBLIC)


def test_with_autonat_who_is_inside_is_told_the_addresses_inside() -> None:
    async def test(here: Scene) -> None:
        callee, _other = await here.two()
        caller = await here.call()
        invite = await callee.expect("INVITE")
        assert "c=IN IP4 127.0.0.1" in invite.body
        assert "@127.0.0.1:" in invite.get("Contact")
        assert " 127.0.0.1:" in invite.get("Via")
        callee.answer(invite, 200, sdp=OFFER)
        await caller.expect(200)
        exchange = here.rig.switchboard.exchange
        leg = Leg("x", "outbound", "external", created=0.0)
        for host, named in (("198.51.100.7", "203.0.113.6"), ("127.0.0.1", "127.0.0.1")):
            leg.flow = Flow("external", "UDP", ("127.0.0.1", 5060), (host, 5060))
            assert exchange.media_address(leg) == named

    play(test, auto_nat=True, **PUBLIC)
