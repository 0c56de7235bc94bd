"""A pair led by Pacemaker and Corosync on two hosts in namespaces, with the agent and resources of deploy/pacemaker."""

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
from tests.support.chronicle import Chronicle
from tests.support.cluster import DEPLOYED, Clustered
from tests.support.conversation import Conversation
from tests.support.netns import Network, lose_address
from tests.support.node import STRETCH, Pair, until

pytestmark = [pytest.mark.real, pytest.mark.namespaces, pytest.mark.long, pytest.mark.timeout(600)]
SHARED = "10.99.0.100"


class Cluster:
    def __init__(self, network: Network, pair: Pair, hosts: list[Clustered]) -> None:
        self.network, self.pair, self.hosts = network, pair, hosts

    def start(self) -> None:
        for host in self.hosts:
            host.boot()
        for host in self.hosts:
            host.wait_for_both()
        first = self.hosts[0]
        # The command is another file on each host, of the same content.
        own = [
            f"command={first.command}",
            f"conf={first.node.conf}",
            "rundir=/run/sofia",
            "defaults=/run/sofia-node.default",
        ]
        first.run(str(DEPLOYED / "create-resources"), SHARED, "24", "eth0", *own)
        self.wait(lambda: self.leader() is not None, 60, "one node to have role and address")
        self.wait(lambda: self.standby_is_ready(), 30, "the other one to be ready")

    def leader(self) -> Clustered | None:
        active = [host for host in self.hosts if self.role(host) == "active"]
        holding = [host for host in self.hosts if self.has_the_address(host)]
        return active[0] if len(active) == 1 and active == holding else None

    def other(self, host: Clustered) -> Clustered:
        return self.hosts[1 - self.hosts.index(host)]

    def role(self, host: Clustered) -> str:
        return {8: "active", 0: "standby"}.get(self.health(host), "")

    def health(self, host: Clustered) -> int:
        if not host.init:
            return 7
        words = ["nsenter", "-t", str(host.init), "-a", str(host.command), "health", "--run-dir", "/run/sofia"]
        return subprocess.run(words, capture_output=True, check=False).returncode

    def standby_is_ready(self) -> bool:
        leader = self.leader()
        return leader is not None and self.health(self.other(leader)) == 0

    def has_the_address(self, host: Clustered) -> bool:
        if not host.init:
            return False
        shown = subprocess.run(
            ["ip", "-n", host.host.name, "-o", "addr", "show", "dev", "eth0"],
            capture_output=True,
            text=True,
            check=False,
        )
        return f" {SHARED}/" in shown.stdout

    def wait(self, holds: Callable[[], bool], within: float, what: str) -> None:
        try:
            until(holds, within, what)
        except AssertionError as error:
            said = "\n".join(f"--- {host.name}\n{host.output()}" for host in self.hosts)
            alive = next((host for host in self.hosts if host.init), None)
            shown = alive.run("crm_mon", "-1", "-A", "-r", check=False) if alive else ""
            raise AssertionError(f"{error}\n{shown}\n{said}") from None


@pytest.fixture
def cluster(tmp_path: Path, chronicle: Chronicle) -> Iterator[Cluster]:
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    with Network() as network:
        pair = Pair(address=SHARED, hosts=network.hosts[:2], election="ordered")
        for node in pair.nodes:
            chronicle.hear(node)
        hosts = [Clustered(node, tmp_path, number, network.hosts[:2]) for number, node in enumerate(pair.nodes, 1)]
        cluster = Cluster(network, pair, hosts)
        try:
            cluster.start()
            pair.nodes[0].tell("active")
            yield cluster
        finally:
            for host in hosts:
                host.kill()
            pair.__exit__()


def test_a_call_survives_move_crash_and_death_of_a_host(cluster: Cluster, chronicle: Chronicle) -> None:
    """pcs-style move, the node killed (Pacemaker starts it again), power off, and the dead host booting again."""

    async def play() -> None:
        async with talking(cluster.pair.sip, cluster.network.hosts[2]) as call:
            await call.heard(20, 10 * STRETCH)
            began = time.monotonic()
            record(calls=1, calls_lost=1)
            for what, fault in (("move", move), ("host killed", kill_host), ("failback", move)):
                await act(call, what, fault)
            await node_killed(call)
            record(audio_gap_ms=call.longest_gap(began) * 1000)
            await call.end(call.incoming, within=10 * STRETCH)
            record(calls_lost=0)

    async def act(call: Conversation, what: str, fault: Callable[[Cluster, Clustered], None]) -> None:
        leader = cluster.leader()
        assert leader is not None
        since = time.monotonic()
        leader.node.tell(what)
        await asyncio.to_thread(fault, cluster, leader)
        await asyncio.to_thread(
            cluster.wait, lambda: cluster.leader() is cluster.other(leader), 60, f"the other host to lead after {what}"
        )
        print(f"pacemaker, {what}: the other node leads after {time.monotonic() - since:.2f} s")
        cluster.other(leader).node.tell("active")
        await call.heard(50, 20 * STRETCH)
        print(f"pacemaker, {what}: longest audio gap {call.longest_gap(since - 0.2):.2f} s")
        assert (await call.out.reinvite()).status == 200
        await asyncio.to_thread(mend, cluster, leader)

    async def node_killed(call: Conversation) -> None:
        """Its supervisor alone: Pacemaker starts it again, here or promotes the other."""
        leader = cluster.leader()
        assert leader is not None
        since = time.monotonic()
        pid = leader.run("cat", "/run/sofia/sofia-node.pid").strip()
        # Not `killed`: it still answers for a moment, while the command is on its way.
        leader.node.tell("node killed")
        await asyncio.to_thread(leader.run, "kill", "-9", pid)
        await asyncio.to_thread(cluster.wait, lambda: cluster.health(leader) != 8, 10, "its end")
        await asyncio.to_thread(cluster.wait, lambda: cluster.leader() is not None, 60, "somebody to lead")
        leader.node.tell("active")
        print(f"pacemaker, node killed: a node leads after {time.monotonic() - since:.2f} s")
        await call.heard(50, 20 * STRETCH)

    asyncio.run(play())
    # Moved, died, moved back, died: each who led has acted, and conftest judges that nobody else did meanwhile.
    reigns = chronicle.reigns()
    print("pacemaker, who led:", *reigns, sep="\n")
    assert len(reigns) >= 4
    assert all(reign.answers > 0 for reign in reigns[1:4])


def move(cluster: Cluster, leader: Clustered) -> None:
    other = cluster.other(leader)
    other.run("crm_resource", "--move", "-r", "sofia-clone", "--promoted", "-N", other.name)


def kill_host(cluster: Cluster, leader: Clustered) -> None:
    cluster.network.unplug(leader.host)
    leader.kill()


def mend(cluster: Cluster, host: Clustered) -> None:
    """Boot it if it is dead, take back the constraint of a move, and wait for a whole cluster."""
    if not host.init:
        lose_address(host.host, SHARED)
        cluster.network.plug(host.host)
        host.boot()
        host.wait_for_both()
    cluster.other(host).run("crm_resource", "--clear", "-r", "sofia-clone")
    cluster.wait(cluster.standby_is_ready, 60, f"{host.name} to be a standby again")
    leader = cluster.leader()
    assert leader is not None
    assert leader is not host, "who comes back waits"
