"""Answers and their ACKs, offers within a call, and what else is sent in its dialogs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from node.sip.message import parse
from store.interface import Outcome
from store.records import CallRecord
from tests.node.calls.clock import leap
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, until
from tests.node.calls.scene import happens, play, talking


def test_hold_and_unhold_reach_the_other_side() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        rig.stream.want(["CHANNEL_HOLD", "CHANNEL_UNHOLD"])
        assert (await ours.reinvite("sendonly")).status == 200
        assert "a=sendonly" in theirs.remote_sdp
        assert rig.live[0].legs[0].callstate == "HELD"
        assert (await ours.reinvite("sendrecv")).status == 200
        assert "a=sendonly" not in theirs.remote_sdp
        assert rig.live[0].legs[0].callstate == "ACTIVE"
        assert [event.name for event in rig.events] == ["CHANNEL_HOLD", "CHANNEL_UNHOLD"]
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)


def test_both_sides_change_the_call_at_once_and_both_are_told_to_wait_their_turn() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        answers = await asyncio.gather(ours.reinvite("sendonly"), theirs.reinvite("sendonly"))
        assert sorted(answer.status for answer in answers) in ([200, 491], [491, 491])
        assert (await ours.reinvite("sendrecv")).status == 200
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)


def test_an_offer_may_come_from_the_callee_when_the_caller_makes_none() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp="")
        invite = await bob.expect("INVITE")
        assert not invite.body
        bob.answer(invite, 200, sdp=OFFER)
        ok = await peer.expect(200)
        assert "m=audio" in ok.body
        assert not said(bob, "ACK")
        peer.ack(ok, sdp=OFFER)
        ack = await bob.expect("ACK")
        assert "m=audio" in ack.body
        peer.bye(ok)
        bob.answer(await bob.expect("BYE"), 200)
        await peer.expect(200)
        peer.close()
        bob.close()

    play(scene)


def test_a_200_is_repeated_until_it_is_acknowledged() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await cast.phone("1001")
        peer.invite("1001", "1000", sdp=OFFER)
        theirs = await bob.answer_next()
        first = await peer.expect(200)
        again = await peer.expect(200)
        assert again.encode() == first.encode()
        peer.ack(first)
        await until(lambda: rig.live[0].legs[0].pending is None)
        peer.bye(first)
        await happens(theirs.ended)
        peer.close()

    play(scene)


def test_a_200_of_the_callee_that_comes_again_is_acknowledged_again() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        ours = await alice.call("1001")
        invite = await bob.expect("INVITE")
        ok = bob.answer(invite, 200, sdp=OFFER)
        await bob.expect("ACK")
        bob.send(ok)
        ack = await bob.expect("ACK")
        assert ack.cseq == invite.cseq
        bye = asyncio.create_task(ours.hangup())
        bob.answer(await bob.expect("BYE"), 200)
        await bye
        bob.close()

    play(scene)


def test_early_media_is_passed_on() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        ours = await alice.call("1001")
        invite = await bob.expect("INVITE")
        bob.answer(invite, 183, sdp=OFFER)
        await happens(ours.ringing)
        assert "m=audio" in ours.remote_sdp
        assert alice.statuses("INVITE") == [100, 183]
        bob.answer(invite, 200, sdp=OFFER)
        await happens(ours.answered)
        bye = asyncio.create_task(ours.hangup())
        await bob.expect("ACK")
        bob.answer(await bob.expect("BYE"), 200)
        await bye
        bob.close()

    play(scene)


def test_small_requests_in_a_dialog() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        ok = await peer.expect(200)
        peer.ack(ok)
        await bob.expect("ACK")
        peer.within(ok, "OPTIONS")
        await peer.expect(200)
        peer.within(ok, "INFO", body="Signal=5\r\nDuration=100\r\n", kind="application/dtmf-relay")
        info = await bob.expect("INFO")
        assert info.body == "Signal=5\r\nDuration=100\r\n"
        bob.answer(info, 200)
        await peer.expect(200)
        peer.within(ok, "PUBLISH")
        await peer.expect(405)
        peer.within(ok, "UPDATE")
        await peer.expect(200)
        peer.bye(ok)
        bob.answer(await bob.expect("BYE"), 200)
        await peer.expect(200)
        peer.close()
        bob.close()

    play(scene)


def test_a_reinvite_that_comes_before_the_ack_of_our_200_stands_for_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        ok = await peer.expect(200)
        await bob.expect("ACK")
        peer.within(ok, "INVITE", body=OFFER + "a=sendonly\r\n", kind="application/sdp")
        again = await bob.expect("INVITE")
        assert "a=sendonly" in again.body
        bob.answer(again, 200, sdp=OFFER + "a=recvonly\r\n")
        await bob.expect("ACK")
        while (held := await peer.expect(200)).cseq == ok.cseq:
            pass
        assert "a=recvonly" in held.body
        peer.ack(ok)
        peer.ack(held)
        await until(lambda: rig.live[0].legs[0].pending is None)
        peer.waiting.clear()
        await leap(2.0)
        assert not [message for message in peer.waiting if message.status == 200], "neither 200 is repeated"
        peer.bye(ok)
        bob.answer(await bob.expect("BYE"), 200)
        await peer.expect(200)
        peer.close()
        bob.close()

    play(scene)


def test_a_second_invite_while_the_first_is_unanswered_is_told_to_wait() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        first = peer.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await peer.expect(180)
        peer.within(ringing, "INVITE", body=OFFER, kind="application/sdp")
        refusal = await peer.expect(500)
        assert 0 <= int(refusal.get("Retry-After")) <= 10
        bob.answer(invite, 486)
        await bob.expect("ACK")
        final = await peer.expect(486)
        assert final.cseq == first.cseq
        peer.acknowledge_refusal(final)
        peer.close()
        bob.close()

    play(scene)


def test_a_reinvite_leaves_when_it_is_on_record() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        put, waiting = rig.tap.put, []

        def slowly(record: CallRecord, then: Callable[[Outcome], None] | None = None) -> None:
            waiting.append((record, then))

        rig.tap.put = slowly  # type: ignore[method-assign]
        answer = asyncio.create_task(ours.reinvite("sendonly"))
        await until(lambda: waiting)
        pending = waiting[0][0].legs[1].invite
        assert pending is not None
        written = parse(pending.request)
        assert not theirs.reinvited
        rig.tap.put = put  # type: ignore[method-assign]
        for record, then in waiting:
            rig.tap.put(record, then)
        assert (await answer).status == 200
        reinvite = [message for _at, message in theirs.phone.seen if message.method == "INVITE"][-1]
        assert reinvite.encode() == written.encode()
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)
