"""What comes for a leg that is over, and what was asked of it and never answered: nothing of it stays."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.node.calls.clock import LeapingLoop, leap
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Rig, node, until
from tests.support.sipmessage import Sip


async def talk(rig: Rig, alice: Peer, bob: Peer) -> tuple[Sip, Sip]:
    """Alice has called bob; her 200, and the INVITE that he got."""
    rig.stage.register("1001", bob.contact)
    alice.invite("1001", "1000", sdp=OFFER)
    invite = await bob.expect("INVITE")
    bob.answer(invite, 200, sdp=OFFER)
    ok = await alice.expect(200)
    alice.ack(ok)
    await bob.expect("ACK")
    await until(lambda: rig.live[0].legs[0].pending is None)
    return ok, invite


def test_a_forked_200_after_a_reinvite_and_the_end_is_acknowledged_and_hung_up_on() -> None:
    """RFC 3261 13.2.2.4."""

    async def play() -> None:
        async with node() as (rig, _cast):
            alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
            ok, invite = await talk(rig, alice, bob)
            alice.within(ok, "INVITE", body=OFFER, kind="application/sdp")
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await bob.expect("ACK")
            taken = await alice.expect(200)
            alice.ack(taken)
            await until(lambda: rig.live[0].legs[0].pending is None)
            alice.bye(taken)
            bob.answer(await bob.expect("BYE"), 200)
            await alice.expect(200)
            await rig.idle()
            bob.tag = "another"
            bob.answer(invite, 200, sdp=OFFER)
            ack = await bob.expect("ACK")
            assert ack.cseq == invite.cseq
            assert ack.get("To").endswith("tag=another")
            bye = await bob.expect("BYE")
            assert bye.get("To").endswith("tag=another")
            bob.answer(bye, 200)
            alice.close()
            bob.close()

    asyncio.run(play())


def test_a_reinvite_that_had_only_a_100_is_forgotten_after_its_call() -> None:
    async def play() -> None:
        async with node() as (rig, _cast):
            alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
            ok, _invite = await talk(rig, alice, bob)
            alice.within(ok, "INVITE", body=OFFER, kind="application/sdp")
            bob.answer(await bob.expect("INVITE"), 100)
            await until(lambda: (pending := rig.live[0].legs[1].pending) is not None and pending.response)
            alice.bye(ok)
            bob.answer(await bob.expect("BYE"), 200)
            await rig.idle()
            assert rig.endpoint.layer.clients
            await leap(40.0, 1.0)
            assert not rig.endpoint.layer.clients
            alice.close()
            bob.close()

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(play())


def test_who_waits_for_a_record_is_served_though_another_one_breaks(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> None:
        async with node() as (rig, _cast):
            alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
            await talk(rig, alice, bob)
            call, served = rig.live[0], asyncio.Event()

            def breaks() -> None:
                raise RuntimeError("a bug")

            def both() -> None:
                call.once_stored(breaks)
                call.once_stored(served.set)

            with caplog.at_level(logging.CRITICAL, logger="node.calls.call"):
                call.post(both)
                await asyncio.wait_for(served.wait(), 15)
            for peer in (alice, bob):
                peer.answer(await peer.expect("BYE"), 200)
            await rig.idle()
            alice.close()
            bob.close()

    asyncio.run(play())
