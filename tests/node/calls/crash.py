"""A scenario played over and over, with a crash at every put, and a successor that goes on from the record.

It is played once to count its puts, then once for each put with a crash right there: the record is in the store, what was to
follow was not done (`silent`), or what was ready to be sent went out (`spoken`), and even the record did not reach the store
(`lost`). The phones know nothing of it. However it happens, the scenario must come to its proper end, and nobody may hear a
481 or a 500.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

import pytest

from tests.node.calls.rig import Cast, Rig, Stage, stage, until
from tests.support import phone as phones
from tests.support.phone import Line, Phone

WITHIN = 20.0


class Play:
    """A scenario being played: whichever node is on duty, and the phones."""

    def __init__(self, made: Stage, crash_after: int, variant: str, *, moves: bool = False) -> None:
        """`moves`: who succeeds has an address of its own."""
        self.stage = made
        self._moves = moves
        self.cast = Cast(made)
        self.rig = Rig(made)
        self.rig.tap.crash_after = crash_after
        self.rig.tap.spoken = variant in ("spoken", "lost")
        self.rig.tap.lost = variant == "lost"
        self.crashed = False
        self._watch = asyncio.create_task(self._succeed())

    async def _succeed(self) -> None:
        while not self.rig.dead:
            await asyncio.sleep(0.002)
        if self._moves:
            self.stage.move()
            for phone in self.cast.phones:
                phone.server = self.stage.internal
        self.rig, results = self.rig.succeed()
        self.crashed = True
        assert all(result.ok for result in results), results

    async def phone(self, user: str, kind: type[Phone] = Phone) -> Phone:
        return await self.cast.phone(user, kind=kind)

    async def close(self) -> None:
        if self._watch.done():
            self._watch.result()
        self._watch.cancel()
        await self.cast.close()
        if not self.rig.dead:
            self.rig.bury()

    async def end(self) -> None:
        """No call is left, on whatever node, and nobody heard a wrong word."""
        await until(lambda: not self.rig.dead and not self.rig.live, WITHIN)
        for phone in self.cast.phones:
            assert not {481, 500, 503} & set(phone.statuses()), phone.statuses()
            check_cseq(phone)


def check_cseq(phone: Phone) -> None:
    """RFC 3261 12.2.1.1: the CSeq of a dialog's requests grows, whoever sends them."""
    last: dict[str, tuple[int, str]] = {}
    for _at, message in phone.seen:
        if message.is_response or message.method in ("ACK", "CANCEL"):
            continue
        number, branch = last.get(message.call_id, (0, ""))
        if message.branch != branch:
            assert message.cseq > number, f"{message.method} with CSeq {message.cseq} after {number}"
        last[message.call_id] = message.cseq, message.branch


async def happens(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WITHIN)


async def connected(play: Play) -> tuple[Line, Line]:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    return ours, theirs


async def offered(line: Line, direction: str) -> int:
    """Offer anew; who meets an exchange that is not through yet tries again a little later (RFC 3261 14.1)."""
    while (answer := await line.reinvite(direction)).status == 491:
        await asyncio.sleep(0.2)
    return answer.status


Scenario = Callable[[Play], Awaitable[None]]
NO_PARAMS: Mapping[str, str] = MappingProxyType({})


async def perform(
    scenario: Scenario,
    extensions: str,
    crash_after: int = 0,
    variant: str = "",
    params: Mapping[str, str] = NO_PARAMS,
) -> int:
    """Play once; returns how many records were put before the crash, or in all."""
    with stage(extensions, params=params) as made:
        play = Play(made, crash_after, variant)
        first = play.rig
        try:
            await scenario(play)
            await play.end()
            return len(first.tap.records)
        except (AssertionError, TimeoutError) as error:
            error.add_note(f"{scenario.__name__}: crash at put {crash_after} ({variant})")
            raise
        finally:
            await play.close()


def crash_everywhere(
    scenario: Scenario, variant: str, extensions: str = "", params: Mapping[str, str] = NO_PARAMS
) -> None:
    """Play it with a crash at each of its puts."""

    async def everything() -> None:
        puts = await perform(scenario, extensions, params=params)
        plays = [perform(scenario, extensions, number, variant, params) for number in range(1, puts + 1)]
        outcomes = await asyncio.gather(*plays, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {puts}", [f for f in failures if isinstance(f, Exception)])

    asyncio.run(everything())


@pytest.fixture
def impatient_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost is said again after 200 ms instead of half a second."""
    monkeypatch.setattr(phones, "T1", 0.2)
