"""Each leg of a recovery yields a result with its cause: as an event, and in what the worker remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest

from node.calls import anchor
from node.calls.call import Call
from node.calls.ledger import Result
from node.calls.leg import Leg
from node.calls.recover import LONGEST
from node.media.errors import MediaError
from store.records import CallRecord, PendingInvite
from tests.node.calls.clock import LeapingLoop, leap
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, Stage, stage, until
from tests.support.phone import Line
from tests.support.sipmessage import Sip

WITHIN = 15.0
EVENTS = ["sofia::recovery_send", "sofia::recovery_recv", "sofia::recovery_recovered"]


@asynccontextmanager
async def played(params: Mapping[str, str] = MappingProxyType({})) -> AsyncIterator[Theatre]:
    """A node and phones; who comes last is buried at the end."""
    with stage(params=params) as made:
        theatre = Theatre(made)
        try:
            yield theatre
        finally:
            await theatre.close()


class Theatre:
    """A node, its phones and peers, and who succeeds it."""

    def __init__(self, made: Stage) -> None:
        self.made = made
        self.rig = Rig(made)
        self.cast = Cast(made)
        self.records: list[CallRecord] = []
        "Of the calls, as the node has left them."
        self._peers: list[Peer] = []

    async def talk(self, caller: str = "1000", callee: str = "1001") -> tuple[Line, Line]:
        """One phone calls another one, and both have their ACK."""
        alice, bob = await self.cast.phone(caller), await self.cast.phone(callee)
        before = len(self.rig.live)
        ours = await alice.call(callee)
        theirs = await bob.answer_next()
        await self._answered(ours, before)
        return ours, theirs

    async def talk_to_a_peer(self) -> tuple[Line, Peer, Sip, Sip]:
        """A phone calls a bare peer; the INVITE and the ACK that this one got."""
        alice, bob = await self.cast.phone("1000"), await self.peer()
        self.made.register("1001", bob.contact)
        ours = await alice.call("1001")
        invite = await bob.expect("INVITE")
        bob.answer(invite, 200, sdp=OFFER)
        ack = await bob.expect("ACK")
        await self._answered(ours, 0)
        return ours, bob, invite, ack

    async def _answered(self, ours: Line, before: int) -> None:
        await asyncio.wait_for(ours.answered.wait(), WITHIN)
        await until(lambda: len(self.rig.live) > before and all(call.legs[0].pending is None for call in self.rig.live))

    async def peer(self) -> Peer:
        self._peers.append(await Peer.open(self.made.internal))
        return self._peers[-1]

    def die(self) -> list[CallRecord]:
        """The node is gone; what the store has of its calls."""
        self.records = self.rig.stored()
        self.rig.bury()
        return self.records

    def succeed(self, reinvite: Any, rate: float = 0.0) -> list[Result]:
        """Another one takes over; the list is filled with the last results."""
        self.rig, final = successor(self.made, self.records, reinvite, rate)
        return final

    async def end(self, by: Line, *others: Line) -> None:
        """One hangs up, the others hear so."""
        assert (await by.hangup()).status == 200
        await gone(*others)

    async def close(self) -> None:
        await self.cast.close()
        for peer in self._peers:
            peer.close()
        if not self.rig.dead:
            self.rig.bury()


async def gone(*lines: Line) -> None:
    for line in lines:
        await asyncio.wait_for(line.ended.wait(), WITHIN)


def successor(made: Stage, records: list[CallRecord], reinvite: Any, rate: float = 0.0) -> tuple[Rig, list[Result]]:
    rig = Rig(made, "two", 2)
    rig.stream.want(EVENTS)
    final: list[Result] = []
    rig.switchboard.revive(records, reinvite=reinvite, rate=rate, then=final.extend)
    return rig, final


def told(rig: Rig, subclass: str) -> list[dict[str, str]]:
    return [dict(event.headers) for event in rig.events if event.subclass == f"sofia::{subclass}"]


def test_a_leg_that_is_reinvited_is_told_of_when_it_is_asked_and_when_it_answers() -> None:
    async def play() -> None:
        async with played() as theatre:
            ours, theirs = await theatre.talk()
            records = theatre.die()
            final = theatre.succeed("always")
            await until(lambda: final, WITHIN)
            rig = theatre.rig
            legs = {leg.uuid: leg for record in records for leg in record.legs}
            sent, heard, settled = (told(rig, name.partition("::")[2]) for name in EVENTS)
            assert {one["recovered_uuid"] for one in sent} == set(legs)
            assert [one["cause"] for one in heard] == ["revived", "revived", "reinvited", "reinvited"]
            assert len(settled) == 2
            for one in settled:
                leg = legs[one["recovered_uuid"]]
                assert leg.dialog is not None
                assert one == {
                    "profile_name": "internal",
                    "recovered_uuid": leg.uuid,
                    "call_uuid": records[0].uuid,
                    "call_id": leg.dialog.call_id,
                    "direction": leg.direction,
                    "result": "ok",
                    "cause": "reinvited",
                    "status": "200",
                }
            status = rig.switchboard.recovery()
            assert (status["legs"], status["lost"], status["reinvited"], status["asked"]) == (2, 0, 2, 0)
            await theatre.end(ours, theirs)

    asyncio.run(play())


def test_a_leg_that_is_left_as_it_is_is_settled_at_once() -> None:
    async def play() -> None:
        async with played() as theatre:
            ours, theirs = await theatre.talk()
            theatre.die()
            final = theatre.succeed("auto")
            await until(lambda: final, WITHIN)
            assert [one["cause"] for one in told(theatre.rig, "recovery_recovered")] == ["revived", "revived"]
            assert told(theatre.rig, "recovery_send") == []
            await theatre.end(ours, theirs)

    asyncio.run(play())


def test_a_record_that_cannot_be_read_is_a_result_too() -> None:
    async def play() -> None:
        async with played() as theatre:
            ours, theirs = await theatre.talk()
            records = theatre.die()
            flow = records[0].legs[1].flow
            assert flow is not None
            records[0].legs[1].invite = PendingInvite(role="client", request=b"no request", flow=flow)
            final = theatre.succeed("auto")
            await until(lambda: final, WITHIN)
            assert [(one.ok, one.cause) for one in final] == [(False, "bad record")] * 2
            assert [one["result"] for one in told(theatre.rig, "recovery_recovered")] == ["failed", "failed"]
            await gone(ours, theirs)

    asyncio.run(play())


def test_the_worker_remembers_why_a_leg_was_lost() -> None:
    async def play() -> None:
        async with played() as theatre:
            ours, bob, _invite, _ack = await theatre.talk_to_a_peer()
            theatre.die()
            final = theatre.succeed("always")
            invite = await bob.expect("INVITE")
            await until(lambda: ours.reinvited and theatre.rig.live[0].legs[0].pending is None)
            bob.answer(invite, 481)
            await gone(ours)
            await until(lambda: final, WITHIN)
            results = theatre.rig.switchboard.recovery()["results"]
            assert isinstance(results, list)
            lost = [row for row in results if row[6] == "failed"]
            assert [row[7:] for row in lost] == [["481", 481], ["the other side is lost", 0]]

    asyncio.run(play())


def test_what_is_told_at_once_and_in_the_end_is_the_same_where_nothing_is_asked() -> None:
    """Of a call one of whose profiles is gone: the other leg goes with it."""

    async def play() -> None:
        async with played() as theatre:
            ours, _theirs = await theatre.talk()
            records = theatre.die()
            records[0].legs[1].profile = "gone"
            theatre.rig = Rig(theatre.made, "two", 2)
            final: list[Result] = []
            results = theatre.rig.switchboard.revive(records, then=final.extend)
            assert [one.ok for one in results] == [False, False]
            assert final == results
            await gone(ours)

    asyncio.run(play())


def test_who_ends_with_a_leg_that_has_no_port_is_lost_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        async with played() as theatre:
            ours, theirs = await theatre.talk()
            records = theatre.die()
            called = records[0].legs[1].uuid
            real = anchor.open_port

            def scarce(call: Call, leg: Leg, then: Any = None) -> None:
                if leg.uuid == called:
                    call.later(0.2, then, MediaError("no port is free"))
                else:
                    real(call, leg, then)

            monkeypatch.setattr(anchor, "open_port", scarce)
            final = theatre.succeed("never")
            await until(lambda: final, WITHIN)
            assert sorted((one.ok, one.cause) for one in final) == [
                (False, "no port"),
                (False, "the other side is lost"),
            ]
            await gone(ours, theirs)

    asyncio.run(play())


def test_a_leg_that_hangs_up_long_after_it_was_asked_ends_the_recovery() -> None:
    """A proxy has said 100 to the re-INVITE, and nothing else for minutes."""

    async def play() -> None:
        async with played() as theatre:
            alice, bob = await theatre.peer(), await theatre.peer()
            theatre.made.register("1001", bob.contact)
            alice.invite("1001", "1000", sdp=OFFER)
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            ok = await alice.expect(200)
            alice.ack(ok)
            await bob.expect("ACK")
            await until(lambda: theatre.rig.live[0].legs[0].pending is None)
            theatre.die()
            final = theatre.succeed("always")
            for peer in (alice, bob):
                peer.answer(await peer.expect("INVITE"), 100)
            await leap(LONGEST + 5.0, 1.0)
            assert not final
            alice.bye(ok)
            bob.answer(await bob.expect("BYE"), 200)
            await alice.expect(200)
            await leap(LONGEST, 1.0)
            # It was alice's wish: nothing is lost.
            assert [(one.ok, one.cause) for one in final] == [(True, "NORMAL_CLEARING")] * 2

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(play())


def test_an_answer_that_asks_for_patience_is_no_refusal() -> None:
    """RFC 3261 14.2: 500 with Retry-After, for the peer has not answered another INVITE yet."""

    async def play() -> None:
        async with played() as theatre:
            ours, bob, _invite, _ack = await theatre.talk_to_a_peer()
            theatre.die()
            final = theatre.succeed("always")
            bob.answer(await bob.expect("INVITE"), 500, headers=[("Retry-After", "1")])
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await bob.expect("ACK")
            await until(lambda: final, WITHIN)
            assert {(one.ok, one.cause) for one in final} == {(True, "reinvited")}
            theatre.rig.switchboard.hupall()
            bob.answer(await bob.expect("BYE"), 200)
            await gone(ours)

    asyncio.run(play())


def test_an_emergency_is_reinvited_before_older_calls() -> None:
    async def play() -> None:
        async with played({"emergency-numbers": "1003"}) as theatre:
            lines = [*await theatre.talk("1000", "1001"), *await theatre.talk("1002", "1003")]
            records = theatre.die()
            assert len(records) == 2
            final = theatre.succeed("always", rate=4)
            await until(lambda: final, WITHIN)
            urgent = next(record.uuid for record in records if record.legs[0].destination == "1003")
            order = [one["call_uuid"] == urgent for one in told(theatre.rig, "recovery_send")]
            assert order == [True, True, False, False]
            theatre.rig.switchboard.hupall()
            await gone(*lines)

    asyncio.run(play())


def test_several_lots_of_records_share_one_rate() -> None:
    async def play() -> None:
        async with played() as theatre:
            await theatre.talk("1000", "1001")
            await theatre.talk("1002", "1003")
            records = theatre.die()
            theatre.rig = rig = Rig(theatre.made, "two", 2)
            rig.stream.want(EVENTS)
            for record in records:
                rig.switchboard.revive([record], reinvite="always", rate=4)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: len(told(rig, "recovery_send")) == 4, WITHIN)
            assert loop.time() - began > 0.7
            rig.switchboard.hupall()
            await rig.idle()

    asyncio.run(play())


def test_from_and_to_change_places_where_the_operator_says_so() -> None:
    """`sip_recovery_break_rfc`: on legs we called, for peers that know the dialog the other way round."""

    async def play() -> None:
        async with played() as theatre:
            ours, bob, invite, ack = await theatre.talk_to_a_peer()
            for leg in theatre.rig.live[0].legs:
                assert theatre.rig.switchboard.setvar(leg.uuid, "sip_recovery_break_rfc", "true")
            theatre.die()
            final = theatre.succeed("always")
            again = await bob.expect("INVITE")
            assert (again.get("From"), again.get("To")) == (ack.get("To"), ack.get("From"))
            assert again.call_id == invite.call_id
            bob.answer(again, 200, sdp=OFFER)
            second = await bob.expect("ACK")
            assert (second.get("From"), second.get("To")) == (again.get("From"), again.get("To"))
            await until(lambda: final, WITHIN)
            assert {(one.ok, one.cause) for one in final} == {(True, "reinvited")}
            theatre.rig.switchboard.hupall()
            bye = await bob.expect("BYE")
            assert (bye.get("From"), bye.get("To")) == (ack.get("From"), ack.get("To"))
            bob.answer(bye, 200)
            await gone(ours)

    asyncio.run(play())
