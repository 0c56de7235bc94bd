"""A ringing call is picked up by who offers nothing, or where the caller has offered nothing: offers in 200s, answers in ACKs."""

from __future__ import annotations

import pytest

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, until
from tests.node.calls.scene import play
from tests.node.calls.test_forks import ALAW, ULAW, cancelled, codecs
from tests.support.sipmessage import Sip, parameter


async def ringing(rig: Rig, *, offer: str, early: str = "") -> tuple[Peer, Peer, Peer, Sip, Sip]:
    """Alice calls 1001, where Bob's phone rings, perhaps with early media; and Carol."""
    alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
    rig.stage.register("1001", bob.contact)
    alice.invite("1001", "1000", sdp=offer)
    invite = await bob.expect("INVITE")
    bob.answer(invite, 183 if early else 180, sdp=early)
    await alice.expect(183 if early else 180)
    return alice, bob, carol, invite, Sip("", [("Replaces", named(invite, bob))])


def named(invite: Sip, callee: Peer) -> str:
    """The callee's early dialog, as the node sees it."""
    ours = parameter(invite.get("From"), "tag")
    return f"{invite.call_id};to-tag={ours};from-tag={callee.tag};early-only"


async def over(alice: Peer, ok: Sip, *others: Peer) -> None:
    alice.bye(ok)
    others[-1].answer(await others[-1].expect("BYE"), 200)
    await alice.expect(200)
    for peer in (alice, *others):
        peer.close()


def picks_up(carol: Peer, wanted: Sip, sdp: str = "") -> None:
    carol.invite("1001", "1002", sdp=sdp, headers=wanted.fields)


def test_who_picks_up_without_an_offer_is_made_one_and_the_caller_hears_its_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer=OFFER)
        picks_up(carol, wanted)
        theirs = await carol.expect(200)
        assert codecs(theirs.body) == ["0", "8", "101"]
        await cancelled(bob, invite)
        assert not any(message.status == 200 for message in alice.waiting), "the caller waits for the answer"
        carol.ack(theirs, ALAW)
        ok = await alice.expect(200)
        assert codecs(ok.body) == ["8"]
        alice.ack(ok)
        media = [leg.media for leg in rig.live[0].bridged]
        assert [each.remote_port for each in media if each] == [40000, 40200]
        await until(lambda: "align" not in rig.live[0].progress)
        await over(alice, ok, bob, carol)

    play(scene)


def test_a_caller_without_an_offer_is_made_the_one_of_who_picks_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer="")
        picks_up(carol, wanted, OFFER)
        ok = await alice.expect(200)
        assert codecs(ok.body) == ["0", "8", "101"]
        await cancelled(bob, invite)
        assert not said(carol, "INVITE")
        assert not any(message.status == 200 for message in carol.waiting)
        alice.ack(ok, ULAW)
        theirs = await carol.expect(200)
        assert codecs(theirs.body) == ["0"]
        carol.ack(theirs)
        await until(lambda: "align" not in rig.live[0].progress)
        await over(alice, ok, bob, carol)

    play(scene)


def test_two_that_offer_nothing_are_each_made_an_offer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer="")
        picks_up(carol, wanted)
        ok = await alice.expect(200)
        assert codecs(ok.body)[:2] == ["0", "8"]
        await cancelled(bob, invite)
        alice.ack(ok, ALAW)
        theirs = await carol.expect(200)
        assert codecs(theirs.body) == ["8"]
        carol.ack(theirs, ALAW.replace("40200", "40300"))
        await until(lambda: "align" not in rig.live[0].progress)
        media = [leg.media for leg in rig.live[0].bridged]
        assert [each.remote_port for each in media if each] == [40200, 40300]
        assert not said(alice, "INVITE")
        await over(alice, ok, bob, carol)

    play(scene)


@pytest.mark.parametrize("offer", ["", OFFER])
def test_a_caller_that_heard_early_media_keeps_what_it_was_told_then(offer: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer=OFFER, early=ULAW)
        picks_up(carol, wanted, offer)
        theirs = await carol.expect(200)
        assert codecs(theirs.body)[0] == "0"
        await cancelled(bob, invite)
        carol.ack(theirs, "" if offer else ULAW.replace("40100", "40300"))
        ok = await alice.expect(200)
        assert codecs(ok.body) == ["0"]
        alice.ack(ok)
        await until(lambda: "align" not in rig.live[0].progress)
        assert not said(alice, "INVITE")
        await over(alice, ok, bob, carol)

    play(scene)


def test_an_answer_in_the_ack_that_is_none_ends_both() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer=OFFER)
        picks_up(carol, wanted)
        theirs = await carol.expect(200)
        await cancelled(bob, invite)
        carol.ack(theirs)
        alice.acknowledge_refusal(await alice.expect(488))
        carol.answer(await carol.expect("BYE"), 200)
        await rig.idle()
        for peer in (alice, bob, carol):
            peer.close()

    play(scene)


def test_a_caller_that_gives_up_meanwhile_ends_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer=OFFER)
        picks_up(carol, wanted)
        theirs = await carol.expect(200)
        await cancelled(bob, invite)
        alice.cancel()
        alice.acknowledge_refusal(await alice.expect(487))
        assert not said(carol, "BYE"), "no BYE before the ACK (RFC 3261 15)"
        carol.ack(theirs, ULAW)
        carol.answer(await carol.expect("BYE"), 200)
        await rig.idle()
        for peer in (alice, bob, carol):
            peer.close()

    play(scene)


def test_who_picks_up_and_gives_up_before_the_callers_answer_ends_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer="")
        picks_up(carol, wanted, OFFER)
        ok = await alice.expect(200)
        await cancelled(bob, invite)
        carol.cancel()
        carol.acknowledge_refusal(await carol.expect(487))
        alice.ack(ok, ULAW)
        alice.answer(await alice.expect("BYE"), 200)
        await rig.idle()
        for peer in (alice, bob, carol):
            peer.close()

    play(scene)


@pytest.mark.parametrize(("offer", "own"), [(OFFER, ""), ("", OFFER), ("", "")])
def test_a_successor_awaits_the_answer_in_the_ack(offer: str, own: str) -> None:
    """The node dies when the first 200 is out; the second one comes from its successor, each phone hearing of it once."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol, invite, wanted = await ringing(rig, offer=offer)
        picks_up(carol, wanted, own)
        first, second = (carol, alice) if offer else (alice, carol)
        one = await first.expect(200)
        await cancelled(bob, invite)
        successor, results = rig.succeed()
        try:
            assert all(result.ok for result in results)
            first.ack(one, ULAW)
            two = await second.expect(200)
            second.ack(two, "" if offer or own else ULAW.replace("40100", "40300"))
            await until(lambda: successor.live and "align" not in successor.live[0].progress)
            ok = one if first is alice else two
            await over(alice, ok, bob, carol)
            await successor.idle()
        finally:
            successor.bury()

    play(scene)
