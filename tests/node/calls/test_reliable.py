"""Reliable provisional responses (RFC 3262), to callers and from callees."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.calls.clock import leap
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import Scene, play
from tests.support.sipmessage import Sip

RELIABLE = {"enable-100rel": "true"}
KNOWS = [("Supported", "100rel, timer")]
INSISTS = [("Require", "100rel")]


def reliably(scene: Scene, extensions: str = "") -> None:
    play(scene, extensions, params=RELIABLE)


async def two(rig: Rig) -> tuple[Peer, Peer]:
    """A caller, and 1001."""
    alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
    rig.stage.register("1001", bob.contact)
    return alice, bob


def rack(response: Sip) -> list[tuple[str, str]]:
    return [("RAck", f"{response.get('RSeq')} {response.cseq} INVITE")]


def reliable(number: int) -> list[tuple[str, str]]:
    return [("Require", "100rel"), ("RSeq", str(number))]


def provisionals(peer: Peer, status: int = 180) -> list[Sip]:
    return [message for message in peer.waiting if message.status == status]


async def end(alice: Peer, bob: Peer, ok: Sip) -> None:
    """Alice hangs up."""
    alice.bye(ok)
    bob.answer(await bob.expect("BYE"), 200)
    await alice.expect(200)
    alice.close()
    bob.close()


async def refuse(alice: Peer, bob: Peer, invite: Sip) -> None:
    """Bob is busy."""
    bob.answer(invite, 486)
    await bob.expect("ACK")
    alice.acknowledge_refusal(await alice.expect(486))
    alice.close()
    bob.close()


# ---- told to a caller ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [KNOWS, INSISTS])
def test_ringing_is_told_reliably_to_who_knows_how_to_acknowledge_it(headers: list[tuple[str, str]]) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=headers)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        assert ringing.get("Require") == "100rel"
        assert 1 <= int(ringing.get("RSeq")) < 2**31
        alice.within(ringing, "PRACK", headers=rack(ringing))
        assert (await alice.expect(200)).method == "PRACK"
        assert rig.live[0].legs[0].repeat is None
        await refuse(alice, bob, invite)

    reliably(scene)


def test_who_does_not_know_of_100rel_is_told_as_ever() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        assert invite.get("Supported").startswith("100rel, ")
        assert "PRACK" in invite.get("Allow")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        assert not ringing.get("Require")
        assert not ringing.get("RSeq")
        await refuse(alice, bob, invite)

    reliably(scene)


def test_a_reliable_response_is_repeated_until_the_invite_is_refused_for_want_of_a_prack() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        bob.answer(await bob.expect("INVITE"), 180)
        await until(lambda: provisionals(alice))
        begun, counts = asyncio.get_running_loop().time(), []
        for moment in (0.3, 1.2, 3.0, 7.0, 15.0, 31.0):
            await leap(begun + moment - asyncio.get_running_loop().time(), 0.05)
            counts.append(len(provisionals(alice)))
        assert counts == [1, 2, 3, 4, 5, 6], "at 0, 0.5, 1.5, 3.5, 7.5 and 15.5 seconds, and once more at 31.5"
        assert len({ringing.encode() for ringing in provisionals(alice)}) == 1
        await leap(2.0)
        refusal = await alice.expect(504)
        assert refusal.start == "SIP/2.0 504 Reliable Response Time-out"
        alice.acknowledge_refusal(refusal)
        cancelled = await bob.expect("CANCEL")
        bob.answer(cancelled, 200)
        bob.answer(Sip.parse(cancelled.encode().replace(b" CANCEL", b" INVITE")), 487)
        await bob.expect("ACK")
        alice.close()
        bob.close()

    reliably(scene)


def test_a_successor_goes_on_repeating_what_was_not_acknowledged() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        await until(lambda: provisionals(alice))
        successor, _results = rig.succeed()
        await leap(1.7, 0.05)
        repeated = provisionals(alice)
        assert len(repeated) >= 4, "once by the first, then at once, after 0.5 and after 1.5 seconds"
        assert len({ringing.encode() for ringing in repeated}) == 1
        alice.within(repeated[0], "PRACK", headers=rack(repeated[0]))
        assert (await alice.expect(200)).method == "PRACK"
        await leap(4.0)
        assert not provisionals(alice)
        await refuse(alice, bob, invite)
        await successor.idle()
        successor.bury()

    reliably(scene)


def test_a_successor_answers_the_prack_of_a_response_after_which_the_next_went_out() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        bob.answer(invite, 183, sdp=OFFER)
        await until(lambda: rig.live[0].legs[0].state == "early")
        prack = alice.within(ringing, "PRACK", headers=rack(ringing))
        await alice.expect(200)
        early = await alice.expect(183)
        successor, _results = rig.succeed()
        alice.send(prack)
        assert (await alice.expect(200)).method == "PRACK", "its 200 may have been lost"
        alice.within(early, "PRACK", headers=rack(early))
        assert (await alice.expect(200)).method == "PRACK"
        await refuse(alice, bob, invite)
        await successor.idle()
        successor.bury()

    reliably(scene)


def test_a_prack_of_anything_else_is_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        rseq, cseq = int(ringing.get("RSeq")), ringing.cseq
        for wrong in (f"{rseq + 1} {cseq} INVITE", f"{rseq} {cseq + 1} INVITE", f"{rseq} {cseq} BYE", "nonsense", ""):
            alice.within(ringing, "PRACK", headers=[("RAck", wrong)])
            assert (await alice.expect(481)).method == "PRACK"
        alice.within(ringing, "PRACK", headers=rack(ringing))
        assert (await alice.expect(200)).method == "PRACK"
        alice.within(ringing, "PRACK", headers=rack(ringing))
        assert (await alice.expect(481)).method == "PRACK"
        await refuse(alice, bob, invite)

    reliably(scene)


def test_a_second_response_waits_for_the_prack_of_the_first() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        bob.answer(invite, 183, sdp=OFFER)
        await until(lambda: rig.live[0].legs[0].state == "early")
        assert not provisionals(alice, 183)
        alice.within(ringing, "PRACK", headers=rack(ringing))
        early = await alice.expect(183)
        assert "m=audio" in early.body
        assert int(early.get("RSeq")) == int(ringing.get("RSeq")) + 1
        alice.within(early, "PRACK", headers=rack(early))
        await alice.expect(200)
        await refuse(alice, bob, invite)

    reliably(scene)


def test_the_answer_waits_for_the_prack_of_early_media_and_holds_no_second_one() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 183, sdp=OFFER)
        early = await alice.expect(183)
        bob.answer(invite, 200, sdp=OFFER)
        await until(lambda: rig.live[0].bridged)
        assert not provisionals(alice, 200)
        assert not said(bob, "ACK")
        alice.within(early, "PRACK", headers=rack(early))
        assert (await alice.expect(200)).method == "PRACK"
        ok = await alice.expect(200)
        assert ok.method == "INVITE"
        assert not ok.body
        alice.ack(ok)
        await bob.expect("ACK")
        await end(alice, bob, ok)

    reliably(scene)


def test_the_answer_does_not_wait_for_the_prack_of_mere_ringing() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        assert "m=audio" in ok.body
        alice.within(ringing, "PRACK", headers=rack(ringing))
        alice.ack(ok)
        prack = await alice.expect(200)
        assert prack.method == "PRACK" or (await alice.expect(200)).method == "PRACK"
        await bob.expect("ACK")
        await end(alice, bob, ok)

    reliably(scene)


def test_a_caller_gives_up_before_it_acknowledged_the_ringing() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        invite = alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        theirs = await bob.expect("INVITE")
        bob.answer(theirs, 183, sdp=OFFER)
        await alice.expect(183)
        fields = [pair for pair in invite.fields if pair[0] in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
        alice.send(Sip(f"CANCEL {invite.start.split()[1]} SIP/2.0", [*fields, ("CSeq", f"{invite.cseq} CANCEL")]))
        alice.acknowledge_refusal(await alice.expect(487))
        bob.answer(await bob.expect("CANCEL"), 200)
        bob.answer(theirs, 487)
        await bob.expect("ACK")
        alice.close()
        bob.close()

    reliably(scene)


def test_an_offer_in_a_prack_is_answered_in_its_200() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 183, sdp=OFFER)
        early = await alice.expect(183)
        offer = OFFER.replace("40000", "40010") + "a=sendonly\r\n"
        alice.within(early, "PRACK", headers=rack(early), body=offer, kind="application/sdp")
        ok = await alice.expect(200)
        assert ok.method == "PRACK"
        assert "a=recvonly" in ok.body
        media = rig.live[0].legs[0].media
        assert media is not None
        assert media.remote_port == 40010
        await refuse(alice, bob, invite)

    reliably(scene)


def test_a_caller_without_an_offer_gets_ours_reliably_and_answers_in_its_prack() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp="", headers=KNOWS)
        invite = await bob.expect("INVITE")
        assert not invite.body
        bob.answer(invite, 180)
        plain = await alice.expect(180)
        assert not plain.get("RSeq"), "the first reliable response must hold the offer (RFC 3261 13.2.1)"
        bob.answer(invite, 183, sdp=OFFER, headers=reliable(7))
        prack = await bob.expect("PRACK")
        assert prack.get("RAck") == f"7 {invite.cseq} INVITE"
        assert "m=audio" in prack.body, "the callee's offer is answered at once"
        bob.answer(prack, 200)
        early = await alice.expect(183)
        assert "m=audio" in early.body
        bob.answer(invite, 200)
        await until(lambda: rig.live[0].bridged)
        alice.within(early, "PRACK", headers=rack(early), body=OFFER, kind="application/sdp")
        assert (await alice.expect(200)).method == "PRACK"
        ok = await alice.expect(200)
        assert not ok.body
        alice.ack(ok)
        ack = await bob.expect("ACK")
        assert not ack.body
        await end(alice, bob, ok)

    reliably(scene)


def test_an_application_offers_early_and_plays_when_the_prack_has_answered() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await Peer.open(rig.stage.internal)
        alice.invite("7000", "1000", sdp="", headers=INSISTS)
        early = await alice.expect(183)
        assert "m=audio" in early.body
        alice.within(early, "PRACK", headers=rack(early), body=OFFER, kind="application/sdp")
        assert (await alice.expect(200)).method == "PRACK"
        refusal = await alice.expect(486)
        alice.acknowledge_refusal(refusal)
        alice.close()

    steps = (("pre_answer", ""), ("playback", "tone_stream://%(40,0,400)"), ("hangup", "USER_BUSY"))
    reliably(scene, extension("7000", *steps))


# ---- told by a callee ------------------------------------------------------------------------------------------------


def test_a_callees_reliable_responses_are_acknowledged_once_and_in_order() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180, headers=reliable(100))
        first = await bob.expect("PRACK")
        assert first.start == f"PRACK {bob.contact} SIP/2.0"
        assert first.get("RAck") == f"100 {invite.cseq} INVITE"
        assert first.cseq == invite.cseq + 1
        bob.answer(first, 200)
        await alice.expect(180)
        bob.answer(invite, 180, headers=reliable(100))
        bob.answer(invite, 183, headers=reliable(102), sdp=OFFER)
        bob.answer(invite, 183, headers=reliable(101), sdp=OFFER)
        second = await bob.expect("PRACK")
        assert second.get("RAck") == f"101 {invite.cseq} INVITE"
        bob.answer(second, 200)
        await alice.expect(183)
        bob.answer(invite, 183, headers=reliable(102), sdp=OFFER)
        third = await bob.expect("PRACK")
        assert third.get("RAck") == f"102 {invite.cseq} INVITE"
        bob.answer(third, 200)
        assert not said(bob, "PRACK")
        await refuse(alice, bob, invite)

    reliably(scene)


def test_each_branch_behind_a_forking_proxy_is_a_dialog_of_its_own() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        first, second = bob.tag, "other"
        bob.answer(invite, 180, headers=reliable(5))
        one = await bob.expect("PRACK")
        bob.answer(one, 200)
        bob.tag = second
        bob.answer(invite, 180, headers=reliable(900))
        other = await bob.expect("PRACK")
        bob.answer(other, 200)
        assert one.get("To").endswith(f"tag={first}")
        assert other.get("To").endswith(f"tag={second}")
        assert [one.get("RAck"), other.get("RAck")] == [f"5 {invite.cseq} INVITE", f"900 {invite.cseq} INVITE"]
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        alice.bye(ok)
        bye = await bob.expect("BYE")
        assert bye.get("To").endswith(f"tag={second}")
        assert bye.cseq == other.cseq + 1
        bob.answer(bye, 200)
        await alice.expect(200)
        alice.close()
        bob.close()

    reliably(scene)


def test_a_prack_goes_the_way_of_the_record_route() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        proxy = await Peer.open(rig.stage.internal)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        route = ("Record-Route", f"<sip:127.0.0.1:{proxy.port};lr>")
        bob.answer(invite, 180, headers=[*reliable(1), route])
        prack = await proxy.expect("PRACK")
        assert prack.get("Route") == route[1]
        assert prack.start == f"PRACK {bob.contact} SIP/2.0"
        proxy.answer(prack, 200)
        await refuse(alice, bob, invite)
        proxy.close()

    reliably(scene)


def test_without_enable_100rel_nothing_of_it_is_offered_or_done() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await two(rig)
        alice.invite("1001", "1000", sdp=OFFER, headers=INSISTS)
        refusal = await alice.expect(420)
        assert refusal.get("Unsupported") == "100rel"
        alice.acknowledge_refusal(refusal)
        alice.invite("1001", "1000", sdp=OFFER, headers=KNOWS)
        invite = await bob.expect("INVITE")
        assert "100rel" not in invite.get("Supported")
        assert "PRACK" not in invite.get("Allow")
        bob.answer(invite, 180, headers=reliable(1))
        ringing = await alice.expect(180)
        assert not ringing.get("RSeq")
        assert not said(bob, "PRACK")
        alice.within(ringing, "PRACK", headers=[("RAck", f"1 {ringing.cseq} INVITE")])
        assert (await alice.expect(481)).method == "PRACK"
        await refuse(alice, bob, invite)

    play(scene)


def test_a_loser_of_a_fork_gives_its_media_port_back_when_it_is_cancelled() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await Peer.open(rig.stage.internal) for _ in range(3)]
        rig.stage.register("1001", bob.contact)
        rig.stage.register("1001", carol.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite, other = await asyncio.gather(bob.expect("INVITE"), carol.expect("INVITE"))
        carol.answer(other, 180)
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        await carol.expect("CANCEL")
        assert len(rig.media._relay._legs) == 2, "it has no final answer yet, and no port any more"
        carol.answer(other, 200, sdp=OFFER)
        await carol.expect("ACK")
        carol.answer(await carol.expect("BYE"), 200)
        await end(alice, bob, ok)
        carol.close()

    play(scene)
