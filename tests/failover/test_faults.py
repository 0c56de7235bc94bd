"""Each fault that can befall a pair, in the midst of a call: the call goes on, and never do two nodes act at once.

The long ones, and many more rounds of histories, by `make faults`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.failover.faults import (
    WAIT,
    Scene,
    Snapshot,
    Wired,
    befall,
    freeze,
    replaced,
    roles,
    send,
    small_disk,
    supervisor_frozen,
    taken_over,
    thaw,
    wired,
    wrong_clock,
)
from tests.failover.histories import live_through
from tests.support.chronicle import Chronicle
from tests.support.netns import Host, Network
from tests.support.node import DOMAIN, PASSWORD, Node, Pair, until
from tests.support.phone import Phone
from tests.support.redis import RedisServer
from tests.support.registrants import Registrants

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
WHOLE = os.environ.get("SOFIA_FAULTS") == "whole"
SHARED = "10.99.0.100"


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def cables() -> Iterator[Wired]:
    with wired() as made:
        yield made


@dataclass(frozen=True)
class Hosts:
    """Two hosts with an address that moves between them, and one with phones."""

    network: Network
    cables: Wired

    @property
    def client(self) -> Host:
        return self.network.hosts[2]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    moving = {"address": SHARED, "address_mode": "netlink", "shared_address": f"{SHARED}/24"}
    with Network() as network, wired(network, **moving, shared_interface="eth0") as cables:
        yield Hosts(network, cables)


# ---- processes -------------------------------------------------------------------------------------------------------


def test_a_worker_that_freezes_is_replaced(solo: Node) -> None:
    async def fault(scene: Scene) -> None:
        pid = solo.worker_pid("internal#0")
        scene.begin("worker frozen")
        send(pid, signal.SIGSTOP)
        await asyncio.to_thread(until, lambda: solo.worker_pid("internal#0") not in (0, pid), 20, "a successor", solo)

    asyncio.run(befall(solo.sip, fault, silence=0.3))


def test_the_media_process_is_killed_and_the_next_one_has_the_ports(solo: Node) -> None:
    async def fault(scene: Scene) -> None:
        pid = solo.child_pid("media")
        scene.begin("media killed")
        send(pid, signal.SIGKILL)
        await replaced(solo, "media", pid)

    asyncio.run(befall(solo.sip, fault, silence=5.0))


def test_the_console_is_killed_and_nobody_in_a_call_notices(solo: Node) -> None:
    async def fault(scene: Scene) -> None:
        pid = solo.child_pid("console")
        scene.begin("console killed")
        send(pid, signal.SIGKILL)
        await replaced(solo, "console", pid)
        await asyncio.to_thread(until, lambda: "2 total" in _channels(solo), 20, "the console to answer", solo)

    asyncio.run(befall(solo.sip, fault, silence=0.3))


def _channels(node: Node) -> str:
    try:
        return node.api("show channels count")
    except (OSError, AssertionError):
        return ""


def test_a_killed_supervisor_takes_its_node_with_it_and_the_other_one_takes_over(pair: Pair) -> None:
    async def fault(scene: Scene) -> None:
        active, heir = pair.active, pair.standby
        assert active.process is not None
        scene.begin("supervisor killed", active.name)
        send(active.process.pid, signal.SIGKILL)
        await taken_over(heir)

    asyncio.run(befall(pair.sip, fault))


@pytest.mark.namespaces
@pytest.mark.parametrize("seconds", [1, *([4, 10, 30, 60] if WHOLE else [])])
def test_a_supervisor_freezes_for_a_while_and_wakes(hosts: Hosts, seconds: int) -> None:
    """Its workers fall silent by themselves, and its address runs out."""
    pair = hosts.cables.pair

    async def fault(scene: Scene) -> None:
        active, heir = pair.active, pair.standby
        scene.begin("supervisor frozen", active.name)
        with supervisor_frozen(active):
            await asyncio.gather(asyncio.sleep(seconds), taken_over(heir))
            await scene.sounder.heard(WAIT)
        await asyncio.to_thread(active.wait_ready, 60.0)

    asyncio.run(befall(pair.sip, fault, hosts.client))


@pytest.mark.namespaces
@pytest.mark.parametrize("seconds", [3, *([20, 60] if WHOLE else [])])
def test_a_node_freezes_with_writes_under_way_and_none_of_them_is_accepted_when_it_wakes(
    hosts: Hosts, chronicle: Chronicle, seconds: int
) -> None:
    """On a server as store: in SQLite a process that stops in the middle of a write keeps everybody out."""
    pair, users = hosts.cables.pair, [f"10{n:02d}" for n in range(2, 20)]

    async def fault(scene: Scene) -> None:
        active, heir = pair.active, pair.standby
        async with Registrants(pair.sip, DOMAIN, PASSWORD, users, host=hosts.client) as crowd:
            load = asyncio.create_task(crowd.refresh(200, 1.5 + seconds))
            await asyncio.sleep(1.0)
            scene.begin("node frozen", active.name)
            freeze(active)
            try:
                await asyncio.gather(asyncio.sleep(seconds), taken_over(heir))
            finally:
                thaw(active)
            await load
        await asyncio.to_thread(active.wait_ready, 60.0)
        assert roles(pair).count("active") == 1

    asyncio.run(befall(pair.sip, fault, hosts.client))
    assert [reign.node for reign in chronicle.reigns()][:2] == ["alpha", "beta"]
    assert chronicle.reigns()[0].writes > 20


def test_of_two_nodes_started_at_once_one_is_active_and_the_other_takes_over(pair: Pair) -> None:
    for node in pair.nodes:
        node.stop()
    for node in pair.nodes:
        node.start()
    until(lambda: sorted(roles(pair)) == ["active", "standby"], 40, "one active, one standby", *pair.nodes)
    pair.standby.wait_ready()

    async def fault(scene: Scene) -> None:
        active, heir = pair.active, pair.standby
        scene.begin("killed", active.name)
        active.kill()
        await taken_over(heir)

    asyncio.run(befall(pair.sip, fault))


# ---- cables ----------------------------------------------------------------------------------------------------------


def test_without_the_peer_link_everything_stays_as_it_is(cables: Wired) -> None:
    before = roles(cables.pair)

    async def fault(scene: Scene) -> None:
        scene.begin("link cut")
        cables.cut_link()
        await asyncio.sleep(3.0)
        # Beside the loop: it is by this one that the phones hear and speak.
        assert await asyncio.to_thread(roles, cables.pair) == before
        cables.mend_link()

    asyncio.run(befall(cables.pair.sip, fault, silence=0.3))
    assert roles(cables.pair) == before


@pytest.mark.parametrize("who", ["the active", "the standby", "both"])
def test_cut_off_from_the_store_the_active_stays_as_long_as_the_peer_promises(cables: Wired, who: str) -> None:
    before, pair = roles(cables.pair), cables.pair
    cut = {"the active": [pair.active], "the standby": [pair.standby], "both": pair.nodes}[who]

    async def fault(scene: Scene) -> None:
        scene.begin("store cut")
        cables.cut_store(*cut)
        await asyncio.sleep(3.0)
        assert await asyncio.to_thread(roles, pair) == before
        await scene.goes_on()
        cables.mend_store(*cut)

    asyncio.run(befall(pair.sip, fault, silence=0.3))
    assert roles(pair) == before


@pytest.mark.parametrize("seconds", [3, *([20] if WHOLE else [])])
def test_an_active_without_store_and_peer_lets_go_and_is_not_missed(cables: Wired, seconds: int) -> None:
    async def fault(scene: Scene) -> None:
        active, heir = cables.pair.active, cables.pair.standby
        scene.begin("store and link cut", active.name)
        cables.cut_link()
        cables.cut_store(active)
        await taken_over(heir)
        await asyncio.sleep(seconds)
        cables.mend_link()
        cables.mend_store(active)
        await asyncio.to_thread(active.wait_ready, 60.0)
        assert heir.role == "active"

    asyncio.run(befall(cables.pair.sip, fault))


@pytest.mark.namespaces
@pytest.mark.parametrize("how", ["cut off", "killed"])
def test_a_host_goes_and_the_address_with_it(hosts: Hosts, how: str) -> None:
    """Cut off: no carrier, no store; it is alive, and must not be there any more when it is plugged in again."""
    network, cables, pair = hosts.network, hosts.cables, hosts.cables.pair

    async def fault(scene: Scene) -> None:
        active, heir = pair.active, pair.standby
        assert active.host is not None
        scene.begin(how, active.name)
        if how == "killed":
            active.kill()
        network.unplug(active.host)
        cables.stores[active.name].freeze()
        await taken_over(heir)
        await scene.sounder.heard(WAIT)
        network.plug(active.host)
        cables.stores[active.name].restore()
        if how == "killed":
            active.start()
        await asyncio.to_thread(active.wait_ready, 60.0)
        assert heir.role == "active"

    asyncio.run(befall(pair.sip, fault, hosts.client))


# ---- the store, the clock, the disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["of this reign", "of an older reign"])
def test_the_store_is_set_back_to_an_old_snapshot(pair: Pair, chronicle: Chronicle, tmp_path: Path, of: str) -> None:
    store = pair.directory / "store.db"

    async def fault(scene: Scene) -> None:
        snapshot = await asyncio.to_thread(Snapshot, store, tmp_path / "kept.db")
        if of == "of an older reign":
            old, heir = pair.active, pair.standby
            old.kill()
            await taken_over(heir)
            old.start()
            await asyncio.to_thread(old.wait_ready, 60.0)
        for _ in range(10):
            await scene.call.alice.register()
        scene.begin("store set back", "store")
        await asyncio.to_thread(chronicle.set_back, pair.active, snapshot.restore)
        await asyncio.to_thread(until, lambda: "active" in roles(pair), 20, "an active node", *pair.nodes)
        await scene.sounder.heard(WAIT)
        assert (await scene.call.alice.register()).status == 200

    asyncio.run(befall(pair.sip, fault))


@pytest.mark.parametrize("seconds", [-600, 600])
def test_a_clock_that_is_ten_minutes_wrong_changes_nothing(seconds: int) -> None:
    """Of the node that is active first; then the one whose clock is right takes over, and then the wrong one again."""
    with wired(before=lambda pair: wrong_clock(pair.nodes[0], seconds)) as cables:
        pair = cables.pair

        async def fault(scene: Scene) -> None:
            for _ in range(2):
                active, heir = pair.active, pair.standby
                scene.begin("killed", active.name)
                active.kill()
                await taken_over(heir)
                await scene.goes_on()
                active.start()
                await asyncio.to_thread(active.wait_ready, 60.0)

        asyncio.run(befall(pair.sip, fault))
        assert pair.active is pair.nodes[0]
        shown = pair.active.api("strftime %s")
        assert abs(int(shown) - time.time() - seconds) < 60, f"its clock is right: {shown}"


def test_a_full_disk_costs_no_call(tmp_path: Path) -> None:
    """The active's own: no log, no journal, no file in its run directory. Then its worker dies, then all of it."""
    with small_disk(tmp_path / "alpha") as fill, Pair(tmp_path) as pair:
        active, heir = pair.active, pair.standby
        assert active.name == "alpha"

        async def fault(scene: Scene) -> None:
            scene.begin("disk full", active.name)
            fill()
            await scene.goes_on()
            victim = active.worker_pid("internal#0")
            send(victim, signal.SIGKILL)
            await asyncio.to_thread(
                until, lambda: active.worker_pid("internal#0") not in (0, victim), 20, "a successor", active
            )
            await scene.goes_on()
            async with Phone("1005", PASSWORD, pair.sip, domain=DOMAIN) as phone:
                assert (await phone.register()).status == 200
            scene.begin("killed", active.name)
            active.kill()
            await taken_over(heir)

        asyncio.run(befall(pair.sip, fault))


# ---- histories -------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(50 if WHOLE else 1))
def test_a_history_of_faults_has_one_active_at_a_time(tmp_path: Path, chronicle: Chronicle, seed: int) -> None:
    """Faults by chance, one after the other, and a call through all of them. Every second one is on Redis."""
    with wired(redis=RedisServer(tmp_path / "redis") if seed % 2 else None) as cables:
        asyncio.run(live_through(cables, seed, faults=5))
        chronicle.note(cables.pair.active)
        assert len(chronicle.reigns()) >= 1
