"""INVITE with Replaces on real sockets: who takes whose place, and what is refused."""

from __future__ import annotations

import pytest

from node.calls import refer, replaces
from node.calls.replaces import View
from node.sip.uri import Uri
from tests.node.calls.rig import Cast, Rig, until
from tests.node.calls.test_transfer import WITHIN, connected, happens, hung_up, play, quiet, talk
from tests.support.phone import Line, Phone


def naming(line: Line, *, early_only: bool = False) -> tuple[str, str]:
    """A Replaces that names the dialog between the node and this line, as the node sees it."""
    theirs = line.remote.partition(";tag=")[2]
    early = ";early-only" if early_only else ""
    return "Replaces", f"{line.call_id};to-tag={theirs};from-tag={line.tag}{early}"


async def refused(phone: Phone, *headers: tuple[str, str]) -> int:
    line = await phone.call("1001", *headers)
    await happens(line.ended)
    assert line.refused is not None
    return line.refused.status


def test_a_new_leg_takes_the_place_of_the_caller() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        carol = await cast.phone("1002")
        third = await carol.call("1001", naming(ours), ("Require", "replaces"))
        await happens(third.answered)
        await happens(ours.ended)
        assert ours.ended_by == "them"
        await quiet(third)
        await quiet(theirs)
        await talk(third, theirs)
        await hung_up(theirs, third)

    play(scene)


def test_a_new_leg_takes_the_place_of_the_called_one() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        carol = await cast.phone("1002")
        third = await carol.call("1000", naming(theirs))
        await happens(third.answered)
        await happens(theirs.ended)
        await talk(third, ours)
        await hung_up(third, ours)

    play(scene)


def test_a_held_partner_is_taken_off_hold_by_who_comes_in() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.reinvite("sendonly")).status == 200
        carol = await cast.phone("1002")
        third = await carol.call("1001", naming(ours))
        await happens(third.answered)
        await until(lambda: "a=sendonly" not in theirs.remote_sdp, WITHIN)
        await talk(third, theirs)
        await hung_up(third, theirs)

    play(scene)


def test_a_new_leg_without_an_offer_is_made_one() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        carol = await cast.phone("1002")
        third = await carol.call("1001", naming(ours), sdp=False)
        await happens(third.answered)
        await happens(ours.ended)
        await hung_up(third, theirs)

    play(scene)


def test_a_ringing_call_is_picked_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await cast.phone(user) for user in ("1000", "1001", "1002")]
        ours = await alice.call("1001")
        ringing = await bob.next_line(WITHIN)
        await happens(ours.ringing)
        third = await carol.call("1001", naming(ringing, early_only=True))
        await happens(third.answered)
        await happens(ours.answered)
        await happens(ringing.ended)
        assert ringing.ended_by == "cancelled"
        cancel = next(m for _at, m in bob.seen if m.method == "CANCEL" and not m.is_response)
        assert cancel.get("Reason") == 'SIP;cause=200;text="Call completed elsewhere"'
        await talk(ours, third)
        await hung_up(third, ours)

    play(scene)


def test_a_new_leg_takes_over_an_application() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, carol = await cast.phone("1000"), await cast.phone("1002")
        ours = await alice.call("7002")
        await happens(ours.answered)
        third = await carol.call("7002", naming(ours))
        await happens(third.answered)
        await happens(ours.ended)
        assert third.audio
        await third.audio.heard(3, WITHIN)
        await hung_up(third)

    play(scene)


def test_what_cannot_be_replaced_is_refused_as_the_rfc_says() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        carol = await cast.phone("1002")
        name, value = naming(ours)
        assert await refused(carol, naming(ours, early_only=True)) == 486
        assert await refused(carol, (name, value.replace("from-tag=", "from-tag=x"))) == 481
        assert await refused(carol, (name, "nobody@nowhere;to-tag=internal.0-00;from-tag=1")) == 481
        assert await refused(carol, (name, "no-tags")) == 400
        assert await refused(carol, (name, value), (name, value)) == 400
        await talk(ours, theirs)
        await hung_up(ours, theirs)
        assert await refused(carol, (name, value)) == 603

    play(scene)


def test_a_caller_that_rings_is_not_replaced() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = [await cast.phone(user) for user in ("1000", "1001", "1002")]
        ours = await alice.call("1001")
        ringing = await bob.next_line(WITHIN)
        await happens(ours.ringing)
        ours.remote = next(m.get("To") for _at, m in alice.seen if m.status == 180)
        assert await refused(carol, naming(ours)) == 481
        assert not ringing.ended.is_set()
        await ours.cancel()
        await happens(ringing.ended)

    play(scene)


def test_an_attended_transfer_is_carried_out_by_the_referee_itself() -> None:
    """RFC 5589 7: a partner that is no leg of ours would come so; here the phone does it of its own accord."""

    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        second, third = await connected(cast, "1000", "1002")
        fourth = await theirs.phone.call("1002", naming(second))
        await happens(fourth.answered)
        await happens(second.ended)
        await talk(fourth, third)
        await hung_up(fourth, third)
        await hung_up(ours, theirs)

    play(scene)


@pytest.mark.parametrize(
    ("view", "status"),
    [
        (View(over=True, confirmed=True, called=False, early_only=False), 603),
        (View(over=False, confirmed=True, called=False, early_only=False), 0),
        (View(over=False, confirmed=True, called=False, early_only=True), 486),
        (View(over=False, confirmed=False, called=True, early_only=True), 0),
        (View(over=False, confirmed=False, called=True, early_only=False), 0),
        (View(over=False, confirmed=False, called=False, early_only=False), 481),
    ],
)
def test_the_judgement(view: View, status: int) -> None:
    assert replaces.judge(view) == status


def test_a_replaces_is_read_and_written() -> None:
    text = "12@host;to-tag=a;from-tag=b;early-only"
    wanted = refer.Replaces.parse("12@host ;from-tag=b; to-tag=a;early-only")
    assert str(wanted) == text
    again = refer.target(refer.refer_to(Uri.parse("sip:1002@pbx.test"), wanted))
    assert again.replaces == wanted
    assert str(again.uri) == "sip:1002@pbx.test"
