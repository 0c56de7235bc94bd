"""Requests that are too long for a datagram (RFC 3261 18.1.1), on real sockets."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from node.link import SocketName
from node.sip import compose
from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.uri import Uri
from node.transport import oversize as module
from node.transport.endpoint import Endpoint
from tests.node.config.tree import plant, profile
from tests.support.node import STRETCH


class Heard:
    """The transaction user: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[int | str] = []
        self.requests: list[Request] = []

    def on_response(self, response: Response, transaction: object) -> None:
        self.told.append(response.status)

    def on_failure(self, transaction: object, cause: str) -> None:
        self.told.append(cause)

    def on_request(self, request: Request, transaction: object, flow: Flow) -> None:
        self.requests.append(request)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_words: None


def on_one_port() -> tuple[socket.socket, socket.socket]:
    """TCP and UDP on loopback by the same port, which nobody else has for either."""
    while True:
        stream, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.bind(("127.0.0.1", 0))
        try:
            datagrams.bind(stream.getsockname())
        except OSError:
            stream.close()
            datagrams.close()
        else:
            return stream, datagrams


class Peer:
    """UDP, and TCP on the same port where it is wanted; else nobody listens there."""

    def __init__(self, *, tcp: bool) -> None:
        self.listener, self.udp = on_one_port()
        self.udp.setblocking(False)
        self.address: tuple[str, int] = self.udp.getsockname()
        self.datagrams: list[bytes] = []
        self.stream = b""
        self.writer: asyncio.StreamWriter | None = None
        self.server: asyncio.Server | None = None
        self.tcp = tcp
        asyncio.get_running_loop().add_reader(self.udp.fileno(), self._read)

    async def open(self) -> None:
        if self.tcp:
            self.server = await asyncio.start_server(self._serve, sock=self.listener)

    def _read(self) -> None:
        self.datagrams.append(self.udp.recv(65535))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        while data := await reader.read(65536):
            self.stream += data

    def answer(self, status: int, *, tcp: bool) -> None:
        """To the last request that came this way."""
        text = (self.stream if tcp else self.datagrams[-1]).decode()
        fields = dict(re.findall(r"(?m)^(Via|From|To|Call-ID|CSeq): (.*?)\r$", text))
        fields["To"] += ";tag=theirs"
        data = f"SIP/2.0 {status} Said So\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        data += "Content-Length: 0\r\n\r\n"
        if tcp:
            assert self.writer is not None
            self.writer.write(data.encode())
        else:
            self.udp.sendto(data.encode(), self.address_of_us)

    address_of_us: tuple[str, int] = ("", 0)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.udp.fileno())
        self.udp.close()
        if self.writer is not None:
            self.writer.close()
        if self.server is not None:
            self.server.close()
        else:
            self.listener.close()


class Bench:
    def __init__(self, folder: Path, **params: Any) -> None:
        from node.config import load

        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        here = self.sock.getsockname()
        lines = ('<param name="sip-ip" value="127.0.0.1"/>', f'<param name="sip-port" value="{here[1]}"/>')
        plant(folder / "conf", {"sip_profiles/internal.xml": profile("internal", *lines)})
        settings = replace(load(folder / "conf").profiles["internal"], **params)
        self.user = Heard()
        self.endpoint = Endpoint(
            MappingProxyType({"internal": settings}),
            self.user,
            profile="internal",
            token="internal.0",
            bus_folder=folder / "bus",
            loop=asyncio.get_running_loop(),
        )
        self.endpoint.open([(SocketName("internal", "udp", *here, "internal#0"), self.sock.detach())])
        self.here: tuple[str, int] = here
        self.peers: list[Peer] = []

    async def peer(self, *, tcp: bool) -> Peer:
        peer = Peer(tcp=tcp)
        peer.address_of_us = self.here
        await peer.open()
        self.peers.append(peer)
        return peer

    def send(self, peer: Peer, method: str = "MESSAGE", size: int = 1500) -> Any:
        flow = Flow("internal", "UDP", self.here, peer.address)
        request = compose.request(
            method,
            f"sip:peer@{peer.address[0]}:{peer.address[1]}",
            from_="<sip:us@pbx.test>;tag=ours",
            to="<sip:peer@pbx.test>",
            call_id="a-call",
            cseq=1,
            body=b"x" * size,
            content_type="text/plain",
        )
        return self.endpoint.request(request, flow)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(10 * STRETCH):
        while not holds():
            await asyncio.sleep(0.005)


