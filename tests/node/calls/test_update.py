"""UPDATE (RFC 3311), before the answer and after it."""

from __future__ import annotations

import secrets

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import play
from tests.node.calls.test_reliable import KNOWS, end, provisionals, rack, refuse, reliable, reliably, two
from tests.support.sipmessage import Sip, uri_of

ALLOW = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")
HELD = OFFER + "a=sendonly\r\n"
SDP = "application/sdp"


def from_callee(peer: Peer, invite: Sip, method: str, body: str = "") -> Sip:
    """A request of the callee's in the dialog that its responses to this INVITE made."""
    peer.cseq += 1
    fields = [
        ("Via", f"SIP/2.0/UDP 127.0.0.1:{peer.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"),
        ("Max-Forwards", "70"),
        ("From", f"{invite.get('To')};tag={peer.tag}"),
        ("To", invite.get("From")),
        ("Call-ID", invite.call_id),
        ("CSeq", f"{peer.cseq} {method}"),
        ("Contact", f"<{peer.contact}>"),
        *([("Content-Type", SDP)] if body else []),
    ]
    request = Sip(f"{method} {uri_of(invite.get('Contact'))} SIP/2.0", fields, body)
    peer.send(request)
    return request


async def talking(rig: Rig, *headers: tuple[str, str]) -> tuple[Peer, Peer, Sip, Sip]:
    """Caller, callee, the caller's 200, the callee's INVITE."""
    alice, bob = await two(rig)
    alice.invite("1001", "1000", sdp=OFFER, headers=[ALLOW])
    invite = await bob.expect("INVITE")
    bob.answer(invite, 200, sdp=OFFER, headers=list(headers))
    ok = await alice.expect(200)
    alice.ack(ok)
    await bob.expect("ACK")
    await until(lambda: rig.live[0].legs[0].pending is None)
    return alice, bob, ok, invite


# ---- before the answer -------------------------------------------------------------------------------------------------


def test_a_caller_may_offer_anew_when_its_first_offer_is_answered_and_acknowledged() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        alice.within(ringing, "UPDATE", body=HELD, kind=SDP)
        early = await alice.expect(500)
        assert 0 <= int(early.get("Retry-After")) <= 10
        alice.within(ringing, "PRACK", headers=rack(ringing))
        await alice.expect(200)
        alice.within(ringing, "UPDATE", body=HELD, kind=SDP)
        await alice.expect(500)
        bob.answer(invite, 183, sdp=OFFER)
        media = await alice.expect(183)
        alice.within(media, "UPDATE", body=HELD, kind=SDP)
        await alice.expect(500)
        alice.within(media, "PRACK", headers=rack(media))
        await alice.expect(200)
        alice.within(media, "UPDATE", body=HELD.replace("40000", "40020"), kind=SDP)
        ok = await alice.expect(200)
        assert ok.method == "UPDATE"
        assert "a=recvonly" in ok.body
        assert ok.get("Contact")
        described = rig.live[0].legs[0].media
        assert described is not None
        assert described.remote_port == 40020
        assert not said(bob, "UPDATE"), "whoever rings is asked for nothing"
        await refuse(alice, bob, invite)

    reliably(scene)


def test_an_update_that_meets_our_unanswered_offer_is_told_to_wait() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await Peer.open(rig.stage.internal)
        alice.invite("7000", "1000", sdp="", headers=KNOWS)
        early = await alice.expect(183)
        alice.within(early, "UPDATE", body=OFFER, kind=SDP)
        assert (await alice.expect(491)).method == "UPDATE"
        alice.within(early, "PRACK", headers=rack(early), body=OFFER, kind=SDP)
        await alice.expect(200)
        alice.within(early, "UPDATE", body=HELD, kind=SDP)
        assert "a=recvonly" in (await alice.expect(200)).body
        alice.acknowledge_refusal(await alice.expect(486))
        alice.close()

    steps = (("pre_answer", ""), ("sleep", "700"), ("hangup", "USER_BUSY"))
    reliably(scene, extension("7000", *steps))


def test_a_callee_may_offer_anew_on_each_early_dialog_that_has_its_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180, headers=reliable(1))
        bob.answer(await bob.expect("PRACK"), 200)
        from_callee(bob, invite, "UPDATE", HELD)
        assert (await bob.expect(491)).method == "UPDATE"
        bob.answer(invite, 183, sdp=OFFER, headers=reliable(2))
        bob.answer(await bob.expect("PRACK"), 200)
        from_callee(bob, invite, "UPDATE", HELD)
        ok = await bob.expect(200)
        assert "a=recvonly" in ok.body
        first, bob.tag, bob.cseq = bob.tag, "other", 0
        bob.answer(invite, 180, headers=reliable(70))
        bob.answer(await bob.expect("PRACK"), 200)
        from_callee(bob, invite, "UPDATE", HELD)
        assert (await bob.expect(491)).cseq == 1, "its CSeq is counted by dialog"
        bob.tag = first
        await refuse(alice, bob, invite)

    reliably(scene)


