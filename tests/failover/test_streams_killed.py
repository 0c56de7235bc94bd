"""Phones on TLS and WSS lose their connections with a worker or with the node, and keep their call."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.failover.measure import in_a_call
from tests.support.certificates import Authority
from tests.support.conversation import Conversation
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, Pair, loopback_address, shared_settings, until
from tests.support.phone import Line
from tests.support.streams import StreamPhone

pytestmark = pytest.mark.real

PORTS = {"TLS": 5061, "WSS": 7443}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path / "certs")
    for name in ("agent.pem", "wss.pem"):
        (made.folder / name).write_text(made.issue(DOMAIN))
    return made


def listening(authority: Authority) -> dict[str, str]:
    return {
        "certs_dir": str(authority.folder),
        "internal_ssl_enable": "true",
        "internal_tls_port": str(PORTS["TLS"]),
        "internal_wss_binding": f":{PORTS['WSS']}",
    }


@pytest.fixture
def pair(authority: Authority) -> Iterator[Pair]:
    with Pair(**listening(authority)) as pair:
        yield pair


@pytest.fixture
def solo(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    settings = shared_settings(loopback_address(), tmp_path / "store.db") | listening(authority)
    node = Node("solo", tmp_path / "solo", settings, standalone=True)
    with node.serving():
        yield node


@asynccontextmanager
async def talking(host: str, authority: Authority) -> AsyncIterator[Conversation]:
    """1000 on TLS has called 1001 on WSS."""
    trust = authority.trusting()
    async with (
        StreamPhone("1000", PASSWORD, (host, PORTS["TLS"]), "TLS", domain=DOMAIN, trust=trust) as alice,
        StreamPhone("1001", PASSWORD, (host, PORTS["WSS"]), "WSS", domain=DOMAIN, trust=trust) as bob,
    ):
        await alice.register()
        await bob.register()
        out = await alice.call("1001")
        incoming = await bob.answer_next()
        async with asyncio.timeout(5 * STRETCH):
            await out.answered.wait()
        call = Conversation(alice, bob, out, incoming)
        async with in_a_call(call, (host, 5060)):
            yield call


async def lives_on(call: Conversation, kill: Callable[[], Awaitable[None]]) -> float:
    """Kill; the phones notice, connect and register; both may offer, and one hangs up. Seconds until both were back."""
    phones = (call.alice, call.bob)
    await call.heard(20, 5 * STRETCH)
    await kill()
    killed = time.monotonic()
    for phone in phones:
        assert isinstance(phone, StreamPhone)
        async with asyncio.timeout(20 * STRETCH):
            await phone.gone.wait()
        await phone.reconnect(20 * STRETCH)
        assert (await phone.register()).status == 200
    back = time.monotonic() - killed
    assert await offered(call.out, "sendonly") == 200
    assert "a=sendonly" in call.incoming.remote_sdp
    assert await offered(call.incoming, "sendrecv") == 200
    await call.heard(20, 10 * STRETCH)
    await call.end(call.out, 10 * STRETCH)
    return back


async def offered(line: Line, direction: str) -> int:
    while (answer := await line.reinvite(direction)).status == 491:
        await asyncio.sleep(0.2)
    return answer.status


@pytest.mark.parametrize("how", ["killed", "switched over"])
def test_a_call_over_tls_and_wss_outlives_the_node(pair: Pair, authority: Authority, how: str) -> None:
    async def kill() -> None:
        heir = pair.standby
        if how == "killed":
            pair.active.kill()
        else:
            await asyncio.to_thread(pair.active.control, "switchover")
        await asyncio.to_thread(heir.wait_role, "active")
        # What they have registered is still known: only the phones themselves take it back.
        rows = await asyncio.to_thread(heir.api, "sofia status profile internal reg")
        assert "Total items returned: 2" in rows

    async def scenario() -> None:
        async with talking(pair.sip[0], authority) as call:
            back = await lives_on(call, kill)
            print(f"node {how}: phones on TLS and WSS are registered again {back:.2f} s after the takeover")

    asyncio.run(scenario())


def test_a_call_over_tls_and_wss_outlives_its_worker(solo: Node, authority: Authority) -> None:
    async def kill() -> None:
        victim = solo.worker_pid("internal#0")
        solo.tell("worker killed")
        os.kill(victim, signal.SIGKILL)
        await asyncio.to_thread(
            until, lambda: solo.worker_pid("internal#0") not in (0, victim), 10, "a successor", solo
        )

    async def scenario() -> None:
        async with talking(solo.sip[0], authority) as call:
            back = await lives_on(call, kill)
            print(f"worker killed: phones on TLS and WSS are registered again after {back:.2f} s")
        urls = await asyncio.to_thread(solo.api, "sofia status profile internal")
        assert f"TLS-BIND-URL     \tsips:mod_sofia@{solo.sip[0]}:5061" in urls
        assert "transport=wss" in urls
        assert "(TLS)" in await asyncio.to_thread(solo.api, "sofia status")

    asyncio.run(scenario())
