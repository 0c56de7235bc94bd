"""Two hosts and a phone on a switch: the node that takes over brings the shared address with it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from tests.failover.measure import talking, told, watching
from tests.support.failover import hundred_answered_twenty_ringing
from tests.support.netns import Network
from tests.support.node import Pair

pytestmark = [pytest.mark.real, pytest.mark.namespaces]
SHARED = "10.99.0.100"


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


@pytest.mark.peers
@pytest.mark.timeout(300)
def test_a_hundred_answered_and_twenty_ringing_calls_survive_when_the_address_moves(
    network: Network, pair: Pair
) -> None:
    client = network.hosts[2]
    with watching(pair.sip, client):
        report = hundred_answered_twenty_ringing(
            pair.sip, pair.active, pair.standby, host=client.address, namespace=client, first_port=25000
        )
    told(report)
    assert report.failed == 0
    assert report.errors_481_500 == 0


def test_audio_comes_back_from_the_moved_address(network: Network, pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair.sip, network.hosts[2], of="node killed") as call:
            await call.heard(50, 5)
            killed = pair.active.kill()
            await call.heard(50, 10)
            gap = call.longest_gap(killed - 0.5)
            print(f"address moved: longest audio gap {gap * 1000:.0f} ms, all of it {time.monotonic() - killed:.1f} s")
            await call.end(call.incoming)

    asyncio.run(scenario())
