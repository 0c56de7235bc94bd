"""A call goes on to the next target (RFC 3263 4.3), remembers which ones are dead, and loses nothing in between."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from types import MappingProxyType

import pytest

from node.calls.call import Call
from node.transport import questions
from tests.node.calls.clock import LeapingLoop, leap
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Rig, Stage, extension, stage, until
from tests.support.nameserver import NameServer
from tests.support.ports import free_port
from tests.support.sipmessage import Sip

EXTENSIONS = extension("7100", ("set", "hangup_after_bridge=true"), ("bridge", "sofia/external/100@example.org"))
IMPATIENT = 500


class Scene:
    """A caller, two servers behind SRV records of our own name server, and the node between."""

    def __init__(self, made: Stage, names: NameServer, **params: object) -> None:
        self.names = names
        made.configuration = patient(made, **params)
        self.rig = Rig(made)
        self.ask()
        self.peers: list[Peer] = []

    async def peer(self, server: tuple[str, int], port: int = 0) -> Peer:
        peer = await Peer.open(server, port)
        self.peers.append(peer)
        return peer

    async def two(self) -> tuple[Peer, Peer]:
        """Servers, the first one preferred."""
        first, second = await self.peer(self.rig.stage.external), await self.peer(self.rig.stage.external)
        self.publish(first.port, second.port)
        return first, second

    def publish(self, *ports: int) -> None:
        self.names.zone["_sip._udp.example.org.", "SRV"] = [
            f"300 IN SRV {place} 1 {port} here.example.org." for place, port in enumerate(ports, start=1)
        ]
        self.names.zone["here.example.org.", "A"] = "300 IN A 127.0.0.1"

    def ask(self) -> None:
        self.rig.endpoint.routes.resolver.configure([self.names.address])

    async def call(self) -> Peer:
        caller = await self.peer(self.rig.stage.internal)
        caller.invite("7100", "1000", sdp=OFFER)
        return caller

    async def talk(self, caller: Peer, callee: Peer, invite: Sip | None = None) -> None:
        """The callee answers, and the caller hangs up after that."""
        invite = invite or await callee.expect("INVITE")
        callee.answer(invite, 200, sdp=OFFER)
        ok = await caller.expect(200)
        caller.ack(ok)
        await callee.expect("ACK")
        caller.bye(ok)
        callee.answer(await callee.expect("BYE"), 200)
        await caller.expect(200)
        await self.rig.idle()

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        if not self.rig.dead:
            self.rig.bury()


def patient(made: Stage, **params: object) -> object:
    """The stage's configuration, the external profile with short patience and what else is wanted."""
    profiles = dict(made.configuration.profiles)
    wanted = {"next_target_timeout": IMPATIENT, **params}
    profiles["external"] = replace(profiles["external"], **wanted)  # type: ignore[arg-type]
    return replace(made.configuration, profiles=MappingProxyType(profiles))


@contextlib.asynccontextmanager
async def scene(**params: object) -> AsyncIterator[Scene]:
    with stage(EXTENSIONS) as made, NameServer() as names:
        played = Scene(made, names, **params)
        try:
            yield played
        finally:
            played.close()


def play(test: Callable[[Scene], Awaitable[None]], **params: object) -> None:
    async def run() -> None:
        async with scene(**params) as played:
            await test(played)

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(run())


def test_a_target_that_answers_503_is_left_for_the_next_and_tried_last_from_then_on() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        busy = await first.expect("INVITE")
        first.answer(busy, 503, headers=[("Retry-After", "60")])
        await first.expect("ACK")
        invite = await second.expect("INVITE")
        assert (invite.call_id, invite.cseq) == (busy.call_id, busy.cseq), "the same request"
        assert invite.branch != busy.branch
        await here.talk(caller, second, invite)
        await here.talk(await here.call(), second)
        assert not first.waiting, "the second call goes straight to the second"

    play(test)


def test_a_503_is_final_where_disable_srv503_says_so() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        first.answer(await first.expect("INVITE"), 503)
        assert (await caller.expect(503)).status == 503
        assert not second.waiting

    play(test, disable_srv503=True)


def test_a_silent_target_is_left_long_before_32_seconds_are_over() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        await first.expect("INVITE")
        await here.talk(caller, second)
        first.waiting.clear()
        await here.talk(await here.call(), second)
        calls = {message.call_id for message in first.waiting}
        assert len(calls) <= 1, "only the first call's INVITE still comes again"

    play(test)


