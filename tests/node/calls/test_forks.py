"""Several are called at once, and another one answers than the one whose description the caller was given."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import Scene, play
from tests.node.calls.test_reliable import KNOWS, RELIABLE, rack, reliable
from tests.support.sipmessage import Sip

BASE = "v=0\r\no=peer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio {port} RTP/AVP "
ULAW = BASE.format(port=40100) + "0\r\na=rtpmap:0 PCMU/8000\r\n"
ALAW = BASE.format(port=40200) + "8\r\na=rtpmap:8 PCMA/8000\r\n"


async def forked(rig: Rig, headers: list[tuple[str, str]]) -> tuple[Peer, Peer, Peer, Sip, Sip, Sip]:
    """A caller and two called ones, the first of which has sent early media; what the caller heard of it."""
    alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
    rig.stage.register("1001", bob.contact)
    rig.stage.register("1001", carol.contact)
    alice.invite("1001", "1000", sdp=OFFER, headers=headers)
    invite, other = await asyncio.gather(bob.expect("INVITE"), carol.expect("INVITE"))
    bob.answer(invite, 183, sdp=ULAW)
    early = await alice.expect(183)
    assert "m=audio" in early.body
    return alice, bob, carol, invite, other, early


async def cancelled(peer: Peer, invite: Sip) -> None:
    peer.answer(await peer.expect("CANCEL"), 200)
    peer.answer(invite, 487)
    await peer.expect("ACK")


async def ended(alice: Peer, ok: Sip, *others: Peer) -> None:
    alice.bye(ok)
    others[-1].answer(await others[-1].expect("BYE"), 200)
    await alice.expect(200)
    for peer in (alice, *others):
        peer.close()


def codecs(body: str) -> list[str]:
    line = next(line for line in body.splitlines() if line.startswith("m=audio"))
    return line.split()[3:]


@pytest.mark.parametrize("headers", [KNOWS, []])
def test_a_caller_that_agreed_with_one_is_made_an_offer_when_another_one_answers(
    headers: list[tuple[str, str]],
) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, other, early = await forked(rig, headers)
        if headers:
            alice.within(early, "PRACK", headers=rack(early))
            assert (await alice.expect(200)).method == "PRACK"
        carol.answer(other, 200, sdp=ALAW)
        ok = await alice.expect(200)
        assert ok.body == ("" if headers else early.body), "an answer is not given twice (RFC 3261 13.2.1)"
        alice.ack(ok)
        await carol.expect("ACK")
        offer = await alice.expect("INVITE")
        assert codecs(offer.body) == ["8"]
        assert not said(carol, "INVITE")
        alice.answer(offer, 200, sdp=ALAW.replace("40200", "40000"))
        await alice.expect("ACK")
        media = [leg.media for leg in rig.live[0].bridged]
        assert [each.remote_port for each in media if each] == [40000, 40200]
        await until(lambda: "align" not in rig.live[0].progress)
        await cancelled(bob, invite)
        await ended(alice, ok, bob, carol)

    play(scene, params=RELIABLE)


def test_nothing_is_offered_anew_where_both_fit_what_was_said() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, other, early = await forked(rig, [])
        carol.answer(other, 200, sdp=ULAW.replace("40100", "40200"))
        ok = await alice.expect(200)
        assert ok.body == early.body
        alice.ack(ok)
        await carol.expect("ACK")
        await cancelled(bob, invite)
        alice.within(ok, "OPTIONS")
        await alice.expect(200)
        assert not said(alice, "INVITE")
        assert "align" not in rig.live[0].progress
        await ended(alice, ok, bob, carol)

    play(scene)


def test_a_callers_answer_in_its_prack_may_be_to_another_ones_offer() -> None:
    """The caller offers nothing; the first callee's offer goes to it reliably, and the second callee answers."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
        rig.stage.register("1001", bob.contact)
        rig.stage.register("1001", carol.contact)
        alice.invite("1001", "1000", sdp="", headers=KNOWS)
        invite, other = await asyncio.gather(bob.expect("INVITE"), carol.expect("INVITE"))
        bob.answer(invite, 183, sdp=ULAW, headers=reliable(7))
        bob.answer(await bob.expect("PRACK"), 200)
        early = await alice.expect(183)
        assert codecs(early.body) == ["0"]
        carol.answer(other, 200, sdp=ALAW)
        await until(lambda: rig.live[0].bridged)
        alice.within(early, "PRACK", headers=rack(early), body=ULAW, kind="application/sdp")
        assert (await alice.expect(200)).method == "PRACK"
        ok = await alice.expect(200)
        assert not ok.body
        alice.ack(ok)
        ack = await carol.expect("ACK")
        assert codecs(ack.body) == ["8"]
        offer = await alice.expect("INVITE")
        assert codecs(offer.body) == ["8"]
        alice.answer(offer, 200, sdp=ALAW.replace("40200", "40000"))
        await alice.expect("ACK")
        await cancelled(bob, invite)
        await ended(alice, ok, bob, carol)

    play(scene, params=RELIABLE)


def test_a_successor_makes_the_offer() -> None:
    async def run(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, other, _early = await forked(rig, [])
        carol.answer(other, 200, sdp=ALAW)
        ok = await alice.expect(200)
        successor, results = rig.succeed()
        try:
            assert all(result.ok for result in results)
            alice.ack(ok)
            offer = await alice.expect("INVITE")
            assert codecs(offer.body) == ["8"]
            alice.answer(offer, 200, sdp=ALAW.replace("40200", "40000"))
            await alice.expect("ACK")
            await cancelled(bob, invite)
            await ended(alice, ok, bob, carol)
            await successor.idle()
        finally:
            successor.bury()

    scene: Scene = run
    play(scene)


def test_what_one_said_who_failed_since_is_not_said_otherwise_for_the_next_one() -> None:
    """Two groups of a dial string, one after the other, each with early media of its own."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
        rig.stage.register("1001", bob.contact)
        rig.stage.register("1002", carol.contact)
        alice.invite("7000", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 183, sdp=ULAW)
        first = await alice.expect(183)
        bob.answer(invite, 486)
        other = await carol.expect("INVITE")
        carol.answer(other, 183, sdp=ALAW)
        assert (await alice.expect(183)).body == first.body
        carol.answer(other, 200, sdp=ALAW)
        ok = await alice.expect(200)
        assert ok.body == first.body
        alice.ack(ok)
        offer = await alice.expect("INVITE")
        assert codecs(offer.body) == ["8"]
        alice.answer(offer, 200, sdp=ALAW.replace("40200", "40000"))
        await alice.expect("ACK")
        await ended(alice, ok, bob, carol)

    play(scene, extension("7000", ("bridge", "user/1001@pbx.test|user/1002@pbx.test")))
