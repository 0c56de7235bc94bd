"""What the console does with single legs, and INFO and REFER that go through: on real sockets."""

from __future__ import annotations

import asyncio

import pytest

from node.calls.refer import target
from tests.node.calls.rig import DOMAIN, Cast, Rig, until
from tests.node.calls.test_transfer import WITHIN, connected, happens, hung_up, play, quiet, talk
from tests.support.phone import Line
from tests.support.sipmessage import Sip


def uuid_of(rig: Rig, line: Line) -> str:
    return next(
        leg.uuid
        for call in rig.live
        for leg in call.legs
        if leg.dialog is not None and leg.dialog.call_id == line.call_id
    )


@pytest.mark.parametrize("who", ["caller", "called", "-bleg"])
def test_uuid_transfer_sends_a_leg_to_a_number(who: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        carol = await cast.phone("1002")
        ours, theirs = await connected(cast, "1000", "1001")
        going, leaving = (ours, theirs) if who == "caller" else (theirs, ours)
        named = ours if who == "-bleg" else going
        words = ["-bleg", "1002"] if who == "-bleg" else ["1002", "XML", "default"]
        assert rig.switchboard.transfer(uuid_of(rig, named), words)
        third = await carol.answer_next(WITHIN)
        await happens(leaving.ended)
        await talk(going, third)
        await hung_up(third, going)

    play(scene)


def test_uuid_transfer_both_sends_each_leg_its_own_way() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert rig.switchboard.transfer(uuid_of(rig, ours), ["-both", "1002", "XML", "default"])
        carol = await cast.phone("1002")
        one, other = await carol.answer_next(WITHIN), await carol.answer_next(WITHIN)
        await until(lambda: len(rig.live) == 2 and all(len(call.bridged) == 2 for call in rig.live), WITHIN)
        firsts = {call.legs[0].uuid for call in rig.live}
        assert firsts == {call.uuid for call in rig.live} == {uuid_of(rig, ours), uuid_of(rig, theirs)}
        numbers = {parameter_of(line): line for line in (one, other)}
        await talk(ours, numbers["1000"])
        await talk(theirs, numbers["1001"])
        await hung_up(ours, numbers["1000"])
        assert not theirs.ended.is_set()
        await hung_up(numbers["1001"], theirs)

    play(scene)


def parameter_of(line: Line) -> str:
    """The number that a called line was called from."""
    return line.remote.partition("sip:")[2].partition("@")[0]


def test_uuid_transfer_both_to_nowhere_ends_both() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        assert rig.switchboard.transfer(uuid_of(rig, theirs), ["-both", "nowhere"])
        await happens(ours.ended)
        await happens(theirs.ended)

    play(scene)


def test_uuid_simplify_has_the_peers_talk_without_us() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        await until(lambda: all(leg.pending is None for call in rig.live for leg in call.legs), WITHIN)
        assert rig.switchboard.simplify(uuid_of(rig, ours))

        def referred() -> Sip | None:
            return next((m for _at, m in ours.phone.seen if m.method == "REFER" and not m.is_response), None)

        await until(referred, WITHIN)
        refer = referred()
        assert refer is not None
        wanted = target(refer.get("Refer-To"))
        assert str(wanted.uri) == theirs.phone.contact
        assert wanted.replaces is not None
        # As the other phone sees its dialog: its own tag is the To tag (RFC 3891 3).
        tags = wanted.replaces.call_id, wanted.replaces.to_tag, wanted.replaces.from_tag
        assert tags == (theirs.call_id, theirs.tag, theirs.remote.partition("tag=")[2])
        await hung_up(theirs, ours)
        assert not rig.switchboard.simplify(uuid_of(rig, ours) if rig.live else "gone")

    play(scene)


def test_uuid_bridge_brings_legs_of_two_calls_together() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        third, fourth = await connected(cast, "1002", "1003")
        await until(lambda: all(leg.pending is None for call in rig.live for leg in call.legs), WITHIN)
        assert rig.switchboard.bridge(uuid_of(rig, ours), uuid_of(rig, fourth))
        await happens(theirs.ended)
        await happens(third.ended)
        await quiet(ours)
        await quiet(fourth)
        await talk(ours, fourth)
        await hung_up(fourth, ours)

    play(scene)


@pytest.mark.parametrize("status", [200, 486])
def test_uuid_deflect_hangs_up_when_the_peer_has_called_there(status: int) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        uuid = uuid_of(rig, theirs)
        assert rig.switchboard.deflect(uuid, "sip:1002@elsewhere.test")

        def referred() -> Sip | None:
            return next((m for _at, m in theirs.phone.seen if m.method == "REFER" and not m.is_response), None)

        await until(referred, WITHIN)
        refer = referred()
        assert refer is not None
        assert refer.get("Refer-To") == "<sip:1002@elsewhere.test>"
        for said, state in ((100, "active;expires=60"), (status, "terminated;reason=noresource")):
            extra = [("Event", "refer"), ("Subscription-State", state)]
            notify = theirs._request("NOTIFY", extra, f"SIP/2.0 {said} So It Is\r\n")
            notify.fields = [(n, "message/sipfrag" if n == "Content-Type" else v) for n, v in notify.fields]
            assert (await theirs.phone.request(notify)).status == 200
        told = [event for event in rig.events if event.subclass == "sofia::notify_refer"]
        assert [event.body for event in told] == ["SIP/2.0 100 So It Is\r\n", f"SIP/2.0 {status} So It Is\r\n"]
        if status == 200:
            await happens(theirs.ended)
            bye = next(m for _at, m in theirs.phone.seen if m.method == "BYE" and not m.is_response)
            assert bye.get("Reason") == 'SIP;cause=800;text="BLIND_TRANSFER"'
            await happens(ours.ended)
        else:
            await hung_up(ours, theirs)

    play(scene)


@pytest.mark.parametrize(
    ("kind", "body", "digit", "duration"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5", "1280"),
        ("application/dtmf", "11", "#", "2000"),
        ("application/x-unknown", "whatever", "", ""),
    ],
)
def test_info_goes_to_the_other_leg_and_a_key_is_told(kind: str, body: str, digit: str, duration: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        info = ours._request("INFO", [], body)
        info.fields = [(n, kind if n == "Content-Type" else v) for n, v in info.fields]
        assert (await ours.phone.request(info)).status == 200
        passed = next(m for _at, m in theirs.phone.seen if m.method == "INFO")
        assert (passed.get("Content-Type"), passed.body) == (kind, body)
        keys = [dict(event.headers) for event in rig.events if event.name == "DTMF"]
        assert [(key["DTMF-Digit"], key["DTMF-Duration"]) for key in keys] == ([(digit, duration)] if digit else [])
        await hung_up(ours, theirs)

    play(scene)


def test_a_profile_may_pass_refer_to_the_other_leg() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        asking = asyncio.create_task(ours.refer(f"<sip:1002@{DOMAIN}>"))
        answer = await asking
        assert answer.status == 200  # the scripted phone's word for everything
        refer = next(m for _at, m in theirs.phone.seen if m.method == "REFER" and not m.is_response)
        assert refer.get("Refer-To") == f"<sip:1002@{DOMAIN}>"
        extra = [("Event", f"refer;id={refer.cseq}"), ("Subscription-State", "terminated;reason=noresource")]
        notify = theirs._request("NOTIFY", extra, "SIP/2.0 200 OK\r\n")
        assert (await theirs.phone.request(notify)).status == 200
        assert ours.notices[0].get("Event") == f"refer;id={answer.cseq}"
        await hung_up(ours, theirs)

    play(scene, **{"proxy-refer": "true"})


def test_a_body_nobody_can_read_is_refused_in_a_dialog_too() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await connected(cast, "1000", "1001")
        for disposition, status in (("session", 415), ("session;handling=optional", 200)):
            update = ours._request("UPDATE", [("Content-Disposition", disposition)], "<x/>")
            update.fields = [(n, "text/xml" if n == "Content-Type" else v) for n, v in update.fields]
            answer = await ours.phone.request(update)
            assert answer.status == status
            if status == 415:
                assert answer.get("Accept") == "application/sdp"
        await hung_up(ours, theirs)

    play(scene)
