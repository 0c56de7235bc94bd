"""Calls that are being made when their node dies at any moment, and a node with an address of its own takes over (see `crash.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from node.calls.anew import PRESUMED
from tests.node.calls.crash import NO_PARAMS, WITHIN, Play, happens, impatient_phones
from tests.node.calls.rig import stage, until
from tests.support.phone import Line, Phone
from tests.support.reliable import ReliableLine, ReliablePhone
from tests.support.sipmessage import Sip

__all__ = ["impatient_phones"]

Making = Callable[[Play], Awaitable[tuple[Line, Line]]]
"Makes a call; returns the caller's line and that of whoever has answered."


class Musical(ReliablePhone):
    """Rings with early media."""

    early_media = True

    def new_line(self, *, outbound: bool, audio: bool) -> ReliableLine:
        return ReliableLine(self, outbound=outbound, audio=audio)


class TardyLine(ReliableLine):
    """A caller's whose PRACKs come when a successor has given up waiting for them."""

    waits = 0
    "PRACKs that are not sent yet."

    async def _acknowledge_reliably(self, answer: Sip) -> None:
        self.waits += 1
        await asyncio.sleep(1.2 * PRESUMED)
        self.waits -= 1
        await super()._acknowledge_reliably(answer)


class Tardy(ReliablePhone):
    """Has such lines."""

    def new_line(self, *, outbound: bool, audio: bool) -> ReliableLine:
        return TardyLine(self, outbound=outbound, audio=audio)


async def picked_up(ours: Line, callee: Phone) -> Line:
    """Somebody picks up whatever rings, as often as it does, until the caller hears so."""
    line, taken = await callee.next_line(WITHIN), None
    await happens(ours.ringing)
    async with asyncio.timeout(WITHIN):
        while not ours.answered.is_set():
            if line is not taken and not line.ended.is_set():
                line.answer()
                taken = line
            await asyncio.sleep(0.02)
            if not callee.incoming.empty():
                line = callee.incoming.get_nowait()
    await happens(line.answered)
    return line


async def one_phone(play: Play) -> tuple[Line, Line]:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("1001")
    return ours, await picked_up(ours, bob)


async def one_of_two_phones(play: Play) -> tuple[Line, Line]:
    alice, bob, carol = await play.phone("1000"), await play.phone("1001"), await play.phone("1001")
    ours = await alice.call("1001")
    await happens((await carol.next_line(WITHIN)).ringing)
    theirs = await picked_up(ours, bob)
    await until(lambda: all(line.ended.is_set() for line in carol.lines.values()), WITHIN)
    return ours, theirs


async def early_media(play: Play) -> tuple[Line, Line]:
    alice, bob = await play.phone("1000"), await play.phone("1001", Musical)
    ours = await alice.call("1001")
    return ours, await picked_up(ours, bob)


async def everything_reliably(play: Play) -> tuple[Line, Line]:
    alice, bob = await play.phone("1000", ReliablePhone), await play.phone("1001", Musical)
    ours = await alice.call("1001")
    return ours, await picked_up(ours, bob)


async def everything_reliably_and_late(play: Play) -> tuple[Line, Line]:
    alice, bob = await play.phone("1000", Tardy), await play.phone("1001", Musical)
    ours = await alice.call("1001")
    assert isinstance(ours, TardyLine)
    talking = ours, await picked_up(ours, bob)
    await until(lambda: not ours.waits, WITHIN)
    return talking


async def perform(making: Making, crash_after: int, variant: str, params: Mapping[str, str]) -> int:
    """Play once, with a crash at a put, and talk; returns how many records were put until then."""
    with stage(params=params) as made:
        play = Play(made, crash_after, variant, moves=True)
        first = play.rig
        try:
            ours, theirs = await making(play)
            await until(lambda: play.crashed or _calm(play), WITHIN)
            first.tap.crash_after = 0  # what is put when varies a little: this one may have come through
            puts = len(first.tap.records)
            await until(lambda: _calm(play), WITHIN)
            for line in (ours, theirs):
                await until(lambda line=line: f"@{made.host}:" in line.target, WITHIN)  # type: ignore[misc]
                await until(lambda line=line: f"c=IN IP4 {made.host}" in line.remote_sdp, WITHIN)  # type: ignore[misc]
                assert line.audio is not None
                await line.audio.heard(3, WITHIN)
            assert (await ours.hangup()).status == 200
            await happens(theirs.ended)
            await play.end()
            return puts
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"{making}: crash at put {crash_after} ({variant})")
            raise
        finally:
            await play.close()


def _calm(play: Play) -> bool:
    """It is talked, and nothing is under way with any leg."""
    legs = [leg for call in play.rig.live for leg in call.legs]
    calm = all(leg.confirmed and leg.pending is None and not leg.awaits_ack for leg in legs)
    return bool(legs) and calm and not play.rig.dead


RELIABLY = {"enable-100rel": "true"}


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize(
    ("making", "params", "variant"),
    [
        pytest.param(one_phone, NO_PARAMS, "spoken", id="one phone, spoken"),
        pytest.param(one_phone, NO_PARAMS, "silent", id="one phone, silent"),
        pytest.param(one_phone, NO_PARAMS, "lost", id="one phone, lost"),
        pytest.param(one_of_two_phones, NO_PARAMS, "lost", id="one of two phones, lost"),
        pytest.param(early_media, NO_PARAMS, "spoken", id="early media, spoken"),
        pytest.param(everything_reliably, RELIABLY, "spoken", id="everything reliably, spoken"),
        pytest.param(everything_reliably, RELIABLY, "silent", id="everything reliably, silent"),
        pytest.param(everything_reliably_and_late, RELIABLY, "spoken", id="everything reliably and late, spoken"),
    ],
)
def test_a_call_is_answered_wherever_the_crash_falls(making: Making, params: Mapping[str, str], variant: str) -> None:
    async def everything() -> None:
        puts = await perform(making, 0, "", params)
        plays = [perform(making, number, variant, params) for number in range(1, puts + 1)]
        outcomes = await asyncio.gather(*plays, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {puts}", [f for f in failures if isinstance(f, Exception)])

    asyncio.run(everything())
