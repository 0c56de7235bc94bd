"""The promised figures, each over many runs: `make figures` (SOFIA_FIGURES=30). Printed, and kept in the report as its headline.

Nothing here is judged by the clock: a run that loses its call fails, the times stand in the table beside their goals.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.failover import headline
from tests.failover.faults import boot, die
from tests.failover.measure import talking
from tests.failover.report import record
from tests.support.netns import Network
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, Pair, until
from tests.support.phone import Line, Phone
from tests.support.streams import StreamPhone

pytestmark = [pytest.mark.real, pytest.mark.measured, pytest.mark.timeout(3600)]
RUNS = int(os.environ.get("SOFIA_FIGURES", "30"))
RINGING = 10
"Calls that ring in each run, on UDP and on TCP."
SHARED = "10.99.0.100"
WAIT = 20.0 * STRETCH


@pytest.fixture(autouse=True)
def phones_of_their_own() -> Iterator[None]:
    """Phones are other machines: no process that a node starts here keeps them from sending in time, nor does our own garbage."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    with Network() as network:
        yield network


@pytest.fixture
def hosts(network: Network) -> Iterator[Pair]:
    """A pair on two hosts, whose address moves."""
    settings = {"address_mode": "netlink", "shared_address": f"{SHARED}/24", "shared_interface": "eth0"}
    with Pair(address=SHARED, hosts=network.hosts[:2], **settings) as pair:
        yield pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


# ---- a worker ----------------------------------------------------------------------------------------------------------


def test_a_killed_worker_again_and_again(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip, of="worker killed") as call:
            for _ in range(RUNS):
                # Who dies six times within ten seconds comes up without its calls.
                pause = time.monotonic() + 2.0
                await asyncio.to_thread(until, lambda: _spare(solo), 30, "a spare", solo)
                await asyncio.sleep(max(0.0, pause - time.monotonic()))
                await call.heard(20, WAIT)
                pid = await asyncio.to_thread(solo.worker_pid, "internal#0")
                solo.tell("worker killed")
                os.kill(pid, signal.SIGKILL)
                await asyncio.to_thread(
                    until, lambda v=pid: solo.worker_pid("internal#0") not in (0, v), 20, "a successor", solo
                )
                assert (await call.out.reinvite()).status == 200
                await call.heard(50, WAIT)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


def _spare(node: Node) -> bool:
    children = node.status()["children"]
    assert isinstance(children, list)
    return any(child.get("kind") == "spare" and child.get("ready") for child in children)


# ---- a host ------------------------------------------------------------------------------------------------------------


@pytest.mark.namespaces
def test_a_dead_host_again_and_again(network: Network, hosts: Pair) -> None:
    async def scenario() -> None:
        async with talking(hosts.sip, network.hosts[2], of="host dead") as call:
            for _ in range(RUNS):
                await call.heard(20, WAIT)
                dead, heir = hosts.active, hosts.standby
                await asyncio.to_thread(die, network, dead)
                await asyncio.to_thread(heir.wait_role, "active")
                await call.heard(50, WAIT)
                assert (await call.out.reinvite()).status == 200
                await asyncio.to_thread(boot, network, dead, SHARED)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


@pytest.mark.namespaces
def test_a_planned_switchover_again_and_again(network: Network, hosts: Pair) -> None:
    async def scenario() -> None:
        async with talking(hosts.sip, network.hosts[2], of="switchover") as call:
            for _ in range(RUNS):
                await call.heard(30, WAIT)
                old, heir = hosts.active, hosts.standby
                answer = await asyncio.to_thread(old.control, "switchover")
                assert answer["ok"], answer
                await asyncio.to_thread(heir.wait_role, "active")
                await call.heard(50, WAIT)
                await asyncio.to_thread(old.wait_ready, 60.0)
                headline.count("switchover: calls kept", 1, 1)
            await call.end(call.incoming, WAIT)

    asyncio.run(scenario())


