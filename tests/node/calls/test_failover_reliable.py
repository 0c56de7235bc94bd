"""Reliable responses, UPDATEs and session timers when their node dies at any moment (see `crash.py`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.calls.crash import WITHIN, Play, Scenario, crash_everywhere, happens, impatient_phones
from tests.node.calls.rig import extension, until
from tests.support.reliable import ReliableLine, ReliablePhone
from tests.support.sipmessage import Sip

__all__ = ["impatient_phones"]

PARAMS = {"enable-100rel": "true", "session-timeout": "1800"}


class Musical(ReliablePhone):
    """Rings with early media."""

    early_media = True


async def ringing(play: Play, callee: type[ReliablePhone]) -> tuple[ReliableLine, ReliableLine]:
    """Both sides have said and heard that it rings, and acknowledged it."""
    alice, bob = await play.phone("1000", ReliablePhone), await play.phone("1001", callee)
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    assert isinstance(ours, ReliableLine)
    assert isinstance(theirs, ReliableLine)
    await happens(ours.ringing)
    await happens(ours.pracked)
    await happens(theirs.pracked)
    return ours, theirs


async def talk_and_hang_up(ours: ReliableLine, theirs: ReliableLine) -> None:
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)
    assert theirs.pracks == 1
    assert not any(message.status == 481 for message in refusals(ours) + refusals(theirs))


def refusals(line: ReliableLine) -> list[Sip]:
    return [message for _at, message in line.phone.seen if message.is_response and message.status >= 400]


async def it_rings_reliably(play: Play) -> None:
    await talk_and_hang_up(*await ringing(play, ReliablePhone))


async def it_rings_with_reliable_early_media(play: Play) -> None:
    ours, theirs = await ringing(play, Musical)
    assert ours.remote_sdp
    await talk_and_hang_up(ours, theirs)
    answers = [message for _at, message in ours.phone.seen if message.status == 200 and message.method == "INVITE"]
    assert not any(answer.body for answer in answers), "the answer was in the 183"


async def the_answer_overtakes_the_prack(play: Play) -> None:
    """The callee answers at once: what the caller acknowledges then lets the 200 through."""
    alice, bob = await play.phone("1000", ReliablePhone), await play.phone("1001", Musical)
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    assert isinstance(ours, ReliableLine)
    assert isinstance(theirs, ReliableLine)
    await happens(theirs.pracked)
    await talk_and_hang_up(ours, theirs)


async def early_media_is_moved_by_update(play: Play) -> None:
    ours, theirs = await ringing(play, Musical)
    await updated(ours, "sendonly")
    await talk_and_hang_up(ours, theirs)


async def caller_holds_by_update(play: Play) -> None:
    ours, theirs = await ringing(play, ReliablePhone)
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    await updated(ours, "sendonly")
    assert "a=sendonly" in theirs.remote_sdp
    await updated(ours, "sendrecv")
    assert "a=sendonly" not in theirs.remote_sdp
    assert (await theirs.hangup()).status == 200
    await happens(ours.ended)


async def caller_refreshes_its_session(play: Play) -> None:
    ours, theirs = await ringing(play, ReliablePhone)
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    timer = [("Supported", "timer"), ("Session-Expires", "600;refresher=uac")]
    answer = await ours.update(headers=timer)
    assert answer.status == 200
    assert answer.get("Session-Expires") == "600;refresher=uac"
    await until(lambda: not play.rig.dead and play.rig.live and play.rig.live[0].legs[0].session_expires == 600)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


async def updated(line: ReliableLine, direction: str) -> None:
    """Offer by UPDATE; who is told that it is too early tries again (RFC 3311 5.3)."""
    while (answer := await line.update(direction)).status in (491, 500):
        line.phone.seen = [pair for pair in line.phone.seen if pair[1] is not answer and pair[1].start != answer.start]
        await asyncio.sleep(0.2)
    assert answer.status == 200, answer.start


EXTENSIONS = extension("7000", ("pre_answer", ""), ("sleep", "50"), ("bridge", "user/1001"))

SCENARIOS: list[Scenario] = [
    it_rings_reliably,
    it_rings_with_reliable_early_media,
    the_answer_overtakes_the_prack,
    early_media_is_moved_by_update,
    caller_holds_by_update,
    caller_refreshes_its_session,
]


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize("variant", ["spoken", "silent", "lost"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_at_any_put_changes_nothing_for_the_phones(scenario: Scenario, variant: str) -> None:
    crash_everywhere(scenario, variant, EXTENSIONS, PARAMS)
