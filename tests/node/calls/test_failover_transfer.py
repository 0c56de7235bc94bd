"""A crash at every put of a transfer, and a successor that goes on from the record: see `test_failover.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.node.calls.crash import WITHIN, Play, connected, happens, offered
from tests.node.calls.rig import DOMAIN, extension, stage, until
from tests.node.calls.test_replaces import naming
from tests.support import phone as phones
from tests.support.phone import Line
from tests.support.reliable import ReliablePhone

EXTENSIONS = extension("7002", ("answer", ""), ("echo", ""))
CONFIRM = {"confirm-blind-transfer": "true"}

Scenario = Callable[[Play], Awaitable[None]]


async def on_record(play: Play) -> None:
    """Every call of the node on duty is in peace: nothing of its making is under way."""
    await until(lambda: all(leg.pending is None for call in play.rig.live for leg in call.legs), WITHIN)


async def talk(one: Line, other: Line) -> None:
    assert one.audio
    assert other.audio
    await one.audio.heard(2, WITHIN)
    await other.audio.heard(2, WITHIN)


async def ends(by: Line, other: Line) -> None:
    assert (await by.hangup()).status == 200
    await happens(other.ended)


async def second_call(play: Play, first: Line, number: str, *, answered: bool = True) -> tuple[Line, Line]:
    third = await play.phone(number)
    out = await first.phone.call(number)
    into = await third.next_line(WITHIN)
    await happens(out.ringing)
    if answered:
        into.answer()
        await happens(out.answered)
        await happens(into.answered)
    return out, into


async def caller_transfers_blindly(play: Play) -> None:
    carol = await play.phone("1002")
    ours, theirs = await connected(play)
    assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
    third = await carol.answer_next(WITHIN)
    await happens(ours.ended)
    assert set(ours.reported) == {200}
    await happens(third.answered)
    await talk(theirs, third)
    await ends(third, theirs)


async def callee_transfers_blindly(play: Play) -> None:
    carol = await play.phone("1002")
    ours, theirs = await connected(play)
    assert (await theirs.refer(f"<sip:1002@{DOMAIN}>")).status == 202
    third = await carol.answer_next(WITHIN)
    await happens(theirs.ended)
    assert set(theirs.reported) == {200}
    await happens(third.answered)
    await talk(ours, third)
    await ends(ours, third)


async def transfer_is_confirmed(play: Play) -> None:
    carol = await play.phone("1002")
    ours, theirs = await connected(play)
    assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
    third = await carol.next_line(WITHIN)
    await ours.heard_of(180, WITHIN)
    third.answer()
    await happens(ours.ended)
    assert ours.reported[-1] == 200
    await happens(third.answered)
    await talk(theirs, third)
    await ends(theirs, third)


async def transfer_fails(play: Play) -> None:
    carol = await play.phone("1002")
    ours, theirs = await connected(play)
    assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
    third = await carol.next_line(WITHIN)
    await ours.heard_of(180, WITHIN)
    third.reject(486)
    await ours.heard_of(486, WITHIN)
    await talk(ours, theirs)
    await ends(theirs, ours)


async def transfer_is_attended(play: Play) -> None:
    ours, theirs = await connected(play)
    assert await offered(ours, "sendonly") == 200
    second, third = await second_call(play, ours, "1002")
    assert (await ours.refer(ours.replacement(second))).status == 202
    await happens(ours.ended)
    await happens(second.ended)
    assert set(ours.reported) == {200}
    await until(lambda: "a=sendonly" not in theirs.remote_sdp, WITHIN)
    await talk(theirs, third)
    await ends(third, theirs)


async def transfer_is_attended_while_it_rings(play: Play) -> None:
    ours, theirs = await connected(play)
    second, third = await second_call(play, ours, "1002", answered=False)
    seen = [m for _at, m in ours.phone.seen if m.status == 180 and m.call_id == second.call_id]
    second.remote = seen[-1].get("To")
    assert (await ours.refer(ours.replacement(second))).status == 202
    await happens(ours.ended)
    await happens(second.ended)
    third.answer()
    await happens(third.answered)
    await talk(theirs, third)
    await ends(theirs, third)


async def transfer_goes_to_an_application(play: Play) -> None:
    ours, theirs = await connected(play)
    second = await ours.phone.call("7002")
    await happens(second.answered)
    assert (await ours.refer(ours.replacement(second))).status == 202
    await happens(ours.ended)
    await happens(second.ended)
    assert theirs.audio
    await theirs.audio.heard(3, WITHIN)
    assert (await theirs.hangup()).status == 200


async def another_phone_takes_the_call_over(play: Play) -> None:
    ours, theirs = await connected(play)
    await on_record(play)
    carol = await play.phone("1002")
    third = await carol.call("1001", naming(ours))
    await happens(third.answered)
    await happens(ours.ended)
    await talk(theirs, third)
    await ends(third, theirs)


async def another_phone_picks_up(play: Play) -> None:
    alice, bob, carol = [await play.phone(user) for user in ("1000", "1001", "1002")]
    ours = await alice.call("1001")
    ringing = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    third = await carol.call("1001", naming(ringing))
    await happens(third.answered)
    await happens(ours.answered)
    await happens(ringing.ended)
    await talk(ours, third)
    await ends(ours, third)


async def who_is_left_is_told_of_the_new_one(play: Play) -> None:
    """The caller, who allows UPDATE, hears by one who it talks to now."""
    alice, carol = await play.phone("1000", ReliablePhone), await play.phone("1002")
    bob = await play.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    assert (await theirs.refer(f"<sip:1002@{DOMAIN}>")).status == 202
    third = await carol.next_line(WITHIN)
    third.answer()
    await happens(third.answered)

    def told() -> bool:
        updates = [m for _at, m in alice.seen if m.method == "UPDATE" and not m.is_response]
        return any("sip:1002@" in update.get("P-Asserted-Identity") for update in updates)

    await until(told, WITHIN)
    await happens(theirs.ended)
    await ends(ours, third)


async def both_are_sent_on(play: Play) -> None:
    """`uuid_transfer -both`; an order that died with its node is given again."""
    ours, theirs = await connected(play)
    await on_record(play)

    def gone() -> bool:
        calls = [] if play.rig.dead else play.rig.live
        if len(calls) == 1 and len(calls[0].bridged) == 2:
            play.rig.switchboard.transfer(calls[0].legs[0].uuid, ["-both", "7002"])
        return len(calls) == 2 and all(call.waiting is not None for call in calls)

    await until(gone, WITHIN)
    for line in (ours, theirs):
        assert line.audio
        await line.audio.heard(2, WITHIN)
        assert (await line.hangup()).status == 200


async def perform(scenario: Scenario, params: dict[str, str], crash_after: int = 0, variant: str = "") -> int:
    """Play once; returns how many records were put before the crash, or in all."""
    with stage(EXTENSIONS, params=params) as made:
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


SCENARIOS: list[tuple[Scenario, dict[str, str]]] = [
    (caller_transfers_blindly, {}),
    (callee_transfers_blindly, {}),
    (transfer_is_confirmed, CONFIRM),
    (transfer_fails, CONFIRM),
    (transfer_is_attended, {}),
    (transfer_is_attended_while_it_rings, {}),
    (transfer_goes_to_an_application, {}),
    (another_phone_takes_the_call_over, {}),
    (another_phone_picks_up, {}),
    (who_is_left_is_told_of_the_new_one, {}),
    (both_are_sent_on, {}),
]
TABLE = [(scenario, params, variant) for scenario, params in SCENARIOS for variant in ("spoken", "silent", "lost")]


@pytest.fixture(autouse=True)
def impatient_phones(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was lost is said again after 200 ms instead of half a second."""
    monkeypatch.setattr(phones, "T1", 0.2)


@pytest.mark.parametrize(
    ("scenario", "params", "variant"), TABLE, ids=lambda word: getattr(word, "__name__", str(word))
)
def test_a_crash_at_any_put_of_a_transfer_changes_nothing_for_the_phones(
    scenario: Scenario, params: dict[str, str], variant: str
) -> None:
    async def everything() -> None:
        puts = await perform(scenario, params)
        plays = [perform(scenario, params, number, variant) for number in range(1, puts + 1)]
        outcomes = await asyncio.gather(*plays, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {puts}", [f for f in failures if isinstance(f, Exception)])

    asyncio.run(everything())
