"""REFER in a dialog, on real sockets: what the three parties of a transfer see and hear."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.node.calls.rig import DOMAIN, Cast, Rig, extension, node, until
from tests.support.phone import Line
from tests.support.sipmessage import Sip

WITHIN = 15.0

EXTENSIONS = "".join(
    (
        extension("7002", ("answer", ""), ("echo", "")),
        extension("7404", ("hangup", "UNALLOCATED_NUMBER")),
    )
)


def play(scene: Callable[[Rig, Cast], Awaitable[None]], **options: str) -> None:
    """Play a scene on a node of its own; afterwards no call is left."""

    async def everything() -> None:
        async with node(EXTENSIONS, params=options) as (rig, cast):
            rig.stream.want(["ALL"])
            await scene(rig, cast)
            await rig.idle()
            assert not rig.switchboard.exchange.dialogs

    asyncio.run(everything())


async def happens(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WITHIN)


async def connected(cast: Cast, caller: str, callee: str) -> tuple[Line, Line]:
    """A call between two phones that are there already, or are made."""
    out, into = [next((p for p in cast.phones if p.user == user), None) for user in (caller, callee)]
    out = out or await cast.phone(caller)
    into = into or await cast.phone(callee)
    ours = await out.call(callee)
    theirs = await into.answer_next(WITHIN)
    await happens(ours.answered)
    await happens(theirs.answered)
    return ours, theirs


async def talk(one: Line, other: Line) -> None:
    """Both hear each other: what arrives was sent by the other one, number by number."""
    assert one.audio
    assert other.audio
    for hearing, speaking in ((one.audio, other.audio), (other.audio, one.audio)):
        await hearing.heard(3, WITHIN)
        last = hearing.arrivals[-1][1]
        assert abs(speaking.sent - last) < 50, "that is somebody else's number"


async def quiet(line: Line) -> None:
    """Numbers its audio unlike all others, so that who hears it knows whom."""
    assert line.audio
    line.audio.sent += 100_000 * int(line.phone.user[-1])


async def hung_up(by: Line, *others: Line) -> None:
    assert (await by.hangup()).status == 200
    for other in others:
        await happens(other.ended)
        assert other.ended_by == "them"


def invite_of(line: Line) -> Sip:
    return next(m for _at, m in line.phone.seen if m.method == "INVITE" and m.call_id == line.call_id)


# ---- blind -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("referrer", ["caller", "callee"])
def test_a_blind_transfer_brings_the_partner_to_the_number_and_hangs_up_on_the_referrer(referrer: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        asking, staying = (ours, theirs) if referrer == "caller" else (theirs, ours)
        answer = await asking.refer(f"<sip:1002@{DOMAIN}>")
        assert (answer.status, answer.get("Expires")) == (202, "60")
        third = await carol.answer_next(WITHIN)
        await happens(asking.ended)
        assert asking.reported == [200]
        notice = asking.notices[0]
        assert notice.get("Event") == f"refer;id={answer.cseq}"
        assert notice.get("Subscription-State") == "terminated;reason=noresource"
        assert notice.get("Content-Type") == "message/sipfrag;version=2.0"
        assert notice.body == "SIP/2.0 200 OK\r\n"
        assert invite_of(third).get("Referred-By") == f"<sip:{asking.phone.user}@{DOMAIN}>"
        number = staying.phone.user
        assert f'"Extension {number}" <sip:{number}@' in invite_of(third).get("From")
        await quiet(staying)
        await quiet(third)
        await talk(staying, third)
        await hung_up(third, staying)

    play(scene)


def test_a_held_partner_is_taken_off_hold_by_a_blind_transfer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.reinvite("sendonly")).status == 200
        assert "a=sendonly" in theirs.remote_sdp
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        third = await carol.answer_next(WITHIN)
        await until(lambda: "a=sendonly" not in theirs.remote_sdp, WITHIN)
        await talk(theirs, third)
        await hung_up(theirs, third)

    play(scene)


def test_a_partner_may_be_sent_to_an_application() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:7002@{DOMAIN}>")).status == 202
        await happens(ours.ended)
        assert theirs.audio
        before = theirs.audio.sent
        await until(lambda: theirs.audio and theirs.audio.arrivals and theirs.audio.arrivals[-1][1] >= before, WITHIN)
        await hung_up(theirs)

    play(scene)


def test_a_referrer_that_hangs_up_at_once_takes_nobody_along() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        await ours.hangup()
        third = await carol.answer_next(WITHIN)
        await talk(theirs, third)
        await hung_up(theirs, third)

    play(scene)


def test_who_does_not_want_to_hear_of_it_is_only_hung_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        answer = await ours.refer(f"<sip:1002@{DOMAIN}>", ("Refer-Sub", "false"), ("Supported", "norefersub"))
        assert (answer.status, answer.get("Refer-Sub")) == (202, "false")
        third = await carol.answer_next(WITHIN)
        await happens(ours.ended)
        assert ours.reported == []
        await hung_up(third, theirs)

    play(scene)


def test_a_leg_that_is_bridged_with_nobody_cannot_be_transferred() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        ours = await alice.call("7002")
        await happens(ours.answered)
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        await ours.heard_of(403)
        error = next(event for event in rig.events if event.subclass == "sofia::error")
        assert ("Error-Type", "blind_transfer") in error.headers
        assert ("Transfer-Exten", "1002") in error.headers
        assert not ours.ended.is_set()
        await hung_up(ours)

    play(scene)


# ---- blind, with the referrer waiting for what becomes of it -------------------------------------------------------------


def test_a_confirmed_transfer_tells_of_ringing_and_of_the_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        third = await carol.next_line(WITHIN)
        await ours.heard_of(180)
        assert not ours.ended.is_set()
        assert ours.notices[0].get("Subscription-State") == "active;expires=60"
        third.answer()
        await happens(ours.ended)
        assert ours.reported == [100, 180, 200]
        await talk(theirs, third)
        await hung_up(third, theirs)

    play(scene, **{"confirm-blind-transfer": "true"})


def test_who_ends_its_subscription_hears_that_and_no_more() -> None:
    """RFC 6665 4.2.1.4; the transfer goes on without it."""

    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        third = await carol.next_line(WITHIN)
        await ours.heard_of(180)
        request = ours._request("SUBSCRIBE", [("Event", "refer"), ("Expires", "0")])
        assert (await ours.phone.request(request)).status == 200
        await until(lambda: ours.notices[-1].get("Subscription-State") == "terminated;reason=timeout", WITHIN)
        told = list(ours.reported)
        third.answer()
        await happens(ours.ended)
        assert ours.reported == told
        await hung_up(third, theirs)

    play(scene, **{"confirm-blind-transfer": "true"})


@pytest.mark.parametrize(("number", "status"), [("1002", 486), ("7404", 404), ("9999", 404)])
def test_a_confirmed_transfer_that_fails_gives_the_call_back(number: str, status: int) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:{number}@{DOMAIN}>")).status == 202
        if number == "1002":
            (await carol.next_line(WITHIN)).reject(486)
        await ours.heard_of(status)
        await talk(ours, theirs)
        assert not ours.ended.is_set()
        await hung_up(ours, theirs)

    play(scene, **{"confirm-blind-transfer": "true"})


def test_a_referrer_that_waits_may_go_before_the_outcome() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        third = await carol.next_line(WITHIN)
        await ours.hangup()
        third.answer()
        await happens(third.answered)
        await talk(theirs, third)
        await hung_up(theirs, third)

    play(scene, **{"confirm-blind-transfer": "true"})


def test_a_transferred_leg_that_gives_up_ends_it_for_all() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
        third = await carol.next_line(WITHIN)
        assert (await theirs.hangup()).status == 200
        await happens(third.ended)
        assert third.ended_by == "cancelled"
        await happens(ours.ended)

    play(scene, **{"confirm-blind-transfer": "true"})


# ---- what is refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("", 400),
        ("<mailto:bob@example.org>", 400),
        ("<sip:1002@pbx.test;method=SUBSCRIBE>", 400),
        ("<sip:1002@pbx.test?Replaces=abc>", 400),
        ("<sip:1002@pbx.test>, <sip:1003@pbx.test>", 400),
    ],
)
def test_a_refer_that_names_nobody_is_refused(to: str, status: int) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer(to)).status == status
        await talk(ours, theirs)
        await hung_up(ours, theirs)

    play(scene)


def test_two_refer_to_fields_are_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert (await ours.refer("<sip:1002@pbx.test>", ("Refer-To", "<sip:1003@pbx.test>"))).status == 400
        await hung_up(ours, theirs)

    play(scene)


def test_a_profile_may_forbid_transfers() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        answer = await ours.refer("<sip:1002@pbx.test>")
        assert answer.status == 403
        assert "REFER" not in answer.get("Allow")
        await hung_up(ours, theirs)

    play(scene, **{"disable-transfer": "true"})


# ---- attended ----------------------------------------------------------------------------------------------------------------


async def consulting(cast: Cast, *, hold: bool = True) -> tuple[Line, Line, Line, Line]:
    """1000 talks to 1001, holds it, and calls 1002."""
    ours, theirs = await connected(cast, "1000", "1001")
    if hold:
        assert (await ours.reinvite("sendonly")).status == 200
    second, third = await connected(cast, "1000", "1002")
    return ours, theirs, second, third


def test_an_attended_transfer_brings_the_two_partners_together() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs, second, third = await consulting(cast)
        assert (await ours.refer(ours.replacement(second))).status == 202
        await happens(ours.ended)
        await happens(second.ended)
        assert ours.reported == [200]
        await until(lambda: "a=sendonly" not in theirs.remote_sdp, WITHIN)
        await quiet(theirs)
        await quiet(third)
        await talk(theirs, third)
        subclasses = [event.subclass for event in rig.events if event.subclass.startswith("sofia::t")]
        assert subclasses == ["sofia::transferor", "sofia::transferee"]
        await hung_up(third, theirs)
        assert not {481, 500} & {status for phone in cast.phones for status in phone.statuses()}

    play(scene, **{"fire-transfer-events": "true"})


def test_an_attended_transfer_by_who_was_called_both_times() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        theirs, ours = await connected(cast, "1001", "1000")
        third, second = await connected(cast, "1002", "1000")
        tag, mine = second.remote.partition(";tag=")[2], second.tag
        escaped = f"{second.call_id}%3Bto-tag%3D{tag}%3Bfrom-tag%3D{mine}".replace("@", "%40")
        assert (await ours.refer(f"<sip:1002@{DOMAIN}?Replaces={escaped}>")).status == 202
        await happens(ours.ended)
        await happens(second.ended)
        await talk(theirs, third)
        await hung_up(theirs, third)

    play(scene)


def test_a_transfer_to_who_still_rings_lets_the_partner_wait_for_the_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        second = await ours.phone.call("1002")
        third = await carol.next_line(WITHIN)
        await happens(second.ringing)
        second.remote = next(
            m.get("To") for _at, m in ours.phone.seen if m.status == 180 and m.call_id == second.call_id
        )
        assert (await ours.refer(ours.replacement(second))).status == 202
        await happens(ours.ended)
        await happens(second.ended)
        assert second.refused is not None
        assert second.refused.status == 487
        third.answer()
        await happens(third.answered)
        await talk(theirs, third)
        await hung_up(third, theirs)

    play(scene)


def test_a_transfer_to_an_application_that_was_called() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        second = await ours.phone.call("7002")
        await happens(second.answered)
        assert (await ours.refer(ours.replacement(second))).status == 202
        await happens(ours.ended)
        await happens(second.ended)
        assert theirs.audio
        before = theirs.audio.sent
        await until(lambda: theirs.audio and theirs.audio.arrivals and theirs.audio.arrivals[-1][1] >= before, WITHIN)
        await hung_up(theirs)

    play(scene)


def test_a_transfer_of_an_application_sends_the_other_partner_there() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        ours = await alice.call("7002")
        await happens(ours.answered)
        second, third = await connected(cast, "1000", "1002")
        assert (await ours.refer(ours.replacement(second))).status == 202
        await happens(ours.ended)
        await happens(second.ended)
        assert third.audio
        before = third.audio.sent
        await until(lambda: third.audio and third.audio.arrivals and third.audio.arrivals[-1][1] >= before, WITHIN)
        await hung_up(third)

    play(scene)


def test_a_transfer_to_a_dialog_that_is_not_ours_calls_there_with_replaces() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        to = f"<sip:1002@127.0.0.1:{carol.port}?Replaces=elsewhere%40x%3Bto-tag%3Daa%3Bfrom-tag%3Dbb>"
        assert (await ours.refer(to)).status == 202
        third = await carol.answer_next(WITHIN)
        assert invite_of(third).get("Replaces") == "elsewhere@x;to-tag=aa;from-tag=bb"
        await happens(ours.ended)
        assert ours.reported[-1] == 200
        await talk(theirs, third)
        await hung_up(third, theirs)

    play(scene)


def test_a_transfer_to_a_dialog_nobody_has_gives_the_call_back() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        to = f"<sip:1002@127.0.0.1:{carol.port}?Replaces=elsewhere%40x%3Bto-tag%3Daa%3Bfrom-tag%3Dbb>"
        assert (await ours.refer(to)).status == 202
        (await carol.next_line(WITHIN)).reject(481, "Call/Transaction Does Not Exist")
        await ours.heard_of(481)
        await talk(ours, theirs)
        await hung_up(theirs, ours)

    play(scene)
