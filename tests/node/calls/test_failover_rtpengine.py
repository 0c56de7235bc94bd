"""Calls through a real rtpengine, whose node may die at any moment: the phones know nothing of it, nor does the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.calls.call import Call
from node.calls.waiting import Playing
from tests.node.calls.crash import Play, Scenario, connected, crash_everywhere, happens, impatient_phones, offered
from tests.node.calls.rig import WITHIN, Cast, Rig, extension, until
from tests.node.calls.scene import play, talking
from tests.node.calls.test_failover import caller_cancels
from tests.support.rtpengine import RtpengineServer

__all__ = ["impatient_phones"]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[RtpengineServer]:
    with RtpengineServer(tmp_path).running() as engine:
        yield engine


ENDLESS = "tone_stream://%(60000,0,400)"


def params(engine: RtpengineServer) -> dict[str, str]:
    return {"media-engine": "rtpengine", "rtpengine-ng": engine.ng}


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


async def listens_and_is_connected(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("7001")
    theirs = await bob.answer_next(WITHIN)
    for line in (ours, theirs):
        assert line.audio
        await line.audio.heard(3, WITHIN)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


async def hangs_up_in_the_middle_of_a_playback(play: Play) -> None:
    ours = await (await play.phone("1000")).call("7002")
    await happens(ours.answered)
    assert ours.audio
    await ours.audio.heard(3, WITHIN)
    assert (await ours.hangup()).status == 200


EXTENSIONS = "".join(
    (
        extension("7001", ("answer", ""), ("playback", "tone_stream://%(200,0,400)"), ("bridge", "user/1001")),
        extension("7002", ("answer", ""), ("playback", ENDLESS)),
        extension("7003", ("answer", ""), ("sleep", "100"), ("playback", ENDLESS), ("bridge", "user/1001")),
    )
)

SCENARIOS = [
    (talk_hold_and_hang_up, "spoken"),
    (talk_hold_and_hang_up, "lost"),
    (caller_cancels, "spoken"),
    (listens_and_is_connected, "spoken"),
    (listens_and_is_connected, "silent"),
    (hangs_up_in_the_middle_of_a_playback, "spoken"),
    (hangs_up_in_the_middle_of_a_playback, "silent"),
]


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize(("scenario", "variant"), SCENARIOS, ids=lambda word: getattr(word, "__name__", word))
def test_a_crash_at_any_put_changes_neither_ports_nor_phones(
    engine: RtpengineServer, scenario: Scenario, variant: str
) -> None:
    before = engine.made()
    crash_everywhere(scenario, variant, EXTENSIONS, params(engine))
    assert engine.made() > before + 3, "one session for each time it is played"
    if variant != "lost":  # one that is on no record is nobody's: the engine ends it when it has been silent for long
        nothing_is_left(engine)


def nothing_is_left(engine: RtpengineServer) -> None:
    until = time.monotonic() + WITHIN
    while left := engine.sessions():
        assert time.monotonic() < until, left
        time.sleep(0.05)


def test_a_playback_whose_engine_does_not_answer_ends_and_the_dialplan_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RtpengineServer(tmp_path).running() as own:

        async def scene(rig: Rig, cast: Cast) -> None:
            alice, bob = await cast.phone("1000"), await cast.phone("1001")
            ours = await alice.call("7003")
            await happens(ours.answered)
            with own.frozen():
                await until(lambda: "cannot play" in caplog.text, WITHIN)
            assert f"rtpengine {own.ng} does not answer" in caplog.text
            theirs = await bob.answer_next(WITHIN)
            for line in (ours, theirs):
                assert line.audio
                await line.audio.heard(10, WITHIN)
            assert (await ours.hangup()).status == 200
            await happens(theirs.ended)

        play(scene, EXTENSIONS, params=params(own))
        nothing_is_left(own)


def test_a_call_whose_playback_has_cost_it_its_session_is_ended_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An engine that has no port for another side ends the whole session."""
    with RtpengineServer(tmp_path, ports=4).running() as own:

        async def scene(rig: Rig, cast: Cast) -> None:
            ours, theirs = await talking(rig, cast)
            call = rig.live[0]
            call.post(replay, call)
            await happens(theirs.ended)
            await happens(ours.ended)
            assert "Ran out of ports" in caplog.text

        play(scene, EXTENSIONS, params=params(own))
        nothing_is_left(own)


def replay(call: Call) -> None:
    """Play to the caller, whatever goes on."""
    call.waiting = Playing(call, call.legs[0], ENDLESS)
    call.waiting.start()
