"""A pair led by keepalived, as deploy/keepalived ships it: two hosts and a phone on a switch; the call survives."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.failover.measure import talking
from tests.failover.report import record
from tests.support.conversation import Conversation
from tests.support.keepalived import DEPLOYED, Keepalived
from tests.support.netns import Host, Network, lose_address
from tests.support.node import STRETCH, Node, Pair, until

pytestmark = [pytest.mark.real, pytest.mark.namespaces, pytest.mark.timeout(300)]
SHARED = "10.99.0.100"


class Led:
    """The pair with its keepaliveds."""

    def __init__(self, network: Network, pair: Pair, keepaliveds: list[Keepalived]) -> None:
        self.network, self.pair, self.keepaliveds = network, pair, keepaliveds

    @property
    def sip(self) -> tuple[str, int]:
        return self.pair.sip

    @property
    def phone_host(self) -> Host:
        return self.network.hosts[2]

    def of(self, node: Node) -> Keepalived:
        return self.keepaliveds[self.pair.nodes.index(node)]

    def start(self) -> None:
        for node in self.pair.nodes:
            node.start()
        for node in self.pair.nodes:
            node.wait_ready()
        for keepalived in self.keepaliveds:
            keepalived.start()
        self.wait(lambda: self.leader() is not None, 20, "one node to have role and address")

    def leader(self) -> Node | None:
        """The one that is active and has the address to itself; None while there is no such."""
        active = [node for node in self.pair.nodes if node.role == "active"]
        holding = [one.node for one in self.keepaliveds if one.has_the_address]
        return active[0] if len(active) == 1 and active[0] in holding else None

    def other(self, node: Node) -> Node:
        return self.pair.nodes[1 - self.pair.nodes.index(node)]

    async def leads(self, node: Node, since: float, what: str) -> None:
        await asyncio.to_thread(self.wait, lambda: self.leader() is node, 20, f"{node.name} to lead")
        print(f"keepalived, {what}: the other node leads after {time.monotonic() - since:.2f} s")

    def wait(self, holds: Callable[[], bool], within: float, what: str) -> None:
        try:
            until(holds, within, what, *self.pair.nodes)
        except AssertionError as error:
            said = "\n".join(f"--- keepalived of {one.node.name}\n{one.output()}" for one in self.keepaliveds)
            raise AssertionError(f"{error}\n{said}") from None


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Led]:
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    with Network() as network:
        hosts = network.hosts
        pair = Pair(address=SHARED, hosts=hosts[:2], election="ordered")
        keepaliveds = [
            Keepalived(node, hosts[1 - number], SHARED, tmp_path / f"keepalived{number}")
            for number, node in enumerate(pair.nodes)
        ]
        led = Led(network, pair, keepaliveds)
        try:
            led.start()
            yield led
        finally:
            for keepalived in keepaliveds:
                keepalived.stop()
            pair.__exit__()


def endure(led: Led, *acts: tuple[str, Callable[[Led, Node], None], Callable[[Led, Node], None]]) -> None:
    """A call that lives through each fault; each is mended again before the next, and the role stays where it went."""

    async def play() -> None:
        async with talking(led.sip, led.phone_host) as call:
            await call.heard(20, 10 * STRETCH)
            began = time.monotonic()
            record(calls=1, calls_lost=1)
            for what, fault, mend in acts:
                await act(call, what, fault, mend)
            record(audio_gap_ms=call.longest_gap(began) * 1000)
            await call.end(call.incoming, within=10 * STRETCH)
            record(calls_lost=0)

    async def act(
        call: Conversation, what: str, fault: Callable[[Led, Node], None], mend: Callable[[Led, Node], None]
    ) -> None:
        node = led.leader()
        assert node is not None
        since = time.monotonic()
        node.tell(what)
        await asyncio.to_thread(fault, led, node)
        await led.leads(led.other(node), since, what)
        led.other(node).tell("active")
        await call.heard(50, 15 * STRETCH)
        print(f"keepalived, {what}: longest audio gap {call.longest_gap(since - 0.2):.2f} s")
        assert (await call.out.reinvite()).status == 200
        await asyncio.to_thread(mend, led, node)
        await asyncio.to_thread(node.wait_ready, 30)
        await asyncio.to_thread(
            led.wait, lambda: not led.of(node).has_the_address, 10, f"the address to be off {node.name}"
        )
        assert led.leader() is led.other(node), "who comes back waits"

    asyncio.run(play())


def kill_node(led: Led, node: Node) -> None:
    node.kill()


def start_node(led: Led, node: Node) -> None:
    node.start()
    node.wait_ready(30)


def kill_keepalived(led: Led, node: Node) -> None:
    led.of(node).kill()


def start_keepalived(led: Led, node: Node) -> None:
    led.of(node).start()


def unplug(led: Led, node: Node) -> None:
    assert node.host is not None
    led.network.unplug(node.host)


def plug(led: Led, node: Node) -> None:
    assert node.host is not None
    led.network.plug(node.host)


def kill_host(led: Led, node: Node) -> None:
    """Power off: node, keepalived and what the kernel had."""
    assert node.host is not None
    led.network.unplug(node.host)
    led.of(node).kill()
    node.kill()


def boot_host(led: Led, node: Node) -> None:
    assert node.host is not None
    lose_address(node.host, SHARED)
    led.network.plug(node.host)
    node.start()
    node.wait_ready(30)
    led.of(node).start()


def send_away(led: Led, node: Node) -> None:
    hands(node, "leave")


def hands(node: Node, word: str) -> None:
    subprocess.run([DEPLOYED / "keepalived-hands", "sofia-node", word, node.run_dir], check=True)


def let_return(led: Led, node: Node) -> None:
    hands(node, "return")


def test_a_call_survives_a_dead_node_a_dead_keepalived_and_a_cut_cable(led: Led) -> None:
    endure(
        led,
        ("node killed", kill_node, start_node),
        ("keepalived killed", kill_keepalived, start_keepalived),
        ("cable out", unplug, plug),
    )


def test_a_call_survives_a_dead_host_that_boots_again_and_is_sent_the_role_back(led: Led) -> None:
    endure(led, ("host killed", kill_host, boot_host), ("sent away", send_away, let_return))


def test_the_standby_may_boot_without_anybody_noticing(led: Led) -> None:
    async def play() -> None:
        async with talking(led.sip, led.phone_host) as call:
            leader = led.leader()
            assert leader is not None
            standby = led.other(leader)
            await call.heard(20, 10 * STRETCH)
            since = time.monotonic()
            await asyncio.to_thread(kill_host, led, standby)
            await asyncio.to_thread(boot_host, led, standby)
            await call.heard(50, 10 * STRETCH)
            assert await asyncio.to_thread(led.leader) is leader
            assert call.longest_gap(since) < 1.0 * STRETCH
            await call.end(call.out, within=10 * STRETCH)

    asyncio.run(play())


def test_a_node_that_was_started_anew_too_quickly_to_be_missed_gives_the_role_away(led: Led) -> None:
    """keepalived still has the address here, and has nothing more to say to a node that knows nothing of it."""
    leader = led.leader()
    assert leader is not None
    leader.kill()
    leader.start()
    led.wait(lambda: led.leader() is not None, 30, "somebody to lead")
