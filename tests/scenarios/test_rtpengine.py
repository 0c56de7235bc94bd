"""Calls whose audio goes through a real rtpengine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conversation import Conversation, talking
from tests.support.node import STRETCH, Node, until
from tests.support.open_node import open_node
from tests.support.rtpengine import RtpengineServer

pytestmark = [pytest.mark.real, pytest.mark.peers]

WITHIN = 10 * STRETCH


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RtpengineServer]:
    with RtpengineServer(tmp_path / "engine").running() as engine:
        yield engine


@pytest.fixture
def node(tmp_path: Path, engine: RtpengineServer) -> Iterator[Node]:
    with open_node(tmp_path, params(engine.ng)).serving() as node:
        yield node


def params(ng: str) -> dict[str, str]:
    return {"media-engine": "rtpengine", "rtpengine-ng": ng}


def through(call: Conversation, engine: RtpengineServer) -> set[int]:
    """The ports that the phones send to, all of them the engine's."""
    peers = [audio.peer for audio in call.audios]
    assert all(peer is not None and peer[0] == "127.0.0.1" and peer[1] in engine.ports for peer in peers), peers
    return {peer[1] for peer in peers if peer is not None}


async def gone(engine: RtpengineServer) -> None:
    await asyncio.to_thread(until, lambda: not engine.sessions(), 10, "the session to be deleted")


def test_a_call_passes_audio_both_ways_and_leaves_no_session(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with talking(node.sip) as call:
            await call.heard(20, WITHIN)
            ports = through(call, engine)
            assert engine.held_ports() == ports
            await call.end(call.out)
            await gone(engine)

    asyncio.run(scenario())
