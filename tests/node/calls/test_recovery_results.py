"""Each leg of a recovery yields a result with its cause: as an event, and in what the worker remembers."""

from __future__ import annotations

import asyncio
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

WITHIN = 15.0
EVENTS = ["sofia::recovery_send", "sofia::recovery_recv", "sofia::recovery_recovered"]


async def talking(rig: Rig, cast: Cast, caller: str = "1000", callee: str = "1001") -> tuple[Line, Line]:
    alice, bob = await cast.phone(caller), await cast.phone(callee)
    before = len(rig.live)
    ours = await alice.call(callee)
    theirs = await bob.answer_next()
    await asyncio.wait_for(ours.answered.wait(), WITHIN)
    await until(lambda: len(rig.live) > before and all(call.legs[0].pending is None for call in rig.live))
    return ours, theirs


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
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "always")
            await until(lambda: final, WITHIN)
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
            assert (await ours.hangup()).status == 200
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_a_leg_that_is_left_as_it_is_is_settled_at_once() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "auto")
            await until(lambda: final, WITHIN)
            assert [one["cause"] for one in told(rig, "recovery_recovered")] == ["revived", "revived"]
            assert told(rig, "recovery_send") == []
            assert (await ours.hangup()).status == 200
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_a_record_that_cannot_be_read_is_a_result_too() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            records = rig.stored()
            rig.bury()
            flow = records[0].legs[1].flow
            assert flow is not None
            records[0].legs[1].invite = PendingInvite(role="client", request=b"no request", flow=flow)
            rig, final = successor(made, records, "auto")
            await until(lambda: final, WITHIN)
            assert [(one.ok, one.cause) for one in final] == [(False, "bad record")] * 2
            assert [one["result"] for one in told(rig, "recovery_recovered")] == ["failed", "failed"]
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_the_worker_remembers_why_a_leg_was_lost() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await cast.phone("1000"), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            ours = await alice.call("1001")
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].legs[0].pending is None)
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "always")
            bob.answer(await bob.expect("INVITE"), 481)
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await until(lambda: final, WITHIN)
            results = rig.switchboard.recovery()["results"]
            assert isinstance(results, list)
            lost = [row for row in results if row[6] == "failed"]
            assert [row[7:] for row in lost] == [["481", 481], ["the other side is lost", 0]]
            await cast.close()
            bob.close()
            rig.bury()

    asyncio.run(play())


def test_what_is_told_at_once_and_in_the_end_is_the_same_where_nothing_is_asked() -> None:
    """Of a call one of whose profiles is gone: the other leg goes with it."""

    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, _theirs = await talking(rig, cast)
            records = rig.stored()
            rig.bury()
            records[0].legs[1].profile = "gone"
            rig = Rig(made, "two", 2)
            final: list[Result] = []
            results = rig.switchboard.revive(records, then=final.extend)
            assert [one.ok for one in results] == [False, False]
            assert final == results
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_who_ends_with_a_leg_that_has_no_port_is_lost_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            records = rig.stored()
            rig.bury()
            called = records[0].legs[1].uuid
            real = anchor.open_port

            def scarce(call: Call, leg: Leg, then: Any = None) -> None:
                if leg.uuid == called:
                    call.later(0.2, then, MediaError("no port is free"))
                else:
                    real(call, leg, then)

            monkeypatch.setattr(anchor, "open_port", scarce)
            rig, final = successor(made, records, "never")
            await until(lambda: final, WITHIN)
            assert sorted((one.ok, one.cause) for one in final) == [
                (False, "no port"),
                (False, "the other side is lost"),
            ]
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await asyncio.wait_for(theirs.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_a_leg_that_hangs_up_long_after_it_was_asked_ends_the_recovery() -> None:
    """A proxy has said 100 to the re-INVITE, and nothing else for minutes."""

    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await Peer.open(made.internal), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            alice.invite("1001", "1000", sdp=OFFER)
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            ok = await alice.expect(200)
            alice.ack(ok)
            await bob.expect("ACK")
            await until(lambda: rig.live[0].legs[0].pending is None)
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "always")
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
            alice.close()
            bob.close()
            await cast.close()
            rig.bury()

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(play())


def test_an_answer_that_asks_for_patience_is_no_refusal() -> None:
    """RFC 3261 14.2: 500 with Retry-After, for the peer has not answered another INVITE yet."""

    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await cast.phone("1000"), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            ours = await alice.call("1001")
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].legs[0].pending is None)
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "always")
            bob.answer(await bob.expect("INVITE"), 500, headers=[("Retry-After", "1")])
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            await bob.expect("ACK")
            await until(lambda: final, WITHIN)
            assert {(one.ok, one.cause) for one in final} == {(True, "reinvited")}
            rig.switchboard.hupall()
            bob.answer(await bob.expect("BYE"), 200)
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await cast.close()
            bob.close()
            rig.bury()

    asyncio.run(play())


def test_an_emergency_is_reinvited_before_older_calls() -> None:
    async def play() -> None:
        with stage(params={"emergency-numbers": "1003"}) as made:
            rig, cast = Rig(made), Cast(made)
            lines = [await talking(rig, cast, "1000", "1001"), await talking(rig, cast, "1002", "1003")]
            records = rig.stored()
            assert len(records) == 2
            rig.bury()
            rig, final = successor(made, records, "always", rate=4)
            await until(lambda: final, WITHIN)
            urgent = next(record.uuid for record in records if record.legs[0].destination == "1003")
            order = [one["call_uuid"] == urgent for one in told(rig, "recovery_send")]
            assert order == [True, True, False, False]
            rig.switchboard.hupall()
            for pair in lines:
                for line in pair:
                    await asyncio.wait_for(line.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_several_lots_of_records_share_one_rate() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            await talking(rig, cast, "1000", "1001")
            await talking(rig, cast, "1002", "1003")
            records = rig.stored()
            rig.bury()
            rig = Rig(made, "two", 2)
            rig.stream.want(EVENTS)
            for record in records:
                rig.switchboard.revive([record], reinvite="always", rate=4)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await until(lambda: len(told(rig, "recovery_send")) == 4, WITHIN)
            assert loop.time() - began > 0.7
            rig.switchboard.hupall()
            await rig.idle()
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_from_and_to_change_places_where_the_operator_says_so() -> None:
    """`sip_recovery_break_rfc`: on legs we called, for peers that know the dialog the other way round."""

    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await cast.phone("1000"), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            ours = await alice.call("1001")
            invite = await bob.expect("INVITE")
            bob.answer(invite, 200, sdp=OFFER)
            ack = await bob.expect("ACK")
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].legs[0].pending is None)
            for leg in rig.live[0].legs:
                assert rig.switchboard.setvar(leg.uuid, "sip_recovery_break_rfc", "true")
            records = rig.stored()
            rig.bury()
            rig, final = successor(made, records, "always")
            again = await bob.expect("INVITE")
            assert (again.get("From"), again.get("To")) == (ack.get("To"), ack.get("From"))
            assert again.call_id == invite.call_id
            bob.answer(again, 200, sdp=OFFER)
            second = await bob.expect("ACK")
            assert (second.get("From"), second.get("To")) == (again.get("From"), again.get("To"))
            await until(lambda: final, WITHIN)
            assert {(one.ok, one.cause) for one in final} == {(True, "reinvited")}
            rig.switchboard.hupall()
            bye = await bob.expect("BYE")
            assert (bye.get("From"), bye.get("To")) == (ack.get("From"), ack.get("To"))
            bob.answer(bye, 200)
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await cast.close()
            bob.close()
            rig.bury()

    asyncio.run(play())
