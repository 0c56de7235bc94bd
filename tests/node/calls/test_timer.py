"""Session timers (RFC 4028) on both legs: what is agreed on, who refreshes, and when a session is over."""

from __future__ import annotations

import pytest

from node.calls import timer
from tests.node.calls.clock import leap
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import play
from tests.support.sipmessage import Sip

TIMER = ("Supported", "timer")
ALLOW = ("Allow", "INVITE, ACK, BYE, CANCEL, UPDATE")
CALLED = extension(
    "7001", ("set", "sofia_session_timeout=0"), ("set", "hangup_after_bridge=true"), ("bridge", "user/1001")
)
ECHO = extension("7000", ("answer", ""), ("echo", ""))


async def answered(rig: Rig, *headers: tuple[str, str]) -> tuple[Peer, Sip]:
    """A caller whose INVITE bears these headers is answered by an application; itself and the 200."""
    alice = await Peer.open(rig.stage.internal)
    alice.invite("7000", "1000", sdp=OFFER, headers=list(headers))
    ok = await alice.expect(200)
    alice.ack(ok)
    await until(lambda: rig.live[0].legs[0].pending is None)
    return alice, ok


async def called(rig: Rig, *headers: tuple[str, str]) -> tuple[Peer, Peer, Sip, Sip]:
    """A caller without a timer, and a callee whose 200 bears these headers; both, the caller's 200, the callee's INVITE."""
    alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
    rig.stage.register("1001", bob.contact)
    alice.invite("7001", "1000", sdp=OFFER)
    invite = await bob.expect("INVITE")
    bob.answer(invite, 200, sdp=OFFER, headers=[("Contact", f"<{bob.contact}>"), *headers])
    ok = await alice.expect(200)
    alice.ack(ok)
    await bob.expect("ACK")
    await until(lambda: rig.live[0].legs[0].pending is None)
    return alice, bob, ok, invite


async def fresh(peer: Peer, method: str, last: Sip) -> Sip:
    """The next request of this method that is not the last one again."""
    while (request := await peer.expect(method)).cseq == last.cseq:
        pass
    return request


async def hang_up(alice: Peer, ok: Sip, bob: Peer | None = None) -> None:
    alice.bye(ok)
    if bob is not None:
        bob.answer(await bob.expect("BYE"), 200)
        bob.close()
    await alice.expect(200)
    alice.close()


