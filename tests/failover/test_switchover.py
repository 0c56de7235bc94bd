"""A planned switchover loses nothing: answered, ringing, in-flight requests, and next to no audio.

Two hosts and the phones on a switch of their own; the nodes move the shared address themselves. The load goes on while they
swap roles: registrations, calls that are placed, ring, are answered, hung up and cancelled.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import statistics
import time
from collections.abc import Iterator

import pytest

from tests.failover import headline
from tests.failover.measure import talking
from tests.failover.report import record
from tests.support.netns import Host, Network
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Pair
from tests.support.registrants import Registrants
from tests.support.swarm import Swarm, SwarmCall

pytestmark = [pytest.mark.real, pytest.mark.namespaces]

SHARED = "10.99.0.100"
REGISTRATIONS, CALLS = 50, 10
"A second."
SWAPS = int(os.environ.get("SOFIA_SWITCHOVERS", "2"))
APART = 1.5
"Seconds between the end of a switchover and the next one."


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root")
    with Network() as network:
        yield network


@pytest.fixture(scope="module")
def pair(network: Network) -> Iterator[Pair]:
    settings = {"address_mode": "netlink", "shared_address": f"{SHARED}/24", "shared_interface": "eth0"}
    with Pair(address=SHARED, hosts=network.hosts[:2], **settings) as pair:
        yield pair


async def swap(pair: Pair) -> float:
    """The nodes change their roles; when it was ordered. Returns when both have settled."""
    old, heir = pair.active, pair.standby
    ordered = time.monotonic()
    answer = await asyncio.to_thread(old.control, "switchover")
    assert answer["ok"], answer
    await asyncio.to_thread(heir.wait_role, "active")
    await asyncio.to_thread(old.wait_ready, 60.0)
    return ordered


async def load(swarm: Swarm, over: asyncio.Event) -> list[SwarmCall]:
    """Calls without end: of ten, one is cancelled while it rings, five are hung up soon, the others stay."""
    placed: list[SwarmCall] = []
    due = time.monotonic()
    while not over.is_set():
        call = swarm.invite()
        placed.append(call)
        # The callees answer after 0.6 seconds.
        asyncio.get_running_loop().call_later(0.3 if call.number % 10 == 0 else 1.0, use, swarm, call)
        due += 1 / CALLS
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    return placed


def use(swarm: Swarm, call: SwarmCall) -> None:
    if call.number % 10 == 0 and call.state == "ringing":
        swarm.cancel(call)
        call.state = "cancelling"
    elif call.number % 10 in (1, 2, 3, 4, 5) and call.state == "answered":
        swarm.hang_up(call, by_callee=call.number % 2 == 1)
        call.state = "leaving"


@pytest.mark.timeout(300)
def test_a_switchover_under_load_loses_no_call_no_ringing_and_no_registration(network: Network, pair: Pair) -> None:
    client = network.hosts[2]
    rang: set[int] = set()
    "Calls that rang when a switchover was ordered."

    async def scenario() -> None:
        # The callees ring for a while: some calls ring whenever the nodes swap.
        users = [str(number) for number in range(1000, 1010)]
        over = asyncio.Event()
        async with (
            Swarm(pair.sip, DOMAIN, PASSWORD, answer_after=0.6, host=client) as swarm,
            Registrants(pair.sip, DOMAIN, PASSWORD, users, host=client) as registrants,
        ):
            calling = asyncio.create_task(load(swarm, over))
            refreshing = asyncio.create_task(registrants.refresh(REGISTRATIONS, 3600.0))
            await swarm.until(lambda: swarm.states()["answered"] > 3, 20 * STRETCH)
            for _ in range(SWAPS):
                rang.update(call.number for call in swarm.calls.values() if call.state == "ringing")
                await swap(pair)
                await asyncio.sleep(APART)
            over.set()
            placed = await calling
            await finished(swarm, placed)
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)
            tell(swarm, registrants, placed)
            judge(swarm, registrants, placed, rang)

    asyncio.run(scenario())


async def finished(swarm: Swarm, placed: list[SwarmCall]) -> None:
    """Everything that rang is answered; then all that is up is hung up."""
    await swarm.until(lambda: not any(call.state in ("sent", "ringing", "cancelling") for call in placed), 40 * STRETCH)
    for call in placed:
        if call.state == "answered":
            swarm.hang_up(call, by_callee=call.number % 2 == 1)
            call.state = "leaving"
    await swarm.until(lambda: all(call.hangup or call.refused for call in placed), 40 * STRETCH)


def tell(swarm: Swarm, registrants: Registrants, placed: list[SwarmCall]) -> None:
    took = sorted(registrants.took)
    print(
        f"{SWAPS} switchovers at {CALLS} calls/s and {REGISTRATIONS} registrations/s: {len(placed)} calls, "
        f"{sum(call.hangup == 200 for call in placed)} hung up, {sum(call.refused == 487 for call in placed)} cancelled; "
        f"{len(took)} registrations, longest {took[-1] * 1000:.0f} ms; answers {dict(swarm.statuses)}"
    )


def judge(swarm: Swarm, registrants: Registrants, placed: list[SwarmCall], rang: set[int]) -> None:
    lost = [(call.number, call.state, call.refused, call.hangup) for call in placed if not _well(call)]
    silenced = len(rang.intersection(number for number, *_ in lost))
    record(calls=len(placed) - len(rang), calls_lost=len(lost) - silenced, ringing=len(rang), ringing_lost=silenced)
    record(sip_gap_ms=max(registrants.took) * 1000)
    headline.count("switchover: calls kept", len(placed) - len(lost), len(placed))
    assert lost == []
    assert not {status for _method, status in swarm.statuses} & {481, 500, 503, 408}
    assert [(one.user, one.refused) for one in registrants.all.values() if one.refused] == []
    assert len(placed) > SWAPS * CALLS * APART / 2


def _well(call: SwarmCall) -> bool:
    """Hung up with 200, and the other side heard of it; or cancelled with 487, as it was wanted."""
    if call.refused:
        return call.number % 10 == 0 and call.refused == 487
    return call.hangup == 200 and (call.caller.ended or (call.callee is not None and call.callee.ended))


@pytest.mark.timeout(300)
def test_a_switchover_interrupts_the_audio_for_a_moment_only(network: Network, pair: Pair) -> None:
    async def scenario() -> None:
        gaps: list[float] = []
        sip: list[float] = []
        lost = 0
        async with talking(pair.sip, network.hosts[2]) as call:
            await call.heard(30, 10 * STRETCH)
            for _ in range(SWAPS + 1):
                probe = asyncio.create_task(sip_gap(pair, network.hosts[2]))
                ordered = await swap(pair)
                await call.heard(30, 10 * STRETCH)
                gaps.append(call.longest_gap(ordered - 0.1) * 1000)
                sip.append(await probe)
            assert call.out.reinvited == call.incoming.reinvited == 0
            lost = sum(audio.missing() for audio in call.audios)
            await call.end(call.out, 10 * STRETCH)
        print(
            f"{len(gaps)} switchovers: audio gap ms p50 {statistics.median(gaps):.0f} max {max(gaps):.0f} (20 between two "
            f"packets), {lost} packets lost, SIP gap ms p50 {statistics.median(sip):.0f} max {max(sip):.0f}"
        )
        assert lost == 0
        record(audio_gap_ms=max(gaps), sip_gap_ms=max(sip))
        for gap in gaps:
            headline.sample("switchover: audio", gap)
        assert min(gaps) < 250 * STRETCH

    asyncio.run(scenario())


async def sip_gap(pair: Pair, client: Host) -> float:
    """OPTIONS every 10 ms for two seconds: the longest time between two answers, in milliseconds."""
    loop = asyncio.get_running_loop()
    heard: list[float] = []

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            heard.append(loop.time())

    with client.inside():
        made = loop.create_datagram_endpoint(Ear, local_addr=(client.address, 0))
        transport, _protocol = await made
    host, port = transport.get_extra_info("sockname")
    end = loop.time() + 2.0
    number = 0
    while loop.time() < end:
        number += 1
        transport.sendto(
            (
                f"OPTIONS sip:{pair.sip[0]} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bKgap{port}x{number}\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:probe@{host}>;tag=1\r\nTo: <sip:{pair.sip[0]}>\r\n"
                f"Call-ID: gap-{port}-{number}\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
            ).encode(),
            pair.sip,
        )
        await asyncio.sleep(0.01)
    transport.close()
    assert len(heard) > 2, "nobody answers OPTIONS"
    return max(later - earlier for earlier, later in itertools.pairwise(heard)) * 1000
