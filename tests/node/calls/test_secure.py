"""Calls that we make over TLS, and what sips demands."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest

from tests.node.calls.peer import OFFER
from tests.node.calls.rig import extension
from tests.node.calls.test_reconnect import WITHIN, come_back, ended, house, talking
from tests.node.calls.test_reconnect import authority as authority
from tests.support.certificates import Authority
from tests.support.sipmessage import Sip


class Trunk:
    """A peer that listens on TLS and answers every call; keeps what came, and by how many connections."""

    def __init__(self, certificate: Path) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.seen: list[Sip] = []
        self.names: list[str] = []
        "Server names that it was called by."
        self.connections = 0
        self.context.sni_callback = lambda _connection, name, _context: self.names.append(name)  # type: ignore[assignment]

    async def __aenter__(self) -> Trunk:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exception: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        contact = ("Contact", f"<sip:trunk@127.0.0.1:{self.port};transport=tls>")
        while not reader.at_eof():
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(Sip.parse(head).get("Content-Length") or 0)
                message = Sip.parse(head + await reader.readexactly(size))
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self.seen.append(message)
            if message.method == "INVITE":
                fields = [contact, ("Content-Type", "application/sdp")]
                writer.write(message.answer(200, "OK", "trunk", fields, OFFER).encode())
            elif message.method != "ACK" and not message.is_response:
                writer.write(message.answer(200, "OK", "trunk").encode())

    async def saw(self, method: str) -> Sip:
        async with asyncio.timeout(WITHIN):
            while (found := next((m for m in self.seen if m.method == method), None)) is None:
                await asyncio.sleep(0.01)
        return found


def test_a_call_to_a_trunk_goes_over_tls_and_its_end_too_after_a_crash(authority: Authority) -> None:
    async def scenario() -> None:
        async with Trunk(authority.folder / "agent.pem") as trunk:
            out = extension("7100", ("bridge", f"sofia/internal/9999@127.0.0.1:{trunk.port};transport=tls"))
            async with house(authority, out) as home:
                alice = await home.phone("1000", "TCP")
                line = await alice.call("7100")
                async with asyncio.timeout(WITHIN):
                    await line.answered.wait()
                invite = await trunk.saw("INVITE")
                assert invite.start == f"INVITE sip:9999@127.0.0.1:{trunk.port};transport=tls SIP/2.0"
                port = home.listening["tls"][1]
                assert invite.get("Via").startswith(f"SIP/2.0/TLS 127.0.0.1:{port};")
                assert f"@127.0.0.1:{port};transport=tls>" in invite.get("Contact")
                await trunk.saw("ACK")
                assert trunk.connections == 1
                await home.crash()
                await come_back(alice)
                assert (await line.hangup()).status == 200
                assert (await trunk.saw("BYE")).get("Via").startswith("SIP/2.0/TLS ")
                assert trunk.connections == 2
                await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
def test_who_calls_a_sips_uri_is_given_a_sips_contact(authority: Authority, transport: str) -> None:
    """RFC 3261 12.1.1; the requests in the dialog are addressed to it."""

    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", transport), await home.phone("1001", "TLS")
            ours, theirs = await talking(alice, bob, scheme="sips")
            port = home.listening[transport.lower()][1]
            assert ours.target == f"sips:1001@127.0.0.1:{port};transport={transport.lower()}"
            assert (await theirs.hangup()).status == 200
            await ended(ours)
            await home.rig.idle()

    asyncio.run(scenario())
