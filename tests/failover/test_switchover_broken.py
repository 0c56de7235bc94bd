"""In the midst of a planned switchover something else breaks: the call goes on all the same, and one node at a time rules.

The order is given, and a moment later a host loses its power, or the two hear nothing of each other any more: while the
old node's workers finish, while the new one loads the calls, when both have the address, when all is over.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from tests.failover.faults import WAIT, boot, die, offer
from tests.failover.measure import talking
from tests.support.conversation import Conversation
from tests.support.netns import Network
from tests.support.node import Node, Pair, until

pytestmark = [pytest.mark.real, pytest.mark.namespaces, pytest.mark.timeout(600)]
SHARED = "10.99.0.100"
MOMENTS = (
    (0.0, 0.015, 0.04, 0.12) if os.environ.get("SOFIA_FAULTS") != "whole" else (*(n / 100 for n in range(16)), 0.3)
)
"Seconds from the order to the fault: a switchover takes some 50 ms on a machine that is idle."


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    with Network() as network:
        yield network


@pytest.fixture
def pair(network: Network) -> Iterator[Pair]:
    settings = {"address_mode": "netlink", "shared_address": f"{SHARED}/24", "shared_interface": "eth0"}
    with Pair(address=SHARED, hosts=network.hosts[:2], **settings) as pair:
        yield pair


async def order(old: Node, moment: float) -> None:
    """Returns when so many seconds have passed since."""
    begun = time.monotonic()
    answer = await asyncio.to_thread(old.control, "switchover")
    assert answer["ok"], answer
    await asyncio.sleep(max(0.0, begun + moment - time.monotonic()))


async def goes_on(call: Conversation) -> None:
    """Both hear each other, and either may make an offer."""
    await call.heard(20, WAIT)
    await offer(call.out)
    await offer(call.incoming)


def test_a_host_that_dies_while_it_hands_over_takes_no_call_with_it(network: Network, pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair.sip, network.hosts[2]) as call:
            for moment in MOMENTS:
                await call.heard(20, WAIT)
                old, heir = pair.active, pair.standby
                await order(old, moment)
                await asyncio.to_thread(die, network, old)
                await asyncio.to_thread(heir.wait_role, "active")
                await goes_on(call)
                await asyncio.to_thread(boot, network, old, SHARED)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


def test_a_host_that_dies_while_it_takes_over_leaves_the_calls_to_who_had_them(network: Network, pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair.sip, network.hosts[2]) as call:
            for moment in MOMENTS:
                await call.heard(20, WAIT)
                old, heir = pair.active, pair.standby
                await order(old, moment)
                await asyncio.to_thread(die, network, heir)
                await asyncio.to_thread(old.wait_role, "active")
                await goes_on(call)
                await asyncio.to_thread(boot, network, heir, SHARED)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


def test_nodes_that_lose_sight_of_each_other_meanwhile_do_not_lose_the_call(network: Network, pair: Pair) -> None:
    async def scenario() -> None:
        one, other = network.hosts[:2]
        async with talking(pair.sip, network.hosts[2]) as call:
            for moment in MOMENTS:
                await call.heard(20, WAIT)
                await order(pair.active, moment)
                await asyncio.to_thread(network.part, one, other)
                await asyncio.to_thread(until, lambda: _settled(pair), 20, "one node to be active", *pair.nodes)
                await goes_on(call)
                await asyncio.to_thread(network.unite, one, other)
                await asyncio.to_thread(pair.standby.wait_ready, 60.0)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


def _settled(pair: Pair) -> bool:
    return sorted(node.role for node in pair.nodes) == ["active", "standby"]
