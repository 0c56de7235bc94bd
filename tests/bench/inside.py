"""A whole worker inside this process, without a network: raw messages are put in by hand, and what it would send is kept.

Everything between is the real thing: endpoint, layer, reception, registrar, calls, the writer with a store in memory. The
media process is a process of its own, as always, and its work is not counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

from ha.process import call, fork
from node.config import Configuration, Identity, load
from node.directory import Directory
from node.duty import Belongings, Duty
from node.events import EventStream
from node.link import Promote, SocketName
from node.profiles.screen import Screen
from node.registrar.location import Location
from node.sip.flow import Address, Flow
from node.transport.udp import Datagrams
from node.worker import new_loop, settle_collector
from store.backends import open_store
from store.journal import MemoryJournal
from store.writer import Writer
from tests.support.node import DOMAIN, PASSWORD
from tests.support.sipmessage import Sip

CONF = Path(__file__).parents[2] / "conf"
SLOT = "internal#0"
WITHIN = 20.0
"Seconds after which an answer that has not come will not come."


class Inside:
    """The worker, its loop, and what it has sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop, configuration: Configuration, run_dir: Path) -> None:
        self.sent: dict[bytes, None] = {}
        "In order, what is repeated once."
        self._wanted: tuple[bytes, ...] = ()
        self._left = 0
        self._loop = loop
        identity = Identity("bench", "core-uuid", time.time())
        writer = Writer(
            open_store(configuration.switch.database, db_dir=run_dir / "db"),
            call_soon=loop.call_soon_threadsafe,
            call_later=loop.call_later,
            journal=MemoryJournal(100_000),
        )
        location = Location(writer.store_time)
        location.attach(writer)
        directory, events = Directory(configuration.directory), EventStream()
        screen = Screen(configuration, directory, events=events, clock=writer.store_time)
        screen.set_secret(os.urandom(32))
        own = Belongings(
            loop, identity, configuration, run_dir, directory, events, writer, location, screen, lambda said: None
        )
        promote = Promote(slot=SLOT, epoch=1, claims=[], sockets=[], recover=False)
        for folder in ("bus", "workers"):
            (run_dir / folder).mkdir(exist_ok=True)
        self._writer = writer
        self._duty = Duty(own, promote)
        writer.start()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        self.address: Address = sock.getsockname()
        promote.sockets = [SocketName("internal", "udp", self.address[0], self.address[1], SLOT)]
        self._duty.begin(promote, [sock.detach()])
        location.load()  # until memory has the registrations, each REGISTER asks the store for them
        self.run(lambda: location.complete)

    def send(self, _socket: Datagrams, data: bytes, _remote: Address) -> int:
        """Stands in for `Datagrams.send`."""
        if data in self.sent:
            return 0  # the machine is so slow that it was sent again
        self.sent[data] = None
        if self._wanted and data.startswith(self._wanted):
            self._left -= 1
            if not self._left:
                self._loop.stop()
        return 0

    def exchange(self, messages: Sequence[bytes], remote: Address, *wanted: bytes) -> float:
        """Seconds of CPU, of all threads, until for each message one was sent of each kind: the beginnings of `wanted`."""
        flow = Flow("internal", "UDP", self.address, remote)
        receive = self._duty.endpoint.on_message
        self.sent.clear()
        self._wanted, self._left = wanted, len(messages) * len(wanted)
        # Were the last answer sent before the loop runs, nobody would stop the loop.
        self._loop.call_soon(lambda: [receive(data, flow) for data in messages])
        limit = self._loop.call_later(WITHIN, self._loop.stop)
        began = time.process_time()
        self._loop.run_forever()
        spent = time.process_time() - began
        limit.cancel()
        if self._left:
            raise RuntimeError(
                f"{len(messages)} messages, and {self._left} too few of {wanted}, last {list(self.sent)[-1:]}"
            )
        self._wanted = ()
        return spent

    def absorb(self, messages: Sequence[bytes], remote: Address) -> None:
        """Put in what has no answer, and let the store have what comes of it."""
        for data in messages:
            self._duty.endpoint.on_message(data, Flow("internal", "UDP", self.address, remote))
        self._loop.run_until_complete(asyncio.sleep(0.03))

    def taken(self, wanted: bytes) -> list[Sip]:
        """What was sent last and begins so."""
        return [Sip.parse(data) for data in self.sent if data.startswith(wanted)]

    def run(self, holds: Callable[[], bool]) -> None:
        """Run the loop until this holds."""

        async def wait() -> None:
            async with asyncio.timeout(WITHIN):
                while not holds():
                    await asyncio.sleep(0.002)

        self._loop.run_until_complete(wait())

    @property
    def puts(self) -> int:
        """Writes that the store has judged so far."""
        return self._writer.stats.items

    def close(self) -> None:
        self._duty.close()
        self._writer.close(0.1)


@contextlib.contextmanager
def inside(run_dir: Path) -> Iterator[Inside]:
    """A worker that serves, with a media process beside it, and logs no lines below a warning."""
    run_dir.mkdir(exist_ok=True)
    configuration = configured(run_dir, "memory://bench-messages")
    media = fork("media", call("node.media.__main__:main", None, configuration, run_dir), time.monotonic())
    loop = new_loop()
    try:
        select.select([media.link], [], [], WITHIN)
        worker = Inside(loop, configuration, run_dir)
        with patch.object(Datagrams, "send", lambda sock, data, remote: worker.send(sock, data, remote)):
            settle_collector()
            yield worker
        worker.close()
    finally:
        media.kill()
        media.link.close()
        loop.close()


def configured(run_dir: Path, dsn: str, **overrides: str) -> Configuration:
    """The configuration that is shipped, with a store of this kind and no limits of rate."""
    values = {
        "sip_ip": "127.0.0.1",
        "domain": DOMAIN,
        "default_password": PASSWORD,
        "event_socket_password": "unused",
        "core_db_dsn": dsn,
        "max_recv_rps": "0",
        "max_sessions": "100000",
        "sessions_per_second": "100000",
    }
    return load(CONF, {**values, **overrides}, run_dir=run_dir)
