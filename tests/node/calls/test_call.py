"""Calls on real sockets: the ordinary ones."""

from __future__ import annotations

import asyncio

from tests.node.calls.rig import node, until


def test_a_call_is_bridged_talks_and_is_hung_up_by_the_caller() -> None:
    async def play() -> None:
        async with node() as (rig, cast):
            alice, bob = await cast.phone("1000"), await cast.phone("1001")
            ours = await alice.call("1001")
            theirs = await bob.next_line()
            await asyncio.wait_for(ours.ringing.wait(), 5)
            theirs.answer()
            await asyncio.wait_for(ours.answered.wait(), 5)
            assert ours.audio
            assert theirs.audio
            await ours.audio.heard(5, 5)
            await theirs.audio.heard(5, 5)
            assert (await ours.hangup()).status == 200
            await asyncio.wait_for(theirs.ended.wait(), 5)
            assert theirs.ended_by == "them"
            await rig.idle()
            assert alice.statuses("INVITE") == [100, 180, 200]

    asyncio.run(play())


def test_the_callee_hangs_up() -> None:
    async def play() -> None:
        async with node() as (rig, cast):
            alice, bob = await cast.phone("1000"), await cast.phone("1001")
            ours = await alice.call("1001")
            theirs = await bob.answer_next()
            await asyncio.wait_for(ours.answered.wait(), 5)
            await until(lambda: rig.live[0].legs[0].pending is None)
            assert (await theirs.hangup()).status == 200
            await asyncio.wait_for(ours.ended.wait(), 5)
            await rig.idle()

    asyncio.run(play())
