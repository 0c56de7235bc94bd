"""Calls on real sockets, node and media: what the phones see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from node.calls import causes
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import DOMAIN, Cast, Rig, extension, node, until
from tests.support.phone import Line

WITHIN = 5.0


def play(scene: Callable[[Rig, Cast], Awaitable[None]], extensions: str = "", **options: int) -> None:
    """Play a scene on a node of its own; afterwards no call is left."""

    async def everything() -> None:
        async with node(extensions, **options) as (rig, cast):
            await scene(rig, cast)
            await rig.idle()
            assert not rig.switchboard.exchange.dialogs

    asyncio.run(everything())


async def happens(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), WITHIN)


async def talking(rig: Rig, cast: Cast) -> tuple[Line, Line]:
    alice, bob = await cast.phone("1000"), await cast.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.answer_next()
    await happens(ours.answered)
    await until(lambda: rig.live[0].legs[0].pending is None)
    return ours, theirs


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


def test_the_callees_invite_is_as_freeswitch_writes_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        invite = next(message for _at, message in theirs.phone.seen if message.method == "INVITE")
        assert invite.start == f"INVITE {theirs.phone.contact} SIP/2.0"
        assert invite.get("Max-Forwards") == "69"
        assert invite.get("From").startswith('"Extension 1000" <sip:1000@pbx.test>;tag=internal.0-')
        assert invite.get("To") == f"<{theirs.phone.contact}>"
        assert invite.get("Contact") == f"<sip:mod_sofia@127.0.0.1:{rig.stage.internal[1]}>"
        assert (
            invite.get("Remote-Party-ID") == '"Extension 1000" <sip:1000@pbx.test>;party=calling;screen=yes;privacy=off'
        )
        assert "100rel" not in invite.get("Supported")
        bye = asyncio.create_task(ours.hangup())
        await happens(theirs.ended)
        await bye
        goodbye = next(message for _at, message in theirs.phone.seen if message.method == "BYE")
        assert goodbye.get("Reason") == 'Q.850;cause=16;text="NORMAL_CLEARING"'

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


def test_nobody_answers_in_time() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("7000")
        theirs = await bob.next_line()
        await happens(theirs.ended)
        assert theirs.ended_by == "cancelled"
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 480

    play(scene, extension("7000", ("set", "call_timeout=1"), ("bridge", "user/1001")))


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


def test_the_first_to_answer_wins_and_the_others_learn_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        carol, dave = await cast.phone("1001"), await cast.phone("1002")
        ours = await alice.call("7000")
        lines = [await phone.next_line() for phone in (bob, carol, dave)]
        lines[1].answer()
        await happens(ours.answered)
        for index in (0, 2):
            await happens(lines[index].ended)
            cancel = next(message for _at, message in lines[index].phone.seen if message.method == "CANCEL")
            assert cancel.get("Reason") == causes.COMPLETED_ELSEWHERE
        await ours.hangup()
        await happens(lines[1].ended)

    play(scene, extension("7000", ("bridge", "user/1001,user/1002")))


def test_the_next_group_follows_and_the_dialplan_goes_on() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("7000")
        (await bob.next_line()).reject(486)
        (await bob.next_line()).reject(486)
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 410

    steps = (
        ("set", "continue_on_fail=USER_BUSY"),
        ("bridge", "user/1001|error/NO_ANSWER|user/1001"),
        ("hangup", "NUMBER_CHANGED"),
    )

    play(scene, extension("7000", *steps[:2], ("set", "sip_ignore_remote_cause=true"), steps[2]))


def test_a_call_leaves_by_another_profile() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        peer = await Peer.open(rig.stage.external, rig.stage.carrier)
        ours = await alice.call("7000")
        invite = await peer.expect("INVITE")
        assert invite.start == f"INVITE sip:555@127.0.0.1:{rig.stage.carrier} SIP/2.0"
        assert invite.get("Via").startswith(f"SIP/2.0/UDP 127.0.0.1:{rig.stage.external[1]}")
        peer.answer(invite, 200, sdp=OFFER)
        await peer.expect("ACK")
        await happens(ours.answered)
        bye = asyncio.create_task(ours.hangup())
        peer.answer(await peer.expect("BYE"), 200)
        await bye
        peer.close()

    play(scene, extension("7000", ("bridge", "sofia/external/555@127.0.0.1:CARRIER")))


def test_a_gateway_is_told_who_we_are() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        peer = await Peer.open(rig.stage.external, rig.stage.carrier)
        ours = await alice.call("7000")
        invite = await peer.expect("INVITE")
        assert invite.get("From").startswith(f"<sip:us@127.0.0.1:{rig.stage.carrier}>;tag=")
        challenge = ("Proxy-Authenticate", 'Digest realm="carrier.test", nonce="n1", algorithm=MD5, qop="auth"')
        peer.answer(invite, 407, headers=[challenge])
        await peer.expect("ACK")
        again = await peer.expect("INVITE")
        assert again.cseq == invite.cseq + 1
        assert again.call_id == invite.call_id
        assert 'username="us"' in again.get("Proxy-Authorization")
        peer.answer(again, 603)
        await peer.expect("ACK")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 603
        peer.close()

    play(scene, extension("7000", ("bridge", "sofia/gateway/carrier/555")))


def test_a_redirected_invite_follows() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await cast.phone("1000")
        peer, other = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", peer.contact)
        ours = await alice.call("1001")
        invite = await peer.expect("INVITE")
        peer.answer(invite, 302, headers=[("Contact", f"<{other.contact}>")])
        await peer.expect("ACK")
        again = await other.expect("INVITE")
        assert again.start == f"INVITE {other.contact} SIP/2.0"
        other.answer(again, 486)
        await other.expect("ACK")
        await happens(ours.ended)
        peer.close()
        other.close()

    play(scene)


def test_an_unknown_gateway_profile_or_application_ends_the_call_with_its_cause() -> None:
    for data, status in (("sofia/gateway/nosuch/1", 484), ("sofia/nosuch/1@127.0.0.1", 502), ("nonsense", 484)):

        async def scene(rig: Rig, cast: Cast, expected: int = status) -> None:
            ours = await (await cast.phone("1000")).call("7000")
            await happens(ours.ended)
            assert ours.refused
            assert ours.refused.status == expected

        play(scene, extension("7000", ("bridge", data)))


def test_hold_and_unhold_reach_the_other_side() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        rig.stream.want(["CHANNEL_HOLD", "CHANNEL_UNHOLD"])
        assert (await ours.reinvite("sendonly")).status == 200
        assert "a=sendonly" in theirs.remote_sdp
        assert rig.live[0].legs[0].callstate == "HELD"
        assert (await ours.reinvite("sendrecv")).status == 200
        assert "a=sendonly" not in theirs.remote_sdp
        assert rig.live[0].legs[0].callstate == "ACTIVE"
        assert [event.name for event in rig.events] == ["CHANNEL_HOLD", "CHANNEL_UNHOLD"]
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)


def test_both_sides_change_the_call_at_once_and_both_are_told_to_wait_their_turn() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours, theirs = await talking(rig, cast)
        answers = await asyncio.gather(ours.reinvite("sendonly"), theirs.reinvite("sendonly"))
        assert sorted(answer.status for answer in answers) in ([200, 491], [491, 491])
        assert (await ours.reinvite("sendrecv")).status == 200
        await ours.hangup()
        await happens(theirs.ended)

    play(scene)


def test_an_offer_may_come_from_the_callee_when_the_caller_makes_none() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp="")
        invite = await bob.expect("INVITE")
        assert not invite.body
        bob.answer(invite, 200, sdp=OFFER)
        ok = await peer.expect(200)
        assert "m=audio" in ok.body
        assert not said(bob, "ACK")
        peer.ack(ok, sdp=OFFER)
        ack = await bob.expect("ACK")
        assert "m=audio" in ack.body
        peer.bye(ok)
        bob.answer(await bob.expect("BYE"), 200)
        await peer.expect(200)
        peer.close()
        bob.close()

    play(scene)


def test_a_200_is_repeated_until_it_is_acknowledged() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await cast.phone("1001")
        peer.invite("1001", "1000", sdp=OFFER)
        theirs = await bob.answer_next()
        first = await peer.expect(200)
        again = await peer.expect(200)
        assert again.encode() == first.encode()
        peer.ack(first)
        await until(lambda: rig.live[0].legs[0].pending is None)
        peer.bye(first)
        await happens(theirs.ended)
        peer.close()

    play(scene)


def test_a_200_of_the_callee_that_comes_again_is_acknowledged_again() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        ours = await alice.call("1001")
        invite = await bob.expect("INVITE")
        ok = bob.answer(invite, 200, sdp=OFFER)
        await bob.expect("ACK")
        bob.send(ok)
        ack = await bob.expect("ACK")
        assert ack.cseq == invite.cseq
        bye = asyncio.create_task(ours.hangup())
        bob.answer(await bob.expect("BYE"), 200)
        await bye
        bob.close()

    play(scene)


def test_early_media_is_passed_on() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        ours = await alice.call("1001")
        invite = await bob.expect("INVITE")
        bob.answer(invite, 183, sdp=OFFER)
        await happens(ours.ringing)
        assert "m=audio" in ours.remote_sdp
        assert alice.statuses("INVITE") == [100, 183]
        bob.answer(invite, 200, sdp=OFFER)
        await happens(ours.answered)
        bye = asyncio.create_task(ours.hangup())
        await bob.expect("ACK")
        bob.answer(await bob.expect("BYE"), 200)
        await bye
        bob.close()

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


def test_foreign_headers_and_exported_variables_reach_the_callee() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("7000", "1000", sdp=OFFER, headers=[("X-Color", "blue"), ("X-FS-Secret", "no")])
        invite = await bob.expect("INVITE")
        assert invite.get("X-Color") == "blue"
        assert invite.get("X-Shape") == "round"
        assert not invite.get("X-FS-Secret")
        bob.answer(invite, 486)
        await bob.expect("ACK")
        peer.acknowledge_refusal(await peer.expect(486))
        peer.close()
        bob.close()

    play(scene, extension("7000", ("export", "nolocal:sip_h_X-Shape=round"), ("bridge", "user/1001")))


def test_small_requests_in_a_dialog() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("1001", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        ok = await peer.expect(200)
        peer.ack(ok)
        await bob.expect("ACK")
        peer.within(ok, "OPTIONS")
        await peer.expect(200)
        peer.within(ok, "INFO", body="Signal=5\r\nDuration=100\r\n", kind="application/dtmf-relay")
        info = await bob.expect("INFO")
        assert info.body == "Signal=5\r\nDuration=100\r\n"
        bob.answer(info, 200)
        await peer.expect(200)
        peer.within(ok, "REFER", headers=[("Refer-To", "<sip:1002@pbx.test>")])
        await peer.expect(405)
        peer.within(ok, "SUBSCRIBE")
        await peer.expect(405)
        peer.within(ok, "UPDATE")
        await peer.expect(200)
        peer.bye(ok)
        bob.answer(await bob.expect("BYE"), 200)
        await peer.expect(200)
        peer.close()
        bob.close()

    play(scene)


def test_what_no_call_can_be_made_of_is_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer = await Peer.open(rig.stage.internal)
        for headers, kind, status in (
            ([("Require", "100rel")], "application/sdp", 420),
            ([("Require", "replaces")], "application/sdp", 420),
            ([], "text/plain", 415),
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
        assert invite.get("Allow") == "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, REGISTER, NOTIFY"
        assert invite.get("Supported") == "timer, path"
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


def test_originate_calls_and_runs_an_application() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        bob = await cast.phone("1001")
        replies: list[str] = []
        rig.switchboard.originate("user/1001@pbx.test &echo()", replies.append)
        theirs = await bob.answer_next()
        await until(lambda: replies)
        assert replies[0].startswith("+OK ")
        assert theirs.audio
        await theirs.audio.heard(3, WITHIN)
        await theirs.hangup()
        replies.clear()
        rig.switchboard.originate("user/1009@pbx.test &echo()", replies.append)
        assert replies == ["-ERR USER_NOT_REGISTERED"]

    play(scene)


def test_the_domain_of_the_tests_is_the_directorys() -> None:
    assert DOMAIN == "pbx.test"
