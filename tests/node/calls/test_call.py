"""Calls on real sockets, node and media: what the phones see."""

from __future__ import annotations

import pytest

from node.calls import call
from store.records import decode_call
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import WITHIN, happens, play, talking


def test_a_call_is_bridged_talks_and_is_hung_up_by_the_caller() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        assert ours.audio
        assert theirs.audio
        await ours.audio.heard(5, WITHIN)
        await theirs.audio.heard(5, WITHIN)
        assert (await ours.hangup()).status == 200
        await happens(theirs.ended)
        assert theirs.ended_by == "them"
        assert ours.phone.statuses("INVITE") == [100, 180, 200]

    play(scene)


def test_the_callee_hangs_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        assert (await theirs.hangup()).status == 200
        await happens(ours.ended)

    play(scene)


def test_busy_is_passed_on() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("1001")
        (await bob.next_line()).reject(486)
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 486
        assert ours.refused.get("Reason") == 'Q.850;cause=17;text="USER_BUSY"'

    play(scene)


def test_a_status_is_passed_on_even_where_the_tables_would_make_another_of_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        for status in (480, 404, 603, 500):
            ours = await alice.call("1001")
            (await bob.next_line()).reject(status, "No")
            await happens(ours.ended)
            assert ours.refused
            assert ours.refused.status == status

    play(scene)


def test_who_is_not_registered_cannot_be_called() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        ours = await alice.call("1009")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 480
        assert ours.refused.get("Reason") == 'SIP;cause=806;text="USER_NOT_REGISTERED"'

    play(scene)


def test_an_unknown_number_is_not_found() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        ours = await alice.call("8888")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 404
        assert ours.refused.get("Reason") == 'Q.850;cause=3;text="NO_ROUTE_DESTINATION"'
        assert alice.statuses("INVITE") == [404]

    play(scene)


def test_the_caller_gives_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("1001")
        theirs = await bob.next_line()
        await happens(ours.ringing)
        assert (await ours.cancel()).status == 487
        await happens(theirs.ended)
        cancel = next(message for _at, message in bob.seen if message.method == "CANCEL")
        assert cancel.get("Reason") == 'SIP;cause=487;text="ORIGINATOR_CANCEL"'

    play(scene)


def test_applications_play_echo_and_hang_up() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        await happens(ours.answered)
        assert ours.audio
        await ours.audio.heard(3, WITHIN)
        await happens(ours.ended)
        assert ours.ended_by == "them"

    steps = (("answer", ""), ("playback", "tone_stream://%(100,0,400)"), ("sleep", "20"), ("hangup", ""))
    play(scene, extension("7000", *steps))


def test_a_transfer_asks_the_dialplan_anew() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 486

    play(scene, extension("7000", ("transfer", "7001 XML default")) + extension("7001", ("hangup", "USER_BUSY")))


def test_respond_and_redirect_answer_as_they_are_told() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        ours = await alice.call("7000")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.start == "SIP/2.0 606 Not Here"
        ours = await alice.call("7001")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 302
        assert ours.refused.get("Contact") == "<sip:5@192.0.2.9>"

    play(scene, extension("7000", ("respond", "606 Not Here")) + extension("7001", ("redirect", "sip:5@192.0.2.9")))


def test_what_no_call_can_be_made_of_is_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer = await Peer.open(rig.stage.internal)
        for headers, kind, status in (
            ([("Require", "100rel")], "application/sdp", 420),
            ([("Require", "join")], "application/sdp", 420),
            ([], "text/plain", 415),
            ([("Content-Encoding", "gzip")], "application/sdp", 415),
            ([("Session-Expires", "30"), ("Supported", "timer")], "application/sdp", 422),
        ):
            peer.invite("1001", "1000", sdp=OFFER, headers=headers, kind=kind)
            refusal = await peer.expect(status)
            peer.acknowledge_refusal(refusal)
        assert not rig.live
        peer.close()

    play(scene)


def test_a_profile_counts_its_calls_as_freeswitch_does() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        first = await alice.call("1001")
        (await bob.next_line(WITHIN)).answer()
        await happens(first.answered)
        assert (await first.hangup()).status == 200
        second = await alice.call("1001")
        (await bob.next_line(WITHIN)).reject(486)
        await happens(second.ended)
        await rig.idle()
        assert rig.switchboard.counters == {
            "internal.calls_in": 2,
            "internal.calls_out": 2,
            "internal.failed_calls_in": 1,
            "internal.failed_calls_out": 1,
        }
        exchange = rig.switchboard.exchange
        exchange.configure(exchange.configuration, exchange.directory)
        assert rig.switchboard.counters == {}

    play(scene)


def test_nothing_is_offered_that_is_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        assert (
            invite.get("Allow") == "INVITE, ACK, BYE, CANCEL, OPTIONS, MESSAGE, INFO, UPDATE, REGISTER, REFER, NOTIFY"
        )
        assert invite.get("Supported") == "timer, path, replaces"
        bob.answer(invite, 486)
        refusal = await peer.expect(486)
        assert refusal.get("Allow") == invite.get("Allow")
        peer.acknowledge_refusal(refusal)
        peer.close()
        bob.close()

    play(scene)


def test_too_many_calls_are_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        await cast.phone("1001")
        first = await alice.call("1001")
        await happens(first.ringing)
        second = await alice.call("1001")
        await happens(second.ended)
        assert second.refused
        assert second.refused.start == "SIP/2.0 503 Maximum Calls In Progress"
        assert second.refused.get("Retry-After") == "300"
        await first.cancel()

    play(scene, max_sessions=2)


def test_an_error_inside_a_call_ends_only_this_call() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)

        def broken() -> None:
            raise RuntimeError("on purpose")

        alice = cast.phones[0]
        other = await alice.call("1001")
        await cast.phones[1].next_line()
        await happens(other.ringing)
        rig.live[1].post(broken)
        await happens(other.ended)
        assert other.refused
        assert other.refused.status == 500
        assert len(rig.live) == 1
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)


def test_a_belated_bye_gets_its_200() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        await ours.hangup()
        await happens(theirs.ended)
        await rig.idle()
        answer = await theirs.phone.request(theirs._request("BYE"), theirs._next_hop())
        assert answer.status == 200

    play(scene)


def test_what_is_hung_up_by_hand_is_gone_on_both_sides() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        rows = rig.switchboard.channels()
        assert [row["callstate"] for row in rows] == ["ACTIVE", "ACTIVE"]
        assert rig.switchboard.kill(rows[1]["uuid"])
        await happens(ours.ended)
        await happens(theirs.ended)
        assert not rig.switchboard.kill("nobody")

    play(scene)


def test_the_first_record_of_a_call_holds_the_callees_invite(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        first = decode_call(rig.tap.records[0])
        assert [leg.invite is not None for leg in first.legs] == [True, True]
        await ours.hangup()
        await happens(theirs.ended)
        await rig.idle()
        assert len(rig.tap.records) == 6, "INVITE, 180, 200, ACK, BYE, and its end"

    monkeypatch.setattr(call, "FIRST", WITHIN)
    play(scene)


def test_a_call_that_waits_for_anything_else_is_on_record_soon_and_its_caller_told() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer = await Peer.open(rig.stage.internal)
        peer.invite("7000", "1000", sdp=OFFER)
        await until(lambda: rig.tap.records)
        await peer.expect(100)
        assert len(rig.tap.records) == 1
        rig.switchboard.hupall("USER_BUSY")
        peer.acknowledge_refusal(await peer.expect(486))
        peer.close()

    play(scene, extension("7000", ("sleep", "60000")))