# ---- what is agreed on with a caller -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "timeout", "granted"),
    [
        # RFC 4028 9, table 2: who refreshes. As in mod_sofia it is the caller, where it leaves that to us.
        ([TIMER, ("Session-Expires", "600")], 0, "600;refresher=uac"),
        ([TIMER, ("Session-Expires", "600;refresher=uac")], 0, "600;refresher=uac"),
        ([TIMER, ("Session-Expires", "600;refresher=uas")], 0, "600;refresher=uas"),
        ([("Session-Expires", "600")], 0, "600;refresher=uas"),
        ([TIMER], 0, ""),
        ([], 0, ""),
        # Ours, where the caller names none or a longer one; not below what a proxy on the way wants.
        ([TIMER], 1800, "1800;refresher=uac"),
        ([], 1800, "1800;refresher=uas"),
        ([TIMER, ("Session-Expires", "3600")], 1800, "1800;refresher=uac"),
        ([TIMER, ("Session-Expires", "900")], 1800, "900;refresher=uac"),
        ([TIMER, ("Session-Expires", "3600"), ("Min-SE", "2400")], 1800, "2400;refresher=uac"),
        ([TIMER, ("Min-SE", "2400")], 1800, "2400;refresher=uac"),
    ],
)
def test_interval_and_refresher_of_a_caller(asked: list[tuple[str, str]], timeout: int, granted: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await answered(rig, *asked)
        assert ok.get("Session-Expires") == granted
        assert ok.get("Require") == ("timer" if granted.endswith("uac") else "")
        await hang_up(alice, ok)

    play(scene, ECHO, params={"session-timeout": str(timeout)})


def test_too_short_an_interval_is_refused_with_ours() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await Peer.open(rig.stage.internal)
        alice.invite("7000", "1000", sdp=OFFER, headers=[TIMER, ("Session-Expires", "200")])
        refusal = await alice.expect(422)
        assert refusal.get("Min-SE") == "300"
        alice.acknowledge_refusal(refusal)
        again, ok = await answered(rig, TIMER, ("Session-Expires", "300"), ("Min-SE", "300"))
        for method in ("INVITE", "UPDATE"):
            again.within(ok, method, headers=[("Session-Expires", "90")], body=OFFER, kind="application/sdp")
            assert (await again.expect(422)).get("Min-SE") == "300"
        await hang_up(again, ok)
        alice.close()

    play(scene, ECHO, params={"minimum-session-expires": "300"})


def test_without_enable_timer_nothing_of_it_is_said_or_done() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice = await Peer.open(rig.stage.internal)
        alice.invite("7000", "1000", sdp=OFFER, headers=[("Require", "timer")])
        refusal = await alice.expect(420)
        alice.acknowledge_refusal(refusal)
        again, ok = await answered(rig, TIMER, ("Session-Expires", "600"))
        assert not ok.get("Session-Expires")
        assert "timer" not in ok.get("Supported")
        await hang_up(again, ok)
        alice.close()

    play(scene, ECHO, params={"enable-timer": "false", "session-timeout": "1800"})


def test_variables_choose_the_interval_and_drop_the_require() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await answered(rig, TIMER)
        assert ok.get("Session-Expires") == "120;refresher=uac"
        assert not ok.get("Require")
        await hang_up(alice, ok)

    steps = (("set", "sofia_session_timeout=120"), ("set", "sip_require_timer=false"), ("answer", ""), ("echo", ""))
    play(scene, extension("7000", *steps))


# ---- what is agreed on with a callee -------------------------------------------------------------------------------------


def test_a_callee_is_offered_a_timer_that_we_refresh() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, invite = await called(rig, ("Session-Expires", "1800;refresher=uac"), ALLOW)
        assert invite.get("Session-Expires") == "1800;refresher=uac"
        assert invite.get("Min-SE") == "120"
        await leap(880.0, 40.0)
        assert not said(bob, "UPDATE")
        await leap(40.0, 10.0)
        update = await bob.expect("UPDATE")
        assert update.get("Session-Expires") == "1800;refresher=uac"
        assert not update.body
        bob.answer(update, 200, headers=[("Session-Expires", "1800;refresher=uac")])
        await until(lambda: rig.live[0].legs[1].refresh is not None)
        await leap(920.0, 40.0)
        bob.answer(await bob.expect("UPDATE"), 200, headers=[("Session-Expires", "1800;refresher=uac")])
        await hang_up(alice, ok, bob)

    play(scene, CALLED, params={"session-timeout": "1800", "minimum-session-expires": "120"})


def test_a_callee_that_finds_the_interval_too_short_is_asked_again_with_its_own() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 422, headers=[("Min-SE", "3600")])
        assert (await bob.expect("ACK")).cseq == invite.cseq
        again = await bob.expect("INVITE")
        assert again.cseq == invite.cseq + 1
        assert again.call_id == invite.call_id
        assert again.get("Session-Expires") == "3600;refresher=uac"
        assert again.get("Min-SE") == "3600"
        bob.answer(again, 422, headers=[("Min-SE", "3600")])
        await bob.expect("ACK")
        alice.acknowledge_refusal(await alice.expect(422))
        alice.close()
        bob.close()

    play(scene, CALLED, params={"session-timeout": "1800"})


