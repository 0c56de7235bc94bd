"""A scene of a test: a node, its phones and peers, and what is true when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from tests.node.calls.clock import LeapingLoop
from tests.node.calls.rig import Cast, Rig, node, until
from tests.support.phone import Line

WITHIN = 15.0

Scene = Callable[[Rig, Cast], Awaitable[None]]


def play(
    scene: Scene, extensions: str = "", *, max_sessions: int = 100, params: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Play a scene on a node of its own; afterwards no call is left."""

    async def everything() -> None:
        async with node(extensions, max_sessions=max_sessions, params=params) as (rig, cast):
            await scene(rig, cast)
            await rig.idle()
            assert not rig.switchboard.exchange.dialogs

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(everything())


async def happens(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WITHIN)


async def talking(rig: Rig, cast: Cast) -> tuple[Line, Line]:
    """1000 and 1001 are in a call, acknowledged on both sides."""
    alice, bob = await cast.phone("1000"), await cast.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.answer_next()
    await happens(ours.answered)
    await until(lambda: rig.live[0].legs[0].pending is None)
    return ours, theirs
