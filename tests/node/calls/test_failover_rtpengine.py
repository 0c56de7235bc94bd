"""Calls through a real rtpengine whose node dies at any moment: the phones know nothing of it, nor does the engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.calls.crash import Play, Scenario, connected, crash_everywhere, happens, impatient_phones, offered
from tests.node.calls.test_failover import caller_cancels
from tests.support.rtpengine import RtpengineServer

__all__ = ["impatient_phones"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtpengineServer]:
    directory: Path = tmp_path_factory.mktemp("engine")
    with RtpengineServer(directory).running() as engine:
        yield engine


async def talk_hold_and_hang_up(play: Play) -> None:
    ours, theirs = await connected(play)
    assert ours.audio is not None
    assert theirs.audio is not None
    ports = ours.audio.peer, theirs.audio.peer
    assert await offered(ours, "sendonly") == 200
    assert await offered(ours, "sendrecv") == 200
    for audio in (ours.audio, theirs.audio):
        await audio.heard(3, 20)
    assert (ours.audio.peer, theirs.audio.peer) == ports, "nobody was told other ports"
    assert (await theirs.hangup()).status == 200
    await happens(ours.ended)


SCENARIOS = [(talk_hold_and_hang_up, "spoken"), (talk_hold_and_hang_up, "lost"), (caller_cancels, "spoken")]


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize(("scenario", "variant"), SCENARIOS, ids=lambda word: getattr(word, "__name__", word))
def test_a_crash_at_any_put_changes_neither_ports_nor_phones(
    engine: RtpengineServer, scenario: Scenario, variant: str
) -> None:
    before = engine.made()
    crash_everywhere(scenario, variant, params={"media-engine": "rtpengine", "rtpengine-ng": engine.ng})
    assert engine.made() > before + 3, "one session for each time it is played"
