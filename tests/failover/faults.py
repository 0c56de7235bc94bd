"""What can befall a pair in the middle of a call, and the proof that the call goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.failover.report import mark, record
from tests.support import chronicle
from tests.support.conversation import Conversation, talking
from tests.support.netns import Host, Network, lose_address
from tests.support.node import STRETCH, Node, Pair, free_port, until
from tests.support.phone import Line
from tests.support.postgres import postgres
from tests.support.redis import RedisServer
from tests.support.sounder import Sounder
from tests.support.tcpproxy import TcpProxy

WAIT = 20.0 * STRETCH
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


@dataclass
class Scene:
    """A call that is up, somebody who asks the node all the time, and when the fault began."""

    call: Conversation
    sounder: Sounder
    began: float = 0.0

    def begin(self, what: str, lane: str = "fault") -> float:
        """The fault comes now."""
        self.began = time.monotonic()
        mark(what, lane, bad=True)
        return self.began

    async def goes_on(self, *, silence: float | None = None) -> None:
        """SIP is answered, both hear each other, either side may offer; the figures are recorded.

        `silence`: the longest time in seconds for which nobody may have been heard, where that is promised.
        """
        await self.sounder.heard(WAIT)
        await offer(self.call.out)
        await offer(self.call.incoming)
        await self.call.heard(20, WAIT)
        audio = max(audio.longest_gap(self.began - 0.1) for audio in self.call.audios)
        sip = self.sounder.longest_gap(self.began)
        record(calls=1, calls_lost=0, sip_gap_ms=sip * 1000, audio_gap_ms=audio * 1000)
        print(f"longest silence: SIP {sip * 1000:.0f} ms, audio {audio * 1000:.0f} ms")
        assert silence is None or audio < silence * STRETCH


async def offer(line: Line) -> None:
    """A re-INVITE that is answered 200, sooner or later."""
    async with asyncio.timeout(WAIT):
        while (answer := await line.reinvite()).status == 491:
            await asyncio.sleep(0.1)
    assert answer.status == 200, answer.start


@contextlib.asynccontextmanager
async def in_a_call(sip: tuple[str, int], client: Host | None = None) -> AsyncIterator[Scene]:
    """The call is lost until it has been ended in order."""
    record(calls=1, calls_lost=1)
    host = client.address if client is not None else "127.0.0.1"
    async with talking(sip, client) as call, Sounder(sip, host=host, namespace=client) as sounder:
        await call.heard(20, WAIT)
        await sounder.heard(WAIT)
        yield Scene(call, sounder)
        await call.end(call.incoming, WAIT)
    record(calls_lost=0)


async def befall(
    sip: tuple[str, int], fault: Callable[[Scene], Awaitable[None]], client: Host | None = None, **limits: float
) -> None:
    """A call, a fault in its midst, and what is promised of the call after it."""
    async with in_a_call(sip, client) as scene:
        await fault(scene)
        await scene.goes_on(**limits)


# ---- by name -------------------------------------------------------------------------------------------------------


def send(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


def freeze(node: Node) -> None:
    """Every process of it."""
    node.tell("frozen")
    assert node.process is not None
    os.killpg(node.process.pid, signal.SIGSTOP)


def thaw(node: Node) -> None:
    node.tell("woken")
    assert node.process is not None
    os.killpg(node.process.pid, signal.SIGCONT)


def die(network: Network, node: Node) -> None:
    """Power off: nothing that its kernel would still say gets out."""
    assert node.host is not None
    assert node.process is not None
    network.unplug(node.host)
    node.tell("host dead")
    os.killpg(node.process.pid, signal.SIGKILL)
    node.process.wait()


def boot(network: Network, node: Node, shared: str) -> None:
    assert node.host is not None
    lose_address(node.host, shared)
    network.plug(node.host)
    node.start()
    node.wait_ready(60.0)


@contextlib.contextmanager
def supervisor_frozen(node: Node) -> Iterator[None]:
    """It alone; its workers, its media process and its lease keeper go on as long as they may."""
    assert node.process is not None
    node.tell("frozen")
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        node.tell("woken")
        os.kill(node.process.pid, signal.SIGCONT)


async def taken_over(heir: Node) -> None:
    await asyncio.to_thread(heir.wait_role, "active")


async def replaced(node: Node, kind: str, pid: int) -> None:
    """Another process of this kind is there, and ready."""

    def other() -> bool:
        children = node.status()["children"]
        assert isinstance(children, list)
        return any(c.get("kind") == kind and int(c["pid"]) != pid and c.get("ready", True) for c in children)

    await asyncio.to_thread(until, other, 20, f"another {kind}", node)


def roles(pair: Pair) -> list[str]:
    return [node.role for node in pair.nodes]


# ---- a pair with cables that can be cut ----------------------------------------------------------------------------


class Inside(TcpProxy):
    """Listens on a host of its own, passes on to where we are."""

    def __init__(self, target: tuple[str, int], host: Host | None, port: int = 0) -> None:
        super().__init__(target, port=port)
        self._namespace = host

    async def _listen(self) -> None:
        with self._namespace.inside() if self._namespace is not None else contextlib.nullcontext():
            await super()._listen()


@dataclass
class Wired:
    """A pair on PostgreSQL: each node reaches the store, and its peer, by a cable of its own."""

    pair: Pair
    stores: dict[str, TcpProxy]
    links: list[TcpProxy]
    "None where the hosts have a network."

    def cut_link(self) -> None:
        mark("the peer link is cut", "fault", bad=True)
        for link in self.links:
            link.cut()

    def mend_link(self) -> None:
        mark("the peer link is mended", "fault")
        for link in self.links:
            link.restore()

    def cut_store(self, *nodes: Node) -> None:
        for node in nodes:
            mark(f"{node.name} is cut off from the store", "fault", bad=True)
            self.stores[node.name].cut()

    def mend_store(self, *nodes: Node) -> None:
        for node in nodes:
            mark(f"{node.name} has the store again", "fault")
            self.stores[node.name].restore()


@contextlib.contextmanager
def wired(
    network: Network | None = None,
    *,
    before: Callable[[Pair], None] = lambda pair: None,
    redis: RedisServer | None = None,
    **settings: str,
) -> Iterator[Wired]:
    """On a network of hosts if there is one, else on this one. `before` its nodes are started. On PostgreSQL, or on a Redis."""
    with contextlib.ExitStack() as stack:
        there, dsn = _store(stack, redis)
        hosts = network.hosts[:2] if network is not None else []
        pair = Pair(hosts=hosts, **settings)
        stores, links = {}, []
        for number, node in enumerate(pair.nodes):
            proxy = stack.enter_context(Inside(there, hosts[number] if hosts else None))
            stores[node.name] = proxy
            node.settings["core_db_dsn"] = dsn(proxy.port)
            chronicle.ASIDE[dsn(proxy.port)] = there
            if not hosts:
                name, _, port = node.settings["peer_address"].rpartition(":")
                link = stack.enter_context(TcpProxy((name, int(port)), port=free_port()))
                links.append(link)
                node.settings["peer_address"] = f"127.0.0.1:{link.port}"
        before(pair)
        stack.enter_context(pair)
        yield Wired(pair, stores, links)


def _store(stack: contextlib.ExitStack, redis: RedisServer | None) -> tuple[tuple[str, int], Callable[[int], str]]:
    """Where a new store is, and its DSN by another port."""
    if redis is not None:
        redis.start()
        stack.callback(redis.stop)
        return redis.address, lambda port: f"redis://127.0.0.1:{port}/0"
    server = postgres()
    schema = stack.enter_context(server.fresh())
    return ("127.0.0.1", server.port), lambda port: server.dsn(schema, port=port)


# ---- the store, the clock, the disk ----------------------------------------------------------------------------------


class Snapshot:
    """Of an SQLite store, taken when this is made."""

    def __init__(self, store: Path, kept: Path) -> None:
        self._store, self._kept = store, kept
        _copy(store, kept)

    def restore(self) -> None:
        """In one transaction, while everybody uses it."""
        mark("the store is set back", "store", bad=True)
        _copy(self._kept, self._store)


def _copy(source: Path, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(source)) as a, contextlib.closing(sqlite3.connect(target, timeout=10)) as b:
        a.backup(b)


def wrong_clock(node: Node, seconds: int) -> None:
    """Before it is started: the time of day of all its processes is wrong by so much, their monotonic clock is not."""
    node.environment |= {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{seconds:+d}s"}
    node.environment |= {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[], None]]:
    """A file system of its own under a folder; what is yielded fills it to the last byte."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True)

    def fill() -> None:
        mark("the disk is full", "fault", bad=True)
        file = os.open(folder / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(file, bytes(4096))
        os.close(file)

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)