def test_a_callee_without_timers_or_update_is_refreshed_by_reinvite() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, _invite = await called(rig)
        await leap(61.0, 5.0)
        refresh = await bob.expect("INVITE")
        assert refresh.get("Session-Expires") == "120;refresher=uac"
        assert "m=audio" in refresh.body
        bob.answer(refresh, 200, sdp=OFFER)
        await bob.expect("ACK")
        await until(lambda: rig.live[0].legs[1].refresh is not None)
        await leap(61.0, 5.0)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        await bob.expect("ACK")
        await hang_up(alice, ok, bob)

    play(scene, CALLED, params={"session-timeout": "120"})


def test_update_refresher_false_prefers_the_reinvite() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, _invite = await called(rig, ("Session-Expires", "120;refresher=uac"), ALLOW)
        await leap(61.0, 5.0)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        await bob.expect("ACK")
        await hang_up(alice, ok, bob)

    play(scene, CALLED, params={"session-timeout": "120", "update-refresher": "false"})


# ---- when a refresh fails, or does not come ----------------------------------------------------------------------------


def test_a_session_that_the_caller_does_not_refresh_is_ended_in_time() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, _ok = await answered(rig, TIMER, ("Session-Expires", "120;refresher=uac"))
        rig.stream.want(["CHANNEL_HANGUP"])
        await leap(85.0, 5.0)
        assert rig.live[0].legs[0].confirmed
        await leap(5.0)
        bye = await alice.expect("BYE")
        assert bye.get("Reason") == 'Q.850;cause=102;text="RECOVERY_ON_TIMER_EXPIRE"'
        alice.answer(bye, 200)
        alice.close()

    play(scene, ECHO)


def test_a_leg_that_goes_to_another_call_takes_the_age_of_its_session_along() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, _ok = await answered(rig, TIMER, ("Session-Expires", "120;refresher=uac"))
        await leap(60.0, 5.0)
        timer.carry_on(rig.live[0], rig.live[0].legs[0])
        await leap(25.0, 5.0)
        assert rig.live[0].legs[0].confirmed
        await leap(5.0)
        alice.answer(await alice.expect("BYE"), 200)
        alice.close()

    play(scene, ECHO)


def test_each_refresh_of_the_caller_counts_anew() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await answered(rig, TIMER, ("Session-Expires", "120;refresher=uac"))
        wish = [TIMER, ("Session-Expires", "120;refresher=uac")]
        for method in ("UPDATE", "INVITE", "UPDATE"):
            await leap(70.0, 5.0)
            body = OFFER if method == "INVITE" else ""
            alice.within(ok, method, headers=wish, body=body, kind="application/sdp")
            again = await alice.expect(200)
            assert again.get("Session-Expires") == "120;refresher=uac"
            if method == "INVITE":
                alice.ack(again)
                await until(lambda: rig.live[0].legs[0].pending is None)
        assert rig.live[0].legs[0].confirmed
        await hang_up(alice, ok)

    play(scene, ECHO)


def test_a_reinvite_without_a_session_timer_ends_the_timer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await answered(rig, TIMER, ("Session-Expires", "120;refresher=uac"))
        alice.within(ok, "INVITE", body=OFFER, kind="application/sdp")
        again = await alice.expect(200)
        assert not again.get("Session-Expires")
        alice.ack(again)
        await until(lambda: rig.live[0].legs[0].pending is None)
        await leap(200.0, 10.0)
        assert rig.live[0].legs[0].confirmed
        await hang_up(alice, ok)

    play(scene, ECHO)


@pytest.mark.parametrize("status", [481, 408])
def test_a_callee_that_does_not_know_the_call_any_more_is_given_up(status: int) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, _ok, _invite = await called(rig, ("Session-Expires", "120;refresher=uac"), ALLOW)
        await leap(61.0, 5.0)
        bob.answer(await bob.expect("UPDATE"), status)
        bob.answer(await bob.expect("BYE"), 481)
        bye = await alice.expect("BYE")
        assert bye.get("Reason") == 'Q.850;cause=102;text="RECOVERY_ON_TIMER_EXPIRE"'
        alice.answer(bye, 200)
        alice.close()
        bob.close()

    play(scene, CALLED, params={"session-timeout": "120"})


