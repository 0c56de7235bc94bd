"""What is not answered yet when a node with an address of its own takes over: who is told what, and by which Via."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from node.calls.anew import from_here
from node.calls.ledger import Result
from tests.node.calls.crash import NO_PARAMS
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Rig, Stage, stage, until
from tests.node.calls.test_reliable import KNOWS, RELIABLE, rack
from tests.support.sipmessage import Sip, uri_of


class Scene:
    """Two bare peers around a node, and whoever succeeds it."""

    def __init__(self, made: Stage, alice: Peer, bob: Peer) -> None:
        self.stage = made
        self.rig = Rig(made)
        self.alice, self.bob = alice, bob
        self.results: list[Result] = []

    async def ring(self, headers: list[tuple[str, str]] | None = None) -> tuple[Sip, Sip]:
        """Alice calls, bob rings; what the one has heard and the other was told."""
        self.alice.invite("1001", "1000", sdp=OFFER, headers=headers)
        invite = await self.bob.expect("INVITE")
        self.bob.answer(invite, 180)
        ringing = await self.alice.expect(180)
        await until(lambda: self.rig.live[0].legs[1].state == "ringing")
        return ringing, invite

    async def talk(self) -> tuple[Sip, Sip]:
        """The same, answered and acknowledged on both sides: the two 200s."""
        _ringing, invite = await self.ring()
        answered = self.bob.answer(invite, 200, sdp=OFFER)
        ok = await self.alice.expect(200)
        self.alice.ack(ok)
        await self.bob.expect("ACK")
        await until(lambda: self.rig.live[0].legs[0].pending is None)
        return ok, answered

    def move(self) -> None:
        """The node dies; another one with an address of its own takes over."""
        records = self.rig.stored()
        self.rig.bury()
        self.stage.move()
        self.alice.server = self.bob.server = self.stage.internal
        self.rig = Rig(self.stage, "two", 2)
        self.results = self.rig.switchboard.revive(records)


@asynccontextmanager
async def scene(params: Mapping[str, str] = NO_PARAMS) -> AsyncIterator[Scene]:
    with stage(params=params) as made:
        alice, bob = await Peer.open(made.internal), await Peer.open(made.internal)
        made.register("1001", bob.contact)
        play = Scene(made, alice, bob)
        try:
            yield play
        finally:
            play.rig.bury()
            alice.close()
            bob.close()


async def hang_up(play: Scene, ok: Sip) -> None:
    """Alice goes: the call ends on both sides."""
    play.alice.bye(ok)
    play.bob.answer(await play.bob.expect("BYE"), 200)
    await play.alice.expect(200)
    await play.rig.idle()


def test_who_rings_is_cancelled_by_the_old_via_and_called_anew_when_that_is_answered() -> None:
    async def play() -> None:
        async with scene() as made:
            rung, invite = await made.ring()
            made.move()
            again = await made.alice.expect(180)
            assert again.get("To") == rung.get("To")
            assert again.get("Via") == rung.get("Via")
            assert f"@{made.stage.host}:" in again.get("Contact")
            cancel = await made.bob.expect("CANCEL")
            for name in ("Via", "From", "To", "Call-ID"):
                assert cancel.get(name) == invite.get(name)
            assert cancel.start == invite.start.replace("INVITE", "CANCEL")
            assert cancel.get("CSeq") == invite.get("CSeq").replace("INVITE", "CANCEL")
            assert "cause=200" in cancel.get("Reason")
            assert not made.bob.waiting, "the new INVITE waits for the end of the old one"
            assert [(one.ok, one.cause) for one in made.results] == [(True, "revived"), (True, "called anew")]
            made.bob.answer(cancel, 200)
            new = await made.bob.expect("INVITE")
            assert new.call_id != invite.call_id
            assert made.stage.host in new.get("Via")
            assert f"@{made.stage.host}:" in new.get("Contact")
            assert f"c=IN IP4 {made.stage.host}" in new.body
            made.bob.answer(new, 200, sdp=OFFER)
            ok = await made.alice.expect(200)
            assert ok.get("To") == rung.get("To")
            assert f"@{made.stage.host}:" in ok.get("Contact")
            assert f"c=IN IP4 {made.stage.host}" in ok.body
            made.alice.ack(ok)
            await made.bob.expect("ACK")
            await hang_up(made, ok)

    asyncio.run(play())


def test_who_does_not_answer_the_cancel_is_called_anew_all_the_same() -> None:
    async def play() -> None:
        async with scene() as made:
            await made.ring()
            uuid = made.rig.live[0].legs[1].uuid
            made.move()
            await made.bob.expect("CANCEL")
            new = await made.bob.expect("INVITE")
            assert [leg.uuid for leg in made.rig.live[0].legs[1:]] == [uuid]
            made.bob.answer(new, 486)
            await made.bob.expect("ACK")
            made.alice.acknowledge_refusal(await made.alice.expect(486))
            await made.rig.idle()

    asyncio.run(play())


def test_a_caller_who_gives_up_first_has_nobody_called_anew() -> None:
    async def play() -> None:
        async with scene() as made:
            await made.ring()
            made.move()
            cancel = await made.bob.expect("CANCEL")
            made.alice.cancel()  # its resolver has led it to the other node
            await made.alice.expect(487)
            made.bob.answer(cancel, 200)
            await made.rig.idle()
            assert not made.bob.waiting

    asyncio.run(play())


def test_who_was_being_cancelled_is_cancelled_and_not_called_anew() -> None:
    async def play() -> None:
        async with scene() as made:
            await made.ring()
            made.alice.cancel()
            await made.bob.expect("CANCEL")
            await until(lambda: any(leg.invite and leg.invite.cancelled for leg in made.rig.stored()[0].legs))
            made.move()
            made.bob.answer(await made.bob.expect("CANCEL"), 200)
            await made.rig.idle()
            assert all(one.ok for one in made.results)
            assert not made.bob.waiting

    asyncio.run(play())


def test_a_200_whose_ack_went_to_the_dead_address_counts_and_the_caller_is_told_the_new_one() -> None:
    async def play() -> None:
        async with scene() as made:
            _rung, invite = await made.ring()
            made.bob.answer(invite, 200, sdp=OFFER)
            heard = await made.alice.expect(200)
            await made.bob.expect("ACK")
            made.move()
            made.alice.server = ("127.0.0.1", heard and int(uri_of(heard.get("Contact")).rpartition(":")[2]))
            again = await made.alice.expect(200)
            assert f"@{made.stage.host}:" in again.get("Contact")
            assert f"c=IN IP4 {made.stage.host}" in again.body
            told = await made.alice.expect("INVITE")
            assert f"@{made.stage.host}:" in told.get("Contact")
            assert f"c=IN IP4 {made.stage.host}" in told.body
            made.alice.server = made.stage.internal
            made.alice.answer(told, 200, sdp=OFFER)
            await made.alice.expect("ACK")
            asked = await made.bob.expect("INVITE")
            made.bob.answer(asked, 200, sdp=OFFER)
            await made.bob.expect("ACK")
            await hang_up(made, again)

    asyncio.run(play())


@pytest.mark.parametrize("dies_again", [False, True])
def test_a_prack_that_comes_late_counts_though_the_next_response_is_out(dies_again: bool) -> None:
    async def play() -> None:
        async with scene(RELIABLE) as made:
            rung, _invite = await made.ring(KNOWS)
            made.move()
            new = await made.bob.expect("INVITE")
            again = await made.alice.expect(180)
            await until(lambda: not made.rig.stored()[0].legs[0].reliable.response, 10)
            if dies_again:
                await made.bob.expect("CANCEL")
                made.rig, _results = made.rig.succeed()
            made.bob.answer(new, 183, sdp=OFFER)
            early = await made.alice.expect(183)
            assert int(early.get("RSeq")) == int(rung.get("RSeq")) + 1
            late = made.alice.within(again, "PRACK", headers=rack(rung))
            assert (await made.alice.expect(200)).cseq == late.cseq
            for wrong in (f"{int(early.get('RSeq')) + 1} {rung.cseq} INVITE", f"{rung.get('RSeq')} 7777 INVITE"):
                made.alice.within(again, "PRACK", headers=[("RAck", wrong)])
                assert (await made.alice.expect(481)).method == "PRACK"
            made.alice.within(early, "PRACK", headers=rack(early))
            assert (await made.alice.expect(200)).method == "PRACK"
            made.bob.answer(new, 200, sdp=OFFER)
            ok = await made.alice.expect(200)
            made.alice.ack(ok)
            await made.bob.expect("ACK")
            await hang_up(made, ok)

    asyncio.run(play())


def test_our_reinvite_of_the_dead_address_is_acknowledged_and_asked_again() -> None:
    async def play() -> None:
        async with scene() as made:
            ok, _answered = await made.talk()
            made.alice.within(ok, "INVITE", body=OFFER, kind="application/sdp")
            lost = await made.bob.expect("INVITE")
            made.move()
            ack = await made.bob.expect("ACK")
            assert ack.cseq == lost.cseq
            again = await made.bob.expect("INVITE")
            assert again.cseq > lost.cseq
            assert f"c=IN IP4 {made.stage.host}" in again.body
            made.bob.answer(again, 200, sdp=OFFER)
            taken = await made.alice.expect(200)
            assert f"@{made.stage.host}:" in taken.get("Contact")
            made.alice.ack(taken)
            made.alice.answer(await made.alice.expect("INVITE"), 200, sdp=OFFER)
            made.bob.answer(await made.bob.expect("INVITE"), 200, sdp=OFFER)
            await until(lambda: all(leg.pending is None for leg in made.rig.live[0].legs))
            await hang_up(made, taken)

    asyncio.run(play())


def test_a_call_that_somebody_originated_ends_where_nobody_calls_anew() -> None:
    async def play() -> None:
        async with scene() as made:
            told: list[str] = []
            made.rig.switchboard.originate("user/1001@pbx.test &echo", told.append)
            made.bob.answer(await made.bob.expect("INVITE"), 180)
            await until(lambda: made.rig.live[0].legs[0].state == "ringing")
            made.move()
            made.bob.answer(await made.bob.expect("CANCEL"), 200)
            await made.rig.idle()
            assert [(one.ok, one.cause) for one in made.results] == [(False, "nobody calls it anew")]

    asyncio.run(play())


def test_a_response_under_our_contact_is_the_same_but_for_that_and_its_description() -> None:
    told = b"SIP/2.0 200 OK\r\nTo: <sip:b@c>;tag=1\r\nContact: <sip:a@dead>\r\nContent-Length: 4\r\n\r\nv=0\n"
    wanted = b"SIP/2.0 200 OK\r\nTo: <sip:b@c>;tag=1\r\nContact: <sip:a@here>\r\nContent-Length: 6\r\n\r\nv=0\r\n\xe9"
    assert from_here(told, "<sip:a@here>", "v=0\r\n\udce9") == wanted
    assert from_here(told, "<sip:a@dead>", "") == told