def test_a_silent_name_server_holds_up_only_the_calls_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "LIFETIME", 60.0)

    async def test(here: Scene) -> None:
        here.names.silent.add("*")
        waiting = [await here.call() for _ in range(20)]
        for each in waiting:
            await each.expect(100)
        bob = await here.peer(here.rig.stage.internal)
        here.rig.stage.register("1001", f"sip:1001@127.0.0.1:{bob.port}")
        caller = await here.peer(here.rig.stage.internal)
        caller.invite("1001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 200, sdp=OFFER)
        caller.ack(await caller.expect(200))
        assert [each.waiting for each in waiting] == [[]] * 20, "they have no answer yet, the later call has its own"
        for each in waiting:
            each.cancel()
            assert (await each.expect(487)).status == 487

    play(test)


def test_who_was_left_behind_and_rings_after_all_is_cancelled() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        late = await first.expect("INVITE")
        invite = await second.expect("INVITE")
        first.answer(late, 180)
        cancel = await first.expect("CANCEL")
        first.answer(cancel, 200)
        first.answer(late, 487)
        await first.expect("ACK")
        await here.talk(caller, second, invite)

    play(test)


def test_who_was_left_behind_and_answers_after_all_is_hung_up_on() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        late = await first.expect("INVITE")
        invite = await second.expect("INVITE")
        first.answer(late, 200, sdp=OFFER)
        await first.expect("ACK")
        first.answer(await first.expect("BYE"), 200)
        await here.talk(caller, second, invite)

    play(test)


def test_a_target_that_refuses_tcp_is_left_at_once() -> None:
    async def test(here: Scene) -> None:
        second = await here.peer(here.rig.stage.external)
        here.names.zone["example.org.", "NAPTR"] = [
            '300 IN NAPTR 1 1 "s" "SIP+D2T" "" _sip._tcp.example.org.',
            '300 IN NAPTR 2 1 "s" "SIP+D2U" "" _sip._udp.example.org.',
        ]
        here.publish(second.port)
        here.names.zone["_sip._tcp.example.org.", "SRV"] = f"300 IN SRV 1 1 {free_port()} here.example.org."
        await here.talk(await here.call(), second)

    play(test, next_target_timeout=30_000)


def test_a_target_that_answers_is_forgotten_to_have_failed() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        first.answer(await first.expect("INVITE"), 503)
        await first.expect("ACK")
        second.answer(await second.expect("INVITE"), 503)
        await caller.expect(503)
        assert len(here.rig.endpoint.routes.outages) == 2
        await here.talk(await here.call(), first)
        assert len(here.rig.endpoint.routes.outages) == 1

    play(test)


def test_a_target_that_failed_has_its_place_back_when_its_time_is_over() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        first.answer(await first.expect("INVITE"), 503)
        await first.expect("ACK")
        await here.talk(caller, second)
        await leap(9.0, 3.0)
        await here.talk(await here.call(), second)
        assert not first.waiting
        await leap(1.5, 0.5)
        await here.talk(await here.call(), first)

    play(test, dead_target_time=10, next_target_timeout=30_000)


def test_without_dead_target_time_the_first_one_is_tried_first_by_every_call() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        for _ in range(2):
            caller = await here.call()
            first.answer(await first.expect("INVITE"), 503)
            await first.expect("ACK")
            await here.talk(caller, second)

    play(test, dead_target_time=0, next_target_timeout=30_000)


def test_when_nobody_is_left_the_last_answer_is_the_callers() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        caller = await here.call()
        first.answer(await first.expect("INVITE"), 503)
        second.answer(await second.expect("INVITE"), 486)
        assert (await caller.expect(486)).status == 486

    play(test)


def test_the_caller_may_give_up_between_two_targets() -> None:
    async def test(here: Scene) -> None:
        _first, second = await here.two()
        caller = await here.call()
        invite = await second.expect("INVITE")
        second.answer(invite, 180)
        assert caller._invite is not None
        cancel = Sip(
            caller._invite.start.replace("INVITE", "CANCEL", 1),
            [
                (name, value.replace("INVITE", "CANCEL") if name == "CSeq" else value)
                for name, value in caller._invite.fields
                if name in ("Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq")
            ],
            "",
        )
        caller.send(cancel)
        cancelled = await second.expect("CANCEL")
        second.answer(cancelled, 200)
        second.answer(invite, 487)
        await second.expect("ACK")
        await caller.expect(487)

    play(test)


# ---- a crash between targets ---------------------------------------------------------------------------------------------


async def through_a_crash(here: Scene, crash_after: int, variant: str) -> int:
    """A call whose first target answers 503, or nothing; the node dies at a put of its record. Returns how many there were."""
    tap = here.rig.tap
    tap.crash_after, tap.spoken, tap.lost = crash_after, variant in ("spoken", "lost"), variant == "lost"
    first, second = await here.two()
    puts = tap.records

    async def refuse() -> None:
        seen: set[str] = set()
        while True:
            invite = await first.expect("INVITE")
            if invite.branch not in seen:
                seen.add(invite.branch)
            first.answer(invite, 503)

    async def succeed() -> None:
        while not here.rig.dead:
            await asyncio.sleep(0.002)
        here.rig, results = here.rig.succeed()
        here.ask()
        assert all(result.ok for result in results), results

    async def repeat(caller: Peer) -> None:
        """An INVITE that gets no answer at all is sent again (timer A)."""
        while True:
            await asyncio.sleep(0.2)
            if not any(message.is_response for message in caller.waiting):
                caller.send(caller._invite)  # type: ignore[arg-type]

    caller = await here.call()
    helpers = [asyncio.create_task(work) for work in (refuse(), succeed(), repeat(caller))]
    try:
        invite = await asyncio.wait_for(second.expect("INVITE"), 10)
        second.answer(invite, 180)
        await asyncio.wait_for(caller.expect(180), 10)
        return len(puts)
    finally:
        for helper in helpers:
            helper.cancel()
        for result in await asyncio.gather(*helpers, return_exceptions=True):
            if isinstance(result, AssertionError):
                raise result


@pytest.mark.parametrize("variant", ["silent", "spoken", "lost"])
def test_a_crash_at_any_put_between_two_targets_still_reaches_the_second(variant: str) -> None:
    async def run(crash_after: int) -> int:
        async with scene() as here:
            try:
                return await through_a_crash(here, crash_after, variant)
            except Exception as error:
                error.add_note(f"crash at put {crash_after} ({variant})")
                raise

    async def everything() -> None:
        puts = await run(0)
        assert puts >= 3
        await asyncio.gather(*(run(number) for number in range(1, puts + 1)))

    asyncio.run(everything())


def test_a_successor_that_waits_for_a_silent_target_finds_the_next_one_by_itself() -> None:
    async def test(here: Scene) -> None:
        first, second = await here.two()
        await here.call()
        await first.expect("INVITE")
        here.rig, _results = here.rig.succeed()
        here.ask()
        await second.expect("INVITE")
        call: Call = here.rig.live[0]
        await until(lambda: call.legs[1].flow.remote[1] == second.port)

    play(test)
