"""Calling: whom a dial string reaches, who wins, and what is tried next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from node.calls import causes
from store.errors import StoreError, Unavailable
from store.interface import Store
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import WITHIN, happens, play, talking

T = TypeVar("T")


class Slow:
    """A store whose first answer is long in coming; all it says is that memory has to do."""

    def __init__(self, delay: float) -> None:
        self.answers = 0
        self._delay = delay

    def ask(
        self, _question: Callable[[Store], T], then: Callable[[T | StoreError], None], _deadline: float = 2.0
    ) -> None:
        delay, self._delay = self._delay, 0.0
        asyncio.get_running_loop().call_later(delay, self._answer, then)

    def _answer(self, then: Callable[[T | StoreError], None]) -> None:
        self.answers += 1
        then(Unavailable("slow"))


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


def test_whose_time_is_up_before_its_turn_has_come_is_not_called_any_more() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("7000")
        await happens(ours.ended)
        assert ours.refused
        assert ours.refused.status == 480
        await rig.idle()
        assert not bob.lines

    play(scene, extension("7000", ("set", "call_timeout=1"), ("bridge", "[leg_delay_start=2]user/1001")))


def test_legs_that_are_found_when_the_time_of_their_group_is_up_do_not_join_the_next_one() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, carol = await cast.phone("1000"), await cast.phone("1001"), await cast.phone("1002")
        store = Slow(1.5)
        rig.stage.location.attach(store)
        rig.stage.location.complete = False
        ours = await alice.call("7000")
        theirs = await carol.next_line(WITHIN)
        await until(lambda: store.answers == 2)
        assert len(rig.live[0].legs) == 2
        theirs.answer()
        await happens(ours.answered)
        await ours.hangup()
        await happens(theirs.ended)
        assert not bob.lines

    variables = "{originate_timeout=1,originate_continue_on_timeout=true}"
    play(scene, extension("7000", ("bridge", variables + "user/1001|user/1002")))


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


def test_times_and_truths_that_are_none_are_passed_over() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await cast.phone("1000"), await cast.phone("1001")
        ours = await alice.call("7300")
        theirs = await bob.answer_next()
        await happens(ours.answered)
        await theirs.hangup()
        await happens(ours.ended)

    odd = "[leg_timeout=soon,leg_delay_start=²,progress_timeout=1e999,ignore_early_media=²]user/1001@pbx.test"
    play(scene, extension("7300", ("set", "hangup_after_bridge=true"), ("bridge", odd)))
