"""What crosses on the wire: an end in the middle of an offer, an end where there is none yet, an answer to what was taken back."""

from __future__ import annotations

import pytest

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import play
from tests.node.calls.test_display import calling, over
from tests.support.sipmessage import Sip, parameter

HELD = OFFER + "a=sendonly\r\n"
UPDATES = [("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")]
GOES_ON = extension("7000", ("set", "hangup_after_bridge=false"), ("bridge", "user/1001@pbx.test"), ("echo", ""))


def of_callee(invite: Sip, callee: Peer) -> Sip:
    """What the callee's own requests in the dialog are made of, as from a 200 that it had received."""
    fields = [
        ("From", f"{invite.get('To')};tag={callee.tag}"),
        ("To", invite.get("From")),
        ("Call-ID", invite.call_id),
        ("Contact", invite.get("Contact")),
        ("CSeq", invite.get("CSeq")),
    ]
    return Sip("SIP/2.0 200 OK", fields)


async def going_on(rig: Rig, allow: list[tuple[str, str]]) -> tuple[Peer, Peer, Sip, Sip]:
    """Alice calls 7000, which calls Bob, and goes on with an echo when he has gone; her 200, and his side of the dialog."""
    alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
    rig.stage.register("1001", bob.contact)
    alice.invite("7000", "1000", sdp=OFFER, headers=allow)
    invite = await bob.expect("INVITE")
    bob.answer(invite, 200, sdp=OFFER)
    ok = await alice.expect(200)
    alice.ack(ok)
    await bob.expect("ACK")
    await until(lambda: all(leg.pending is None for leg in rig.live[0].legs))
    return alice, bob, ok, of_callee(invite, bob)


def acknowledge(peer: Peer, request: Sip, refusal: Sip) -> None:
    kept = [pair for pair in request.fields if pair[0] in ("Via", "Max-Forwards", "From", "Call-ID")]
    fields = [*kept, ("To", refusal.get("To")), ("CSeq", f"{refusal.cseq} ACK")]
    peer.send(Sip(request.start.replace("INVITE", "ACK", 1), fields))


@pytest.mark.parametrize("faster", [True, False])
def test_who_stays_is_free_when_its_partner_leaves_in_the_middle_of_a_reinvite(faster: bool) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, dialog = await going_on(rig, [])
        mine = bob.within(dialog, "INVITE", body=HELD, kind="application/sdp")
        offer = await alice.expect("INVITE")
        alice.answer(offer, 100)
        bye = bob.within(dialog, "BYE")
        refusal = await bob.expect(487)
        acknowledge(bob, mine, refusal)
        assert (await bob.expect(200)).cseq == bye.cseq
        cancel = await alice.expect("CANCEL")
        alice.answer(cancel, 200)
        if faster:
            alice.answer(offer, 200, sdp=OFFER + "a=recvonly\r\n")
        else:
            alice.answer(offer, 487)
        await alice.expect("ACK")
        await until(lambda: rig.live[0].legs[0].pending is None)
        again = alice.within(ok, "INVITE", body=OFFER, kind="application/sdp")
        answer = await alice.expect(200)
        assert answer.cseq == again.cseq
        alice.ack(answer)
        alice.bye(ok)
        await alice.expect(200)
        alice.close()
        bob.close()

    play(scene, GOES_ON)


def test_an_update_that_is_answered_when_its_author_has_gone_counts() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, dialog = await going_on(rig, UPDATES)
        bob.within(dialog, "UPDATE", body=HELD, kind="application/sdp")
        offer = await alice.expect("UPDATE")
        bob.within(dialog, "BYE")
        assert (await bob.expect(487)).method == "UPDATE"
        await bob.expect(200)
        alice.answer(offer, 200, sdp=OFFER + "a=recvonly\r\n")
        leg = rig.live[0].legs[0]
        await until(lambda: leg.media is not None and "a=sendonly" in leg.media.local_sdp)
        alice.bye(ok)
        await alice.expect(200)
        alice.close()
        bob.close()

    play(scene, GOES_ON)


def test_a_reinvite_that_was_taken_back_too_late_is_set_right() -> None:
    """Alice puts on hold, thinks better of it, and Bob's phone had accepted already: he is offered what counts again."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [], [])
        mine = alice.within(ok, "INVITE", body=HELD, kind="application/sdp")
        offer = await bob.expect("INVITE")
        assert "a=sendonly" in offer.body
        bob.answer(offer, 100)
        await until(lambda: rig.live[0].legs[1].transaction.state.name == "PROCEEDING")
        kept = [pair for pair in mine.fields if pair[0] in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
        alice.send(Sip(mine.start.replace("INVITE", "CANCEL", 1), [*kept, ("CSeq", f"{mine.cseq} CANCEL")]))
        acknowledge(alice, mine, await alice.expect(487))
        bob.answer(await bob.expect("CANCEL"), 200)
        bob.answer(offer, 200, sdp=OFFER + "a=recvonly\r\n")
        await bob.expect("ACK")
        again = await bob.expect("INVITE")
        assert "a=sendonly" not in again.body
        bob.answer(again, 200, sdp=OFFER)
        await bob.expect("ACK")
        await until(lambda: "align" not in rig.live[0].progress)
        await over(alice, ok, bob)

    play(scene)


def test_a_callee_that_rings_hangs_up_for_itself_only() -> None:
    """RFC 3261 15: it may not; but then one of several must not end the call for all."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
        rig.stage.register("1001", bob.contact)
        rig.stage.register("1001", carol.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite, other = await bob.expect("INVITE"), await carol.expect("INVITE")
        bob.answer(invite, 180)
        await alice.expect(180)
        bob.within(of_callee(invite, bob), "BYE")
        bob.answer(await bob.expect("CANCEL"), 200)
        bob.answer(invite, 487)
        await bob.expect("ACK")
        carol.answer(other, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await carol.expect("ACK")
        bob.close()
        await over(alice, ok, carol)

    play(scene)


def test_the_only_callee_that_hangs_up_while_it_rings_ends_the_call() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        await alice.expect(180)
        bye = bob.within(of_callee(invite, bob), "BYE")
        cancel = await bob.expect("CANCEL")
        assert (await bob.expect(200)).cseq == bye.cseq
        bob.answer(cancel, 200)
        bob.answer(invite, 487)
        await bob.expect("ACK")
        alice.acknowledge_refusal(await alice.expect(480))
        await rig.idle()
        alice.close()
        bob.close()

    play(scene)


def test_two_that_hang_up_at_once_both_hear_200() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        alice.bye(ok)
        bob.within(of_callee(invite, bob), "BYE")
        assert (await alice.expect(200)).method == "BYE"
        theirs = await bob.expect("BYE")
        assert parameter(theirs.get("To"), "tag") == bob.tag
        bob.answer(theirs, 200)
        assert (await bob.expect(200)).method == "BYE"
        await rig.idle()
        alice.close()
        bob.close()

    play(scene)


def test_an_answer_that_crosses_the_callers_cancel_is_acknowledged_and_hung_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        await alice.expect(180)
        alice.cancel()
        alice.acknowledge_refusal(await alice.expect(487))
        await bob.expect("CANCEL")
        bob.answer(invite, 200, sdp=OFFER)
        await bob.expect("ACK")
        bob.answer(await bob.expect("BYE"), 200)
        await rig.idle()
        assert not said(alice, "BYE")
        alice.close()
        bob.close()

    play(scene)
