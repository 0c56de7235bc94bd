"""30,000 registered phones: the standby knows them all, and reaches any of them without one new REGISTER."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time

import pytest

from store.backends import open_store
from store.interface import Outcome, Put, opened
from store.records import FlowRecord, Registration
from tests.failover import headline
from tests.failover.measure import watching
from tests.failover.report import record
from tests.node.calls.peer import Peer
from tests.support.node import DOMAIN, STRETCH, Node, Pair, until

pytestmark = pytest.mark.real

BINDINGS, SAMPLE = 30_000, 25
LATE = 640
"Of them, so many register while the standby runs."
LOT, USUAL = 1000, 64
"Bindings in one transaction: of those that were there before, and as workers write them."


def binding(number: int, peer: Peer, pair: Pair, epoch: int) -> Registration:
    """A phone behind the test's one socket, told apart by its user."""
    user = f"u{number}"
    return Registration(
        call_id=f"reg-{number}",
        sip_user=user,
        sip_host=DOMAIN,
        contact=f'"" <sip:{user}@127.0.0.1:{peer.port}>',
        profile_name="internal",
        expires=int(time.time()) + 3600,
        hostname="sofia-pair",
        network_ip="127.0.0.1",
        network_port=str(peer.port),
        flow=FlowRecord(
            profile="internal", local_host=pair.sip[0], local_port=5060, remote_host="127.0.0.1", remote_port=peer.port
        ),
        version=time.time_ns() // 1000,
        epoch=epoch,
        slot="internal#0",
    )


def register(pair: Pair, peer: Peer, numbers: range, lot: int) -> None:
    """As the active node's workers would have written them."""
    epoch = int(str(pair.nodes[0].status()["epoch"]))
    with opened(open_store(pair.nodes[0].settings["core_db_dsn"])) as store:
        for first in range(0, len(numbers), lot):
            puts = [Put(binding(number, peer, pair, epoch)) for number in numbers[first : first + lot]]
            assert set(store.commit(puts)) == {Outcome.STORED}


def known(node: Node) -> int:
    """How many registrations each of its standby workers follows, at least."""
    children = node.status()["children"]
    assert isinstance(children, list)
    return min((int(child["registrations"]) for child in children if "registrations" in child), default=0)


@pytest.mark.timeout(300)
def test_thirty_thousand_bindings_are_reachable_on_the_standby_without_one_new_register() -> None:
    async def scenario(pair: Pair) -> None:
        peer = await Peer.open(pair.sip)
        first, heir = pair.nodes
        first.start()
        await asyncio.to_thread(first.wait_role, "active")
        await asyncio.to_thread(register, pair, peer, range(BINDINGS - LATE), LOT)
        heir.start()
        await asyncio.to_thread(heir.wait_ready, 60.0)
        await asyncio.to_thread(register, pair, peer, range(BINDINGS - LATE, BINDINGS), USUAL)
        await asyncio.to_thread(
            until, lambda: known(heir) >= BINDINGS, 60, "the standby to know all registrations", heir
        )
        with watching(pair.sip):
            killed = first.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            active = time.monotonic() - killed
            dice = random.Random(5)
            took = [await reached(heir, peer, dice.randrange(BINDINGS)) for _ in range(SAMPLE)]
        print(
            f"{BINDINGS} bindings: active {active * 1000:.0f} ms after the kill; of {SAMPLE} phones each was called, "
            f"the first {took[0] * 1000:.0f} ms after it was asked for, longest {max(took) * 1000:.0f} ms"
        )
        record(calls=SAMPLE, calls_lost=0)
        headline.count("bindings reachable at takeover", SAMPLE, SAMPLE)
        peer.close()

    pair = Pair()
    with contextlib.ExitStack() as stack:
        stack.push(pair.__exit__)
        asyncio.run(scenario(pair))


async def reached(heir: Node, peer: Peer, number: int) -> float:
    """The phone is called and declines; seconds from the order to its INVITE."""
    asked = time.monotonic()
    order = f"originate {{originate_timeout=20}}sofia/internal/u{number}%{DOMAIN} &park()"
    answer = asyncio.create_task(asyncio.to_thread(heir.api, order))
    invite = await peer.expect("INVITE")
    took = time.monotonic() - asked
    assert f"INVITE sip:u{number}@127.0.0.1:{peer.port}" in invite.start
    peer.answer(invite, 486)
    async with asyncio.timeout(15 * STRETCH):
        assert (await answer).startswith("-ERR USER_BUSY")
    return took
