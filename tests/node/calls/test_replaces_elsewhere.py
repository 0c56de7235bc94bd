"""INVITE with Replaces for a dialog that is not where it arrives: of another profile, or only on record after a failover."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha.process import Process
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, until
from tests.node.calls.rig import Rig as Scene
from tests.node.calls.scene import play
from tests.node.calls.test_replaces import naming
from tests.node.rig import PASSWORD, Rig, media_process, rig
from tests.support.node import STRETCH
from tests.support.phone import Line, Phone
from tests.support.sipmessage import parameter

WITHIN = 10.0 * STRETCH


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN):
        await event.wait()


def test_who_comes_by_another_profile_takes_the_place_of_a_leg() -> None:
    async def scene(node: Scene, cast: Cast) -> None:
        alice, bob = await Peer.open(node.stage.internal), await Peer.open(node.stage.internal)
        carol = await Peer.open(node.stage.external)
        node.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        await until(lambda: all(leg.pending is None for leg in node.live[0].legs))
        wanted = f"{ok.call_id};to-tag={parameter(ok.get('To'), 'tag')};from-tag={alice.tag}"
        carol.invite("1001", "1002", sdp=OFFER, headers=[("Replaces", wanted)])
        third = await carol.expect(200)
        assert f":{node.stage.external[1]}" in third.get("Contact"), "it is answered by the profile it came by"
        carol.ack(third)
        alice.answer(await alice.expect("BYE"), 200)
        assert [leg.profile for leg in node.live[0].bridged] == ["external", "internal"]
        carol.bye(third)
        bob.answer(await bob.expect("BYE"), 200)
        await carol.expect(200)
        for peer in (alice, bob, carol):
            peer.close()

    play(scene)


# ---- only on record ------------------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, slots=("internal#9",)) as made:
        yield made


@pytest.fixture
def media(node: Rig) -> Iterator[Process]:
    with media_process(node) as process:
        yield process


def phone(user: str, node: Rig) -> Phone:
    return Phone(user, PASSWORD, node.udp, domain="pbx.test")


def orphan(node: Rig) -> None:
    """The slot's worker dies, and nobody serves it any more: another slot gets its socket."""
    node.workers[0].kill()
    (name, sock), *others = node.sockets
    node.sockets = [(type(name)(name.profile, name.kind, name.host, name.port, "internal#0"), sock), *others]
    node.serve("internal#0")


def swapped(line: Line) -> tuple[str, str]:
    """The same dialog with its tags the wrong way round, as some phones name it."""
    name, value = naming(line)
    return name, value.replace("to-tag=", "x=").replace("from-tag=", "to-tag=").replace("x=", "from-tag=")


@pytest.mark.parametrize("named", [naming, swapped])
def test_a_dialog_that_is_only_on_record_is_adopted_and_replaced(node: Rig, media: Process, named) -> None:  # type: ignore[no-untyped-def]
    """The other host had more workers than this one."""
    node.serve("internal#9")

    async def scenario() -> None:
        async with phone("1000", node) as alice, phone("1001", node) as bob, phone("1002", node) as carol:
            await alice.register()
            await bob.register()
            ours = await alice.call("1001")
            theirs = await bob.answer_next(WITHIN)
            await happens(ours.answered)
            await happens(theirs.answered)
            assert parameter(ours.remote, "tag").startswith("internal.9-")
            orphan(node)
            third = await carol.call("1001", named(ours))
            await happens(third.answered)
            await happens(ours.ended)
            assert ours.ended_by == "them"
            for one in (third, theirs):
                assert one.audio is not None
                await one.audio.heard(3, WITHIN)
            assert (await theirs.hangup()).status == 200
            await happens(third.ended)
            assert not {481, 500} & {status for each in (alice, bob, carol) for status in each.statuses()}

    asyncio.run(scenario())


def test_a_dialog_that_was_over_before_the_failover_is_declined(node: Rig, media: Process) -> None:
    node.serve("internal#9")

    async def scenario() -> None:
        async with phone("1000", node) as alice, phone("1001", node) as bob, phone("1002", node) as carol:
            await alice.register()
            await bob.register()
            ours = await alice.call("1001")
            theirs = await bob.answer_next(WITHIN)
            await happens(ours.answered)
            assert (await ours.hangup()).status == 200
            await happens(theirs.ended)
            orphan(node)
            third = await carol.call("1001", naming(ours))
            await happens(third.ended)
            assert third.refused is not None
            assert third.refused.status == 603

    asyncio.run(scenario())
