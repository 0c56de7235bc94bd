"""One address floods the node; a well-behaved phone elsewhere registers and calls, and hardly notices.

`make floods` runs the same for longer.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.flood import KINDS, REQUESTS, flood
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings
from tests.support.phone import Phone
from tests.support.sipmessage import Sip

pytestmark = pytest.mark.real

SECONDS = float(os.environ.get("SOFIA_FLOOD_SECONDS", "3"))
RATE = {"slow-tcp": 300, "half-tls": 300, "connects": 1000, "crowd-tcp": 100}
"New connections a second; of anything else:"
MESSAGES = 4000
ENOUGH = 200
"Requests of the phones: of fewer, the slowest one alone would be the 99th of a hundred."
ANSWERED_WITHIN = 0.2
"Seconds, for 99 of 100 requests."
GROWTH = 48 << 20
"Bytes by which a worker may grow: bounded queues and tables, and what lingers of a few thousand transactions."
SHOWN = ("received", "malformed", "over_source_rate", "over_total_rate", "overload_refused", "connections_refused")
VANDAL, ALICE, BOB = "127.0.0.66", "127.0.0.9", "127.0.0.10"


class Timed(Phone):
    """A phone that notes how long each request waits for its first answer."""

    def __init__(self, user: str, server: tuple[str, int], host: str) -> None:
        super().__init__(user, PASSWORD, server, domain=DOMAIN, host=host)
        self.waits: list[float] = []
        self._asked: dict[tuple[str, str], float] = {}

    def send(self, message: Sip, to: tuple[str, int] | None = None) -> None:
        if not message.is_response and message.method != "ACK":
            self._asked.setdefault((message.branch, message.method), time.monotonic())
        super().send(message, to)

    def _on_response(self, message: Sip) -> None:
        asked = self._asked.get((message.branch, message.method), 0.0)
        if asked:
            self.waits.append(time.monotonic() - asked)
            self._asked[message.branch, message.method] = 0.0
        super()._on_response(message)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """With TLS, and the limits that it has by default."""
    folder = tmp_path_factory.mktemp("floods")
    address = loopback_address()
    authority = Authority(folder / "certs")
    (folder / "certs" / "agent.pem").write_text(authority.issue(DOMAIN, address))
    settings = shared_settings(address, folder / "store.db")
    settings |= {"internal_ssl_enable": "true", "certs_dir": str(folder / "certs")}
    made = Node("solo", folder / "solo", settings, standalone=True)
    with made.serving():
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_elsewhere_is_answered_in_time_while_one_address_floods(node: Node, kind: str) -> None:
    pid = node.worker_pid("internal#0")
    before, counted = resident(pid), ask(node, "stats")
    host, port = node.sip
    target = (host, 5061) if kind == "half-tls" else (host, port)

    async def scenario() -> list[float]:
        async with Timed("1000", node.sip, ALICE) as alice, Timed("1001", node.sip, BOB) as bob:
            await alice.register()
            await bob.register()
            alice.waits.clear()
            bob.waits.clear()
            with flood(kind, VANDAL, target, rate=RATE.get(kind, MESSAGES), seconds=SECONDS + 30):
                until = time.monotonic() + SECONDS
                while time.monotonic() < until or len(alice.waits + bob.waits) < ENOUGH:
                    await register_and_call(alice, bob)
            return sorted(alice.waits + bob.waits)

    waits = asyncio.run(scenario())
    late = waits[int(len(waits) * 0.99)]
    grown = resident(pid) - before
    counts = {name: value - counted[name] for name, value in ask(node, "stats").items() if name in SHOWN}
    print(
        f"\n{kind}: {len(waits)} requests of the phones, 99 of 100 answered within {late * 1000:.1f} ms, "
        f"the slowest {waits[-1] * 1000:.1f} ms; the worker grew by {grown / 1024:.0f} KiB to {resident(pid) >> 20} MiB; "
        + ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    )
    assert late < ANSWERED_WITHIN * STRETCH
    assert grown < GROWTH
    if kind == "connects":
        assert counts["connections_refused"] > SECONDS * RATE[kind] / 8 / STRETCH, "it was no flood"
    if kind in REQUESTS:
        assert counts["over_source_rate"] > SECONDS * MESSAGES / 4 / STRETCH, "it was no flood"
    assert node.worker_pid("internal#0") == pid, "it is still the same process"
    assert "Traceback" not in node.output()


async def register_and_call(alice: Timed, bob: Timed) -> None:
    assert (await alice.register()).status == 200
    line = await alice.call("1001")
    heard = await bob.answer_next(10 * STRETCH)
    async with asyncio.timeout(10 * STRETCH):
        await line.answered.wait()
        assert (await line.hangup()).status == 200
        await heard.ended.wait()
    line.close()
    heard.close()


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