def test_an_update_without_an_offer_moves_the_target_of_an_early_dialog() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        elsewhere = await Peer.open(rig.stage.internal)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180, headers=reliable(1))
        bob.answer(await bob.expect("PRACK"), 200)
        bob.contact = elsewhere.contact
        from_callee(bob, invite, "UPDATE")
        await bob.expect(200)
        bob.answer(invite, 180, headers=reliable(2))
        prack = await elsewhere.expect("PRACK")
        assert prack.start == f"PRACK {elsewhere.contact} SIP/2.0"
        elsewhere.answer(prack, 200)
        ringing = await alice.expect(180)
        alice.within(ringing, "PRACK", headers=rack(ringing))
        await alice.expect(200)
        alice.contact = f"sip:moved@127.0.0.1:{alice.port}"
        alice.within(ringing, "UPDATE")
        await alice.expect(200)
        bob.answer(invite, 200, sdp=OFFER)
        alice.ack(await alice.expect(200))
        await elsewhere.expect("ACK")
        from_callee(bob, invite, "BYE")
        bye = await alice.expect("BYE")
        assert bye.start == f"BYE {alice.contact} SIP/2.0"
        alice.answer(bye, 200)
        await bob.expect(200)
        for peer in (alice, bob, elsewhere):
            peer.close()

    reliably(scene)


# ---- in the call -------------------------------------------------------------------------------------------------------


def test_an_offer_by_update_is_passed_on_by_update_where_the_other_side_allows_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, _invite = await talking(rig, ALLOW)
        alice.within(ok, "UPDATE", body=HELD, kind=SDP)
        update = await bob.expect("UPDATE")
        assert "a=sendonly" in update.body
        bob.answer(update, 200, sdp=OFFER + "a=recvonly\r\n")
        answer = await alice.expect(200)
        assert answer.method == "UPDATE"
        assert "a=recvonly" in answer.body
        await end(alice, bob, ok)

    play(scene)


def test_an_offer_by_update_is_passed_on_by_reinvite_where_it_does_not() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, invite = await talking(rig)
        alice.within(ok, "UPDATE", body=HELD, kind=SDP)
        again = await bob.expect("INVITE")
        assert again.cseq > invite.cseq
        assert "a=sendonly" in again.body
        bob.answer(again, 488)
        await bob.expect("ACK")
        assert (await alice.expect(488)).method == "UPDATE"
        await end(alice, bob, ok)

    play(scene)


def test_updates_that_meet_are_both_told_to_wait() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, invite = await talking(rig, ALLOW)
        alice.within(ok, "UPDATE", body=HELD, kind=SDP)
        ours = await bob.expect("UPDATE")
        from_callee(bob, invite, "UPDATE", HELD)
        assert (await bob.expect(491)).method == "UPDATE"
        alice.within(ok, "UPDATE", body=HELD, kind=SDP)
        again = await alice.expect(500)
        assert 0 <= int(again.get("Retry-After")) <= 10
        bob.answer(ours, 200, sdp=OFFER)
        assert (await alice.expect(200)).method == "UPDATE"
        await end(alice, bob, ok)

    play(scene)


def test_an_update_does_not_wait_for_an_ack_that_is_late() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER, headers=[ALLOW])
        ok = await alice.expect(200)
        await bob.expect("ACK")
        alice.within(ok, "UPDATE", body=HELD, kind=SDP)
        bob.answer(await bob.expect("UPDATE"), 200, sdp=OFFER)
        while (answer := await alice.expect(200)).method != "UPDATE":
            pass
        assert "m=audio" in answer.body
        alice.ack(ok)
        await until(lambda: rig.live[0].legs[0].pending is None)
        await end(alice, bob, ok)

    play(scene)


def test_what_an_update_may_not_hold_and_where_there_is_none() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, _invite = await talking(rig)
        alice.within(ok, "UPDATE", body="hello", kind="text/plain")
        refusal = await alice.expect(415)
        assert refusal.get("Accept") == SDP
        await end(alice, bob, ok)

    play(scene)

    async def without(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, invite = await talking(rig)
        assert "UPDATE" not in invite.get("Allow")
        alice.within(ok, "UPDATE")
        refusal = await alice.expect(405)
        assert "UPDATE" not in refusal.get("Allow")
        await end(alice, bob, ok)

    play(without, params={"allow-update": "false"})


def test_who_moves_by_reinvite_or_update_is_found_where_it_went() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, invite = await talking(rig)
        there, beyond = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        bob.contact = there.contact
        from_callee(bob, invite, "UPDATE")
        await bob.expect(200)
        alice.within(ok, "INFO", body="x", kind="text/plain")
        info = await there.expect("INFO")
        assert info.start == f"INFO {there.contact} SIP/2.0"
        there.answer(info, 200)
        await alice.expect(200)
        alice.contact = beyond.contact
        alice.within(ok, "INVITE", body=OFFER, kind=SDP)
        again = await there.expect("INVITE")
        there.tag = bob.tag
        there.answer(again, 200, sdp=OFFER)
        alice.ack(await alice.expect(200))
        await there.expect("ACK")
        from_callee(bob, invite, "BYE")
        beyond.answer(await beyond.expect("BYE"), 200)
        await bob.expect(200)
        for peer in (alice, bob, there, beyond):
            peer.close()

    play(scene)


def test_a_late_early_response_changes_nothing_after_the_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        bob.answer(invite, 180, headers=reliable(1))
        alice.within(ok, "OPTIONS")
        await alice.expect(200)
        assert not provisionals(alice)
        assert not said(bob, "PRACK")
        await end(alice, bob, ok)

    reliably(scene)
