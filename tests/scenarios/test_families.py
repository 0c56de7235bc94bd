"""Each transport over IPv4 and over IPv6: a phone registers by it, calls, is called, and both hear each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import Authority
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone
from tests.support.ports import free_port
from tests.support.streams import StreamPhone

pytestmark = pytest.mark.real

TRANSPORTS = ("UDP", "TCP", "TLS", "WS", "WSS")
WITHIN = 15.0 * STRETCH


@dataclass(frozen=True)
class Place:
    """A node that listens for everything on one address."""

    node: Node
    host: str
    ports: dict[str, int]
    authority: Authority

    def phone(self, user: str, transport: str) -> Phone:
        """A phone with an address of the same family."""
        host = self.host if ":" in self.host else "127.0.0.1"
        server = (self.host, self.ports[transport])
        if transport == "UDP":
            return Phone(user, PASSWORD, server, domain=DOMAIN, host=host)
        trust = self.authority.trusting()
        return StreamPhone(user, PASSWORD, server, transport, domain=DOMAIN, trust=trust, host=host)


@contextmanager
def listening(folder: Path, authority: Authority, host: str) -> Iterator[Place]:
    sip, tls, web, secure_web, external = (free_port(host) for _ in range(5))
    settings = shared_settings(host, folder / "store.db") | authority.settings(host, DOMAIN)
    settings |= {
        "internal_sip_port": str(sip),
        "internal_tls_port": str(tls),
        "internal_ws_binding": f"[{host}]:{web}",
        "internal_wss_binding": f"[{host}]:{secure_web}",
        "external_sip_port": str(external),
    }
    node = Node("solo", folder / "solo", settings, standalone=True)
    with node.serving():
        yield Place(node, host, dict(zip(TRANSPORTS, (sip, sip, tls, web, secure_web), strict=True)), authority)


@pytest.fixture(scope="module", params=["IPv4", "IPv6"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Place]:
    host = "::1" if request.param == "IPv6" else loopback_address()
    with listening(tmp_path_factory.mktemp(request.param), authority, host) as made:
        yield made


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_phone_calls_and_is_called_by_each_transport(place: Place, transport: str) -> None:
    async def story() -> None:
        async with place.phone("1000", transport) as phone, place.phone("1001", "UDP") as other:
            await phone.register()
            await other.register()
            rows = place.node.api(f"sofia status profile internal user 1000@{DOMAIN}")
            assert re.search(rf"^IP:\s+{re.escape(phone.host)}$", rows, re.MULTILINE), rows
            for caller, callee in ((phone, other), (other, phone)):
                await talk(caller, callee)
            await phone.register(0)
            await other.register(0)

    asyncio.run(story())
    until(lambda: place.node.api("show channels count") == "\n0 total.\n", 10, "the calls to be gone", place.node)


async def talk(caller: Phone, callee: Phone) -> None:
    """Both hear the other one; the caller holds, takes back, and hangs up."""
    line = await caller.call(callee.user)
    heard = await callee.answer_next(WITHIN)
    async with asyncio.timeout(WITHIN):
        await line.answered.wait()
        await heard.answered.wait()
    family = "IP6" if ":" in caller.host else "IP4"
    assert all(f"\nc=IN {family} " in sdp for sdp in (line.remote_sdp, heard.remote_sdp))
    for audio in (line.audio, heard.audio):
        assert audio is not None
        await audio.heard(10, WITHIN)
    assert (await line.reinvite("sendonly")).status == 200
    assert (await line.reinvite()).status == 200
    assert (await line.hangup()).status == 200
    async with asyncio.timeout(WITHIN):
        await heard.ended.wait()
