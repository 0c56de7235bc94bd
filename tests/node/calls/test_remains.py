"""What is left of a call that is over: next to nothing, and yet enough for who answers its INVITE late or again."""

from __future__ import annotations

import asyncio
import functools
import gc
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from node.calls.call import Call
from node.calls.leg import Leg
from tests.fuzz.agent import Dialogue, Tally, value
from tests.fuzz.theatre import Actor, Theatre
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, stage, until

ROOM = 6144
"Bytes that an ended call may hold of the stack: two INVITE transactions, the answer to its BYE, two tags."
CALLS = 25
ROUNDS = 3
"What other tests have left in this process may end, and be logged, while it is measured: that happens once."


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    theatre = Theatre()
    try:
        yield theatre
    finally:
        theatre.close()


def registered(actor: Actor) -> None:
    dialog = actor.begin("", "1002")
    dialog.target, dialog.to = "sip:sofia.test", "<sip:1002@sofia.test>"
    assert actor.ask(actor.request("REGISTER", dialog)).startswith("SIP/2.0 200")


def talked(actor: Actor) -> tuple[str, Dialogue]:
    """A call of the actor to itself that is over: the INVITE that came out, and the caller's dialog."""
    dialog = actor.begin("1002")
    actor.send(actor.request("INVITE", dialog, body=actor.description))
    while not actor.invited:
        actor.hear(1.0)
    invite = actor.invited.pop()
    actor.send(actor.answer(invite, 200, actor.description))
    answers: list[str] = []
    while not answers:
        answers = [text for text in actor.hear(1.0) if text.startswith("SIP/2.0 2")]
    actor.confirm(dialog, answers[0])
    actor.send(actor.request("ACK", dialog))
    actor._theatre.clock.turn(actor.now() + 0.1)
    assert actor.ask(actor.request("BYE", dialog)).startswith("SIP/2.0 200")
    actor.hear(0.1)
    assert not actor._theatre.duty.switchboard.exchange.calls
    return invite, dialog


def of(*kinds: type[Any]) -> list[Any]:
    """All objects of these kinds; `isinstance` would ask what a weak proxy stands for, which may be gone."""
    return [each for each in gc.get_objects() if issubclass(type(each), kinds)]


def tidy() -> None:
    """What is remembered of lately read messages belongs to no call."""
    gc.unfreeze()  # what an earlier test has frozen would not be found
    for each in of(functools._lru_cache_wrapper):
        each.cache_clear()
    gc.collect()


def test_an_ended_call_is_gone_at_once_and_leaves_little_to_the_stack(
    theatre: Theatre, capsys: pytest.CaptureFixture[str]
) -> None:
    actor = Actor(theatre, Tally(), 0, 1)
    registered(actor)
    for _ in range(CALLS):
        talked(actor)
    grown = float("inf")
    for _ in range(ROUNDS):
        theatre.clock.turn(actor.now() + 120.0)
        theatre.books.store.book.calls.clear()
        registered(actor)
        grown = min(grown, left_by_a_call(theatre, actor))
    with capsys.disabled():
        print(f"\n  an ended call leaves {grown:.0f} bytes for half a minute")
    assert grown < ROOM


def left_by_a_call(theatre: Theatre, actor: Actor) -> float:
    """Bytes; what else happens meanwhile in this process is in them."""
    tidy()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        gc.disable()
        for _ in range(CALLS):
            talked(actor)
        left = of(Call, Leg)
        theatre.books.store.book.calls.clear()
        tidy()
        grown = (tracemalloc.get_traced_memory()[0] - before) / CALLS
    finally:
        gc.enable()
        tracemalloc.stop()
    assert theatre.endpoint.layer.clients >= CALLS, "their transactions are still there"
    assert left == []
    return grown


def requests(actor: Actor, seconds: float) -> list[str]:
    """What the node asks, and by which tag of the callee's; all is answered."""
    found, until_then = [], actor.now() + seconds
    while actor.now() < until_then:
        for text in actor.listen(until_then - actor.now()):
            if not text.startswith("SIP/2.0"):
                found.append(f"{text.split(' ', 1)[0]} {value(text, 'To').rpartition('tag=')[2]}")
                if not text.startswith("ACK"):
                    actor.send(actor.answer(text, 200))
    return found


def test_who_answers_late_behind_a_fork_is_acknowledged_and_hung_up_on_though_the_call_is_over(
    theatre: Theatre,
) -> None:
    actor = Actor(theatre, Tally(), 0, 1)
    registered(actor)
    invite, _dialog = talked(actor)
    winner = f"callee{actor.port}"
    answer = actor.answer(invite, 200, actor.description)
    actor.send(answer)
    assert requests(actor, 1.0) == [f"ACK {winner}"], "it has had its BYE"
    late = answer.replace(f";tag={winner}".encode(), b";tag=another")
    actor.send(late)
    assert requests(actor, 1.0) == ["ACK another", "BYE another"]
    actor.send(late)
    assert requests(actor, 1.0) == ["ACK another"]
    assert theatre.trouble.found == []


@pytest.mark.parametrize("over", [False, True])
def test_who_answers_late_behind_a_fork_is_hung_up_on_by_a_successor_too(over: bool) -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            alice, bob = await Peer.open(made.internal), await Peer.open(made.internal)
            made.register("1001", bob.contact)
            alice.invite("1001", "1000", sdp=OFFER)
            invite = await bob.expect("INVITE")
            bob.answer(invite, 200, sdp=OFFER)
            ok = await alice.expect(200)
            alice.ack(ok)
            await bob.expect("ACK")
            await until(lambda: rig.live[0].legs[0].pending is None)
            if over:
                alice.bye(ok)
                bob.answer(await bob.expect("BYE"), 200)
                await alice.expect(200)
                await rig.idle()
            rig, _results = rig.succeed()
            first, bob.tag = bob.tag, "another"
            bob.answer(invite, 200, sdp=OFFER)
            assert (await bob.expect("ACK")).get("To").endswith("tag=another")
            bye = await bob.expect("BYE")
            assert bye.get("To").endswith("tag=another")
            bob.answer(bye, 200)
            bob.tag = first
            if not over:
                alice.bye(ok)
                bye = await bob.expect("BYE")
                assert bye.get("To").endswith(f"tag={first}")
                bob.answer(bye, 200)
                await alice.expect(200)
            await rig.idle()
            alice.close()
            bob.close()
            await cast.close()
            rig.bury()

    asyncio.run(play())