def test_a_refresh_that_fails_otherwise_is_tried_again_until_the_session_is_over() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, _ok, _invite = await called(rig, ("Session-Expires", "120;refresher=uac"), ALLOW)
        await leap(61.0, 5.0)
        first = await bob.expect("UPDATE")
        bob.answer(first, 422, headers=[("Min-SE", "200")])
        larger = await fresh(bob, "UPDATE", first)
        assert larger.get("Session-Expires") == "200;refresher=uac"
        assert larger.get("Min-SE") == "200"
        bob.answer(larger, 501)
        by_invite = await bob.expect("INVITE")
        bob.answer(by_invite, 491)
        await bob.expect("ACK")
        await until(lambda: rig.live[0].legs[1].pending is None)
        await leap(4.1)
        once_more = await fresh(bob, "INVITE", by_invite)
        bob.answer(once_more, 500, headers=[("Retry-After", "3")])
        await bob.expect("ACK")
        await until(lambda: rig.live[0].legs[1].pending is None)
        await leap(200.0, 2.0)
        while said(bob, "INVITE"):
            await bob.expect("INVITE")
        bob.answer(await bob.expect("BYE"), 200)
        alice.answer(await alice.expect("BYE"), 200)
        alice.close()
        bob.close()

    play(scene, CALLED, params={"session-timeout": "120"})


def test_ringing_for_long_is_no_session() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("7000", "1000", sdp=OFFER, headers=[TIMER, ("Session-Expires", "90;refresher=uac")])
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        await alice.expect(180)
        await leap(120.0, 10.0)
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        await hang_up(alice, ok, bob)

    play(scene, extension("7000", ("set", "call_timeout=600"), ("bridge", "user/1001")))


# ---- when the node dies ---------------------------------------------------------------------------------------------------


def test_a_successor_ends_a_session_when_its_predecessor_would_have() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, _ok = await answered(rig, TIMER, ("Session-Expires", "300;refresher=uac"))
        await leap(150.0, 10.0)
        successor, results = rig.succeed()
        assert all(result.ok for result in results)
        await leap(110.0, 10.0)
        assert successor.live[0].legs[0].confirmed
        await leap(10.0)
        alice.answer(await alice.expect("BYE"), 200)
        await successor.idle()
        successor.bury()
        rig.switchboard.exchange.calls.clear()
        alice.close()

    play(scene, ECHO)


def test_a_successor_refreshes_when_its_predecessor_would_have() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok, _invite = await called(rig, ("Session-Expires", "300;refresher=uac"), ALLOW)
        await leap(100.0, 10.0)
        successor, _results = rig.succeed()
        await leap(40.0, 10.0)
        assert not said(bob, "UPDATE")
        await leap(12.0)
        bob.answer(await bob.expect("UPDATE"), 200, headers=[("Session-Expires", "300;refresher=uac")])
        await hang_up(alice, ok, bob)
        await successor.idle()
        successor.bury()

    play(scene, CALLED, params={"session-timeout": "300"})


def test_a_session_that_ran_out_while_nobody_was_there_is_given_a_moment() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await answered(rig, TIMER, ("Session-Expires", "120;refresher=uac"))
        rig.crash()
        await leap(100.0, 10.0)
        successor, _results = rig.succeed()
        await leap(5.0)
        alice.within(ok, "UPDATE", headers=[TIMER, ("Session-Expires", "120;refresher=uac")])
        await alice.expect(200)
        await leap(20.0, 5.0)
        assert successor.live[0].legs[0].confirmed
        await hang_up(alice, ok)
        await successor.idle()
        successor.bury()

    play(scene, ECHO)
