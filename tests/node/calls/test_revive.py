"""What a successor makes of records: several times over, with re-INVITEs, and with what does not come back."""

from __future__ import annotations

import asyncio
import gc
import weakref

from node.calls.ledger import Result
from tests.node.calls.crash import check_cseq
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, node, stage, until
from tests.support.phone import Line

WITHIN = 15.0


async def talking(rig: Rig, cast: Cast) -> tuple[Line, Line]:
    alice, bob = await cast.phone("1000"), await cast.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.answer_next()
    await asyncio.wait_for(ours.answered.wait(), WITHIN)
    await until(lambda: rig.live[0].legs[0].pending is None)
    return ours, theirs


def test_three_successors_in_a_row_reinvite_and_no_cseq_goes_backwards() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            for turn in range(1, 4):
                rig, results = rig.succeed("always")
                assert [result.cause for result in results] == ["revived", "revived"]
                await until(lambda turn=turn: ours.reinvited == turn and theirs.reinvited == turn, WITHIN)  # type: ignore[misc]
                current = rig
                await until(lambda current=current: all(leg.pending is None for leg in current.live[0].legs))  # type: ignore[misc]
            assert (await ours.hangup()).status == 200
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await rig.idle()
            for phone in cast.phones:
                check_cseq(phone)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_audio_goes_on_while_a_successor_takes_over() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            assert ours.audio
            assert theirs.audio
            await theirs.audio.heard(10, WITHIN)
            rig, _results = rig.succeed()
            await theirs.audio.heard(20, WITHIN)
            await ours.audio.heard(5, WITHIN)
            assert theirs.audio.longest_gap() < 0.25
            assert theirs.audio.missing() == 0
            assert not ours.reinvited
            assert (await theirs.hangup()).status == 200
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_a_leg_that_knows_the_call_no_more_is_given_up_and_the_other_one_ended() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await cast.phone("1000"), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            ours = await alice.call("1001")
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].legs[0].pending is None)
            records = rig.stored()
            rig.bury()
            rig = Rig(made, "two", 2)
            final: list[Result] = []
            rig.stream.want(["sofia::recovery_recv", "sofia::recovery_send"])
            rig.switchboard.revive(records, reinvite="always", then=final.extend)
            invite = await bob.expect("INVITE")
            await until(lambda: ours.reinvited and rig.live[0].legs[0].pending is None)
            bob.answer(invite, 481)
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await until(lambda: final)
            outcome = {result.uuid: (result.ok, result.cause) for result in final}
            assert sorted(outcome.values()) == [(False, "481"), (False, "the other side is lost")]
            assert {event.subclass for event in rig.events} == {"sofia::recovery_recv", "sofia::recovery_send"}
            await cast.close()
            bob.close()
            rig.bury()

    asyncio.run(play())


def test_a_revived_leg_that_is_busy_with_an_offer_of_its_own_is_asked_again() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await cast.phone("1000"), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            ours = await alice.call("1001")
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].legs[0].pending is None)
            rig, _results = rig.succeed("always")
            first = await bob.expect("INVITE")
            bob.answer(first, 491)
            await bob.expect("ACK")
            again = await bob.expect("INVITE")
            assert again.cseq > first.cseq
            bob.answer(again, 200, sdp=OFFER)
            await bob.expect("ACK")
            bye = asyncio.create_task(ours.hangup())
            bob.answer(await bob.expect("BYE"), 200)
            await bye
            await cast.close()
            bob.close()
            rig.bury()

    asyncio.run(play())


def test_recovered_channels_say_so() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            before = rig.switchboard.channels()
            records = rig.stored()
            rig.bury()
            rig = Rig(made, "two", 2)
            rig.stream.want(["CHANNEL_CREATE"])
            rig.switchboard.revive(records)
            assert [event.name for event in rig.events] == ["CHANNEL_CREATE", "CHANNEL_CREATE"]
            assert all(("variable_recovered", "true") in event.headers for event in rig.events)
            assert rig.switchboard.channels() == before
            rig.switchboard.hupall()
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_a_call_that_is_over_leaves_nothing_in_a_circle() -> None:
    async def play() -> None:
        async with node() as (rig, cast):
            ours, theirs = await talking(rig, cast)
            call = rig.live[0]
            watched = [weakref.ref(call)]
            del call
            gc.collect()
            gc.disable()
            try:
                assert (await ours.hangup()).status == 200
                await asyncio.wait_for(theirs.ended.wait(), WITHIN)
                await rig.idle()
                await until(lambda: not any(one() for one in watched), WITHIN)
            finally:
                gc.enable()

    asyncio.run(play())
