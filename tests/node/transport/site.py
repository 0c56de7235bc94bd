"""Streams with the sockets of a profile, for tests of connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from ha.sockets import bind
from node.config.profile import Binding, ProfileSettings
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.transport.streams import Streams
from tests.support.node import STRETCH, loopback_address

WITHIN = 10.0 * STRETCH


def message(body: str = "", via: str = "SIP/2.0/TCP 127.0.0.1:5099;branch=z9hG4bK1") -> bytes:
    lines = ["OPTIONS sip:a SIP/2.0", f"Via: {via}", "Call-ID: 1", f"Content-Length: {len(body)}", "", body]
    return "\r\n".join(lines).encode()


class Site:
    """Streams with the sockets of a profile, and what they brought; answers with `reply`, if there is one."""

    def __init__(self, settings: ProfileSettings) -> None:
        self.settings = settings
        self.kept = bind(settings)
        self.streams = Streams("a.0", asyncio.get_running_loop(), self, {settings.name: settings}, settings.name)
        self.came: list[tuple[bytes, Flow]] = []
        self.lost: list[Flow] = []
        self.closed: list[Flow] = []
        self.reply = b""
        for each in self.kept:
            if each.name.kind != "udp":
                self.streams.listen(each.socket.dup(), settings.name, each.name.kind.upper())  # type: ignore[arg-type]

    def at(self, kind: str) -> tuple[str, int]:
        return next((each.name.host, each.name.port) for each in self.kept if each.name.kind == kind)

    def to(self, other: Site, kind: str) -> Flow:
        return Flow(self.settings.name, kind.upper(), (self.settings.sip_ip, 0), other.at(kind))  # type: ignore[arg-type]

    def change(self, **fields: object) -> None:
        self.settings = replace(self.settings, **fields)  # type: ignore[arg-type]
        self.streams.configure({self.settings.name: self.settings})

    def close(self) -> None:
        self.streams.close()
        for each in self.kept:
            each.socket.close()

    def on_message(self, data: bytes, flow: Flow) -> None:
        self.came.append((data, flow))
        if self.reply:
            self.streams.send(self.reply, flow)

    def on_broken(self, data: bytes, flow: Flow, error: SipError) -> None: ...

    def on_drained(self) -> None: ...

    def on_crowded(self) -> None: ...

    def on_lost(self, flow: Flow) -> None:
        self.lost.append(flow)

    def on_closed(self, flow: Flow) -> None:
        self.closed.append(flow)


@asynccontextmanager
async def site(certificates: Path | None = None, **fields: object) -> AsyncIterator[Site]:
    host = loopback_address()
    transports = ("udp", "tcp", *(("tls", "wss") if certificates else ()))
    settings = ProfileSettings(
        name="a",
        sip_ip=host,
        sip_port=0,
        tls=certificates is not None,
        tls_sip_port=0,
        tls_cert_dir=str(certificates),
        wss_binding=Binding("", 0) if certificates else None,
        transports=transports,
    )
    made = Site(replace(settings, **fields))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
        await asyncio.sleep(0)


async def until(holds: Callable[[], object], within: float = WITHIN) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.005)


def run(scenario: Awaitable[None]) -> None:
    asyncio.run(scenario)  # type: ignore[arg-type]