def play(folder: Path, test: Callable[[Bench], Awaitable[None]], **params: Any) -> None:
    @asynccontextmanager
    async def bench() -> AsyncIterator[Bench]:
        made = Bench(folder, **params)
        try:
            yield made
        finally:
            for peer in made.peers:
                peer.close()
            made.endpoint.close()

    async def run() -> None:
        async with bench() as made:
            await test(made)

    asyncio.run(run())


def test_a_long_request_goes_by_tcp_where_the_peer_takes_it(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        bench.send(peer)
        await until(lambda: b"x" * 1500 in peer.stream)
        assert b"\r\nVia: SIP/2.0/TCP " in peer.stream
        peer.answer(200, tcp=True)
        await until(lambda: bench.user.told == [200])
        assert peer.datagrams == []

    play(tmp_path, test)


def test_what_went_by_tcp_is_not_sent_again(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        transaction = bench.send(peer)
        await until(lambda: transaction.repeats >= 3)
        assert peer.stream.count(b"MESSAGE sip:") == 1
        assert peer.datagrams == []

    play(tmp_path, test, timer_t1=20, timer_t2=40)


def test_a_peer_without_tcp_gets_the_datagram_at_once_and_is_not_asked_again(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        for number in (1, 2):
            bench.send(peer, size=3000)
            await until(lambda number=number: len(peer.datagrams) == number)
            assert b"\r\nVia: SIP/2.0/UDP " in peer.datagrams[-1]
            peer.answer(200, tcp=False)
            await until(lambda number=number: bench.user.told == [200] * number)
        assert len(bench.endpoint.streams) == 0

    play(tmp_path, test, timer_t1=30_000)


def test_a_peer_that_does_not_answer_the_connection_gets_the_datagram_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full backlog: the kernel drops what knocks, as a firewall does."""
    monkeypatch.setattr(module, "CONNECT_WITHIN", 0.1)

    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        peer.listener.listen(0)
        knocking = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(peer.address)
            knocking.append(sock)
        bench.send(peer)
        await until(lambda: peer.datagrams)
        assert b"\r\nVia: SIP/2.0/UDP " in peer.datagrams[0]
        for sock in knocking:
            sock.close()

    play(tmp_path, test, timer_t1=100)


def test_the_ack_to_a_refusal_goes_the_way_of_its_invite(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        bench.send(peer, "INVITE")
        await until(lambda: b"x" * 1500 in peer.stream)
        peer.answer(486, tcp=True)
        await until(lambda: b"ACK sip:" in peer.stream)
        assert peer.datagrams == []
        assert bench.user.told == [486]

    play(tmp_path, test)


def test_a_cancel_goes_the_way_of_its_invite(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        transaction = bench.send(peer, "INVITE")
        await until(lambda: b"x" * 1500 in peer.stream)
        peer.answer(180, tcp=True)
        await until(lambda: bench.user.told == [180])
        bench.endpoint.cancel(transaction)
        await until(lambda: b"CANCEL sip:" in peer.stream)
        assert peer.datagrams == []

    play(tmp_path, test)


@pytest.mark.parametrize("params", [{"udp_mtu": 0}, {"udp_mtu": 9000}, {"transports": ("udp",)}])
def test_a_profile_may_be_told_to_keep_to_udp(tmp_path: Path, params: dict[str, Any]) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        bench.send(peer)
        await until(lambda: peer.datagrams)
        assert peer.stream == b""

    play(tmp_path, test, **params)


def test_a_uri_that_names_udp_gets_udp(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        bench.endpoint.locate(Uri.parse(f"sip:127.0.0.1:{peer.address[1]};transport=udp"), "internal", lambda _f: None)
        bench.send(peer)
        await until(lambda: peer.datagrams)
        assert peer.stream == b""

    play(tmp_path, test)


def test_a_response_of_any_length_goes_back_by_udp(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=True)
        flow = Flow("internal", "UDP", bench.here, peer.address)
        bench.endpoint.send(b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n\r\n" + b"y" * 9000, flow)
        await until(lambda: peer.datagrams)
        assert len(peer.datagrams[0]) > 9000

    play(tmp_path, test)


@pytest.mark.parametrize("size", [1501, 20_000, 60_000])
def test_a_datagram_of_many_fragments_comes_in_and_goes_out(tmp_path: Path, size: int) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        bench.send(peer, size=size)
        await until(lambda: peer.datagrams)
        assert peer.datagrams[0].endswith(b"x" * size)
        peer.udp.sendto(peer.datagrams[0].replace(b"branch=z9hG4bKinternal.0", b"branch=z9hG4bKtheirs", 1), bench.here)
        await until(lambda: bench.user.requests)
        assert bench.user.requests[0].body == b"x" * size

    play(tmp_path, test, udp_mtu=0)