# ---- a node, with calls that ring --------------------------------------------------------------------------------------


def test_a_killed_node_with_calls_that_ring_again_and_again(pair: Pair) -> None:
    """Of each run one call is answered; others ring, between two phones on UDP and between two on TCP that connect anew."""
    kept = {"UDP": 0, "TCP": 0}
    for number in range(RUNS):
        asyncio.run(_one_run(pair, kept))
        headline.count("node killed: calls kept", 1, 1)
        print(f"run {number + 1}: ringing kept so far {kept}")
    rung = 2 * RINGING * RUNS
    record(calls=RUNS, calls_lost=0, ringing=rung, ringing_lost=rung - sum(kept.values()))


async def _one_run(pair: Pair, kept: dict[str, int]) -> None:
    dead, heir = pair.active, pair.standby
    async with (
        talking(pair.sip, of="node killed") as call,
        _phone("1002", pair, "UDP") as udp_caller,
        _phone("1003", pair, "UDP") as udp_callee,
        _phone("1004", pair, "TCP") as tcp_caller,
        _phone("1005", pair, "TCP") as tcp_callee,
    ):
        sets = {"UDP": (udp_caller, udp_callee), "TCP": (tcp_caller, tcp_callee)}
        lines = {transport: await _ring(*phones) for transport, phones in sets.items()}
        former = {phone: phone.contact for phone in (tcp_caller, tcp_callee)}
        await call.heard(10, WAIT)
        dead.kill()
        await asyncio.gather(asyncio.to_thread(heir.wait_role, "active"), _return(tcp_caller), _return(tcp_callee))
        for transport, rung in lines.items():
            outcomes = await asyncio.gather(*(_answered(out, incoming) for out, incoming in rung))
            kept[transport] += sum(outcomes)
            headline.count(f"ringing kept, {transport}", sum(outcomes), len(rung))
        for phone, contact in former.items():
            # Those of the next run are other phones: they must not be called by a connection of these.
            await phone.register(0, contact)
            await phone.register(0)
        await call.heard(10, WAIT)
        await call.end(call.incoming, WAIT)
    dead.start()
    await asyncio.to_thread(dead.wait_ready, 60.0)


def _phone(user: str, pair: Pair, transport: str) -> Phone:
    if transport == "UDP":
        return Phone(user, PASSWORD, pair.sip, domain=DOMAIN)
    return StreamPhone(user, PASSWORD, pair.sip, transport, domain=DOMAIN)


async def _ring(caller: Phone, callee: Phone) -> list[tuple[Line, Line]]:
    await caller.register()
    await callee.register()
    rung = []
    for _ in range(RINGING):
        out = await caller.call(callee.user)
        incoming = await callee.next_line(WAIT)
        async with asyncio.timeout(WAIT):
            await out.ringing.wait()
        rung.append((out, incoming))
    return rung


async def _return(phone: Phone) -> None:
    """Connect anew as soon as the connection has ended, as often as it ends, and register by it until that is granted."""
    assert isinstance(phone, StreamPhone)
    registered = None
    async with asyncio.timeout(WAIT):
        while registered is None or not registered.done() or registered.exception():
            if registered is not None and registered.done() and not phone.gone.is_set():
                await asyncio.sleep(1.0)  # refused, and told to come again
            else:
                await phone.gone.wait()
                if registered is not None:
                    registered.cancel()
                await phone.reconnect(WAIT)
            registered = asyncio.create_task(phone.register())
            gone = asyncio.create_task(phone.gone.wait())
            await asyncio.wait((registered, gone), return_when=asyncio.FIRST_COMPLETED)
            gone.cancel()
    assert (await registered).status == 200


async def _answered(out: Line, incoming: Line) -> bool:
    """It is answered on the other node, and ended there in order."""
    incoming.answer()
    try:
        async with asyncio.timeout(WAIT):
            await out.answered.wait()
            await incoming.answered.wait()
            return (await out.hangup()).status == 200
    except TimeoutError:
        return False
