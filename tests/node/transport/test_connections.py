"""Streams by themselves, on real sockets: reuse, what is lost, TLS with its certificates, and slow readers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ha.sockets import bind
from node.config.profile import Binding, ProfileSettings
from node.config.streams import StreamLimits
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.transport.streams import SHAKES, Streams
from node.transport.tls import TlsLayer
from tests.support.certificates import Authority
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


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certificates(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "agent.pem").write_text(authority.issue("a.test", "sip:pbx.test"))
    (tmp_path / "wss.pem").write_text(authority.issue("web.test"))
    (tmp_path / "cafile.pem").write_text(authority.text)
    return tmp_path


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


# ---- reuse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_a_second_message_goes_by_the_same_connection_and_its_answer_comes_back_by_it(
    kind: str, certificates: Path
) -> None:
    async def scenario() -> None:
        async with site(certificates) as alice, site(certificates) as bob:
            bob.reply = message("answer")
            for number in (1, 2):
                assert alice.streams.send(message(str(number)), alice.to(bob, kind))
                await until(lambda n=number: len(alice.came) == n)  # type: ignore[misc]
            assert [data for data, _flow in bob.came] == [message("1"), message("2")]
            assert len({flow.connection for _data, flow in bob.came}) == 1
            assert len(alice.streams) == len(bob.streams) == 1
            name = alice.streams.connection_to("a", kind.upper(), bob.at(kind))
            assert name == alice.came[0][1].connection
            assert name.endswith(">")

    run(scenario())


def test_the_kernel_gives_up_a_peer_that_acknowledges_nothing_as_early_as_we_do() -> None:
    async def scenario() -> None:
        limits = StreamLimits(stall_timeout=7)
        async with site(streams=limits) as alice, site(streams=limits) as bob:
            alice.streams.send(message(), alice.to(bob, "tcp"))
            await until(lambda: bob.came)
            for connection in (alice.streams.find(alice.to(bob, "tcp")), bob.streams.find(bob.came[0][1])):
                assert connection is not None
                assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000

    run(scenario())


@pytest.mark.parametrize("host", ["", "::1"])
def test_connections_bear_the_dscp_of_the_profile(host: str) -> None:
    async def scenario() -> None:
        fields = {"sip_ip": host} if host else {}
        async with site(sip_dscp=26, **fields) as alice, site(sip_dscp=34, **fields) as bob:
            alice.streams.send(message(), alice.to(bob, "tcp"))
            await until(lambda: bob.came)
            for there, flow, dscp in ((alice, alice.to(bob, "tcp"), 26), (bob, bob.came[0][1], 34)):
                connection = there.streams.find(flow)
                assert connection is not None
                level, option = (
                    (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if host else (socket.IPPROTO_IP, socket.IP_TOS)
                )
                assert connection.sock.getsockopt(level, option) >> 2 == dscp

    run(scenario())


def test_names_of_connections_differ_in_every_life_of_a_worker() -> None:
    """Else the first phone that connects to a successor would get what was meant for another one."""

    async def scenario() -> None:
        names = []
        for _life in (1, 2):
            async with site() as bob:
                _reader, writer = await asyncio.open_connection(*bob.at("tcp"))
                writer.write(message())
                await until(lambda: bob.came)
                names.append(bob.came[0][1].connection)
                writer.close()
        assert names[0] != names[1]
        async with site() as bob:
            flow = Flow("a", "TCP", ("", 0), ("127.0.0.1", 9), names[0])
            assert not bob.streams.send(message(), flow)

    run(scenario())


@pytest.mark.parametrize(
    ("reuse", "alias", "expected"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_who_asks_for_an_alias_is_called_by_the_connection_it_made(reuse: bool, alias: bool, expected: bool) -> None:
    async def scenario() -> None:
        async with site(reuse_connections=reuse) as bob:
            host = bob.settings.sip_ip
            _reader, writer = await asyncio.open_connection(*bob.at("tcp"), local_addr=(host, 0))
            writer.write(message(via=f"SIP/2.0/TCP {host}:5099;branch=z9hG4bK1{';alias' if alias else ''}"))
            await until(lambda: bob.came)
            name = bob.came[0][1].connection
            assert bob.streams.connection_to("a", "TCP", (host, 5099)) == (name if expected else "")
            # By the port it really has, it is found with or without an alias.
            port = writer.get_extra_info("sockname")[1]
            assert bob.streams.connection_to("a", "TCP", (host, port)) == (name if reuse else "")
            writer.close()
            await until(lambda: not len(bob.streams))
            assert bob.streams.connection_to("a", "TCP", (host, 5099)) == ""

    run(scenario())


def test_an_alias_for_a_host_that_the_peer_is_not_leads_nowhere() -> None:
    async def scenario() -> None:
        async with site() as bob:
            _reader, writer = await asyncio.open_connection(*bob.at("tcp"), local_addr=(bob.settings.sip_ip, 0))
            writer.write(message(via="SIP/2.0/TCP 127.0.0.99:5099;alias;branch=z9hG4bK1"))
            await until(lambda: bob.came)
            assert bob.streams.connection_to("a", "TCP", ("127.0.0.99", 5099)) == ""
            writer.close()

    run(scenario())


# ---- what is lost --------------------------------------------------------------------------------------------------


def test_who_cannot_be_reached_is_told_at_once() -> None:
    async def scenario() -> None:
        async with site() as alice:
            async with site() as bob:
                flow = alice.to(bob, "tcp")
            assert alice.streams.send(message(), flow)
            await until(lambda: alice.lost)
            assert alice.lost == [flow]
            assert len(alice.streams) == 0

    run(scenario())


def test_a_request_is_lost_with_its_connection_and_a_response_is_not() -> None:
    async def scenario() -> None:
        async with site() as alice, site() as bob:
            flow = alice.to(bob, "tcp")
            alice.streams.send(message(), flow)
            alice.streams.send(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", flow._replace(local=("127.0.0.1", 1)))
            await until(lambda: len(bob.came) == 2)
            bob.streams.close()
            await until(lambda: alice.lost)
            assert alice.lost == [flow]
            assert [each.remote for each in alice.closed] == [bob.at("tcp")]

    run(scenario())


def test_who_lets_go_tells_nobody_for_a_successor_goes_on() -> None:
    """Else a planned switchover would take the registrations of all WebSocket phones away."""

    async def scenario() -> None:
        async with site() as alice, site() as bob:
            bob.reply = message("answer")
            alice.streams.send(message(), alice.to(bob, "tcp"))
            await until(lambda: alice.came)
            alice.streams.send(message(), alice.to(bob, "tcp"))
            alice.streams.close()
            await until(lambda: bob.closed)
            assert (alice.lost, alice.closed) == ([], [])

    run(scenario())


def test_who_has_called_us_and_is_gone_cannot_be_called_back(certificates: Path) -> None:
    async def scenario() -> None:
        async with site(certificates) as bob:
            for kind, transport in (("tcp", "TCP"), ("wss", "WSS")):
                flow = Flow("a", transport, ("", 0), bob.at(kind), "a.0/abcdef.7")  # type: ignore[arg-type]
                assert not bob.streams.send(message(), flow)
            assert not bob.streams.send(message(), Flow("a", "WSS", ("", 0), bob.at("wss")))
            # One that we had made ourselves can be made again.
            assert bob.streams.send(message(), Flow("a", "TCP", ("", 0), bob.at("tcp"), "a.0/abcdef.7>"))
            await until(lambda: bob.came)

    run(scenario())


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_who_never_reads_is_cut_and_holds_no_more_than_its_share(
    kind: str, certificates: Path, authority: Authority
) -> None:
    async def scenario() -> None:
        async with site(certificates, streams=StreamLimits(max_unsent=200_000)) as bob:
            bob.reply = message("x" * 60_000)
            trust = {"ssl": authority.trusting(), "server_hostname": ""} if kind == "tls" else {}
            _reader, writer = await asyncio.open_connection(*bob.at(kind), limit=1024, **trust)  # type: ignore[arg-type]
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            most = 0
            while len(bob.streams) or not bob.came:
                writer.write(message() * 20)
                await asyncio.sleep(0.001)
                most = max(most, bob.streams.buffered)
            assert most <= 200_000 + len(bob.reply)
            assert bob.streams.buffered == 0
            writer.close()

    run(scenario())


def test_who_reads_nothing_for_long_is_cut_with_the_little_that_waits() -> None:
    async def scenario() -> None:
        async with site(streams=StreamLimits(stall_timeout=1, max_unsent=100 << 20)) as bob:
            bob.reply = message("x" * 60_000)
            _reader, writer = await asyncio.open_connection(*bob.at("tcp"), limit=1024)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not bob.streams.buffered:
                writer.write(message() * 10)
                await asyncio.sleep(0.001)
            await until(lambda: not len(bob.streams))
            writer.close()

    run(scenario())


# ---- TLS -----------------------------------------------------------------------------------------------------------


async def shown(there: Site, kind: str, trust: ssl.SSLContext, name: str = "") -> list[str]:
    """The DNS names of the certificate that the server shows."""
    _reader, writer = await asyncio.open_connection(*there.at(kind), ssl=trust, server_hostname=name)
    names = [value for kind, value in writer.get_extra_info("peercert")["subjectAltName"] if kind == "DNS"]
    writer.close()
    return names


def test_each_server_name_is_shown_its_certificate(certificates: Path, authority: Authority) -> None:
    (certificates / "agent.one.test.pem").write_text(authority.issue("one.test"))
    (certificates / "agent._.many.test.pem").write_text(authority.issue("*.many.test"))
    (certificates / "wss.one.test.pem").write_text(authority.issue("web.one.test"))

    async def scenario() -> None:
        trust = authority.trusting()
        async with site(certificates) as bob:
            assert await shown(bob, "tls", trust) == ["a.test"]
            assert await shown(bob, "tls", trust, "ONE.test") == ["one.test"]
            assert await shown(bob, "tls", trust, "x.many.test") == ["*.many.test"]
            assert await shown(bob, "tls", trust, "x.y.many.test") == ["a.test"]
            assert await shown(bob, "tls", trust, "nobody.test") == ["a.test"]
            assert await shown(bob, "wss", trust) == ["web.test"]
            assert await shown(bob, "wss", trust, "one.test") == ["web.one.test"]

    run(scenario())


def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("node.transport.streams.SWEEP", 0.05)
    monkeypatch.setattr("node.transport.streams.SHORTEST_SWEEP", 0.05)

    async def scenario() -> None:
        trust = authority.trusting()
        async with site(certificates) as bob:
            reader, writer = await asyncio.open_connection(*bob.at("tls"), ssl=trust, server_hostname="")
            assert await shown(bob, "tls", trust) == ["a.test"]
            (certificates / "agent.pem").write_text("not a certificate")
            await until(lambda: "agent.pem" in caplog.text)
            assert "TLS goes on with the certificate it had" in caplog.text
            assert await shown(bob, "tls", trust) == ["a.test"]
            (certificates / "agent.pem").write_text(authority.issue("new.test"))
            async with asyncio.timeout(WITHIN):
                while await shown(bob, "tls", trust) != ["new.test"]:
                    await asyncio.sleep(0.02)
            # Who is connected notices nothing.
            bob.reply = message("still here")
            writer.write(message())
            assert await reader.readexactly(len(bob.reply)) == bob.reply
            writer.close()

    run(scenario())


def test_a_certificate_that_comes_later_opens_the_door_and_none_leaves_the_rest_open(
    certificates: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    text = (certificates / "agent.pem").read_text()
    (certificates / "agent.pem").unlink()

    async def scenario() -> None:
        async with site(certificates) as bob:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shown(bob, "tls", authority.trusting())
            assert f"TLS does not start: {certificates / 'agent.pem'}: No such file" in caplog.text
            _reader, writer = await asyncio.open_connection(*bob.at("tcp"))
            writer.write(message())
            await until(lambda: bob.came)
            writer.close()
            assert await shown(bob, "wss", authority.trusting()) == ["web.test"]
            (certificates / "agent.pem").write_text(text)
            bob.change()
            assert await shown(bob, "tls", authority.trusting()) == ["a.test"]

    run(scenario())


def test_a_key_is_opened_with_the_passphrase(certificates: Path, authority: Authority) -> None:
    (certificates / "agent.pem").write_text(authority.issue("secret.test", passphrase="open sesame"))

    async def scenario() -> None:
        async with site(certificates, tls_passphrase="open sesame") as bob:
            assert await shown(bob, "tls", authority.trusting()) == ["secret.test"]
        async with site(certificates, tls_passphrase="wrong") as bob:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shown(bob, "tls", authority.trusting())

    run(scenario())


async def gets_in(there: Site, trust: ssl.SSLContext) -> bool:
    """Is a message heard? With TLS 1.3 a client learns only afterwards that its certificate was not taken."""
    before = len(there.came)
    try:
        reader, writer = await asyncio.open_connection(*there.at("tls"), ssl=trust, server_hostname="")
        writer.write(message())
        there.reply = message("in")
        answer = await asyncio.wait_for(reader.read(1000), WITHIN)
        writer.close()
    except (ssl.SSLError, ConnectionError):
        answer = b""
    assert bool(answer) == (len(there.came) > before)
    return bool(answer)


def test_who_must_show_a_certificate_is_let_in_by_policy(
    certificates: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Stranger")
    intermediate = Authority(tmp_path_factory.mktemp("between"), "Between", under=authority)
    deeper = Authority(tmp_path_factory.mktemp("deeper"), "Deeper", under=intermediate)
    nobody = authority.trusting()
    known = authority.trusting(authority.issue("peer.test"))

    async def scenario() -> None:
        async with site(certificates) as bob:
            assert await gets_in(bob, nobody)
            bob.change(tls_verify_policy=("in",))
            assert not await gets_in(bob, nobody)
            assert await gets_in(bob, known)
            assert not await gets_in(bob, authority.trusting(stranger.issue("peer.test")))
            assert not await gets_in(bob, authority.trusting(authority.issue("peer.test", expired=True)))
            bob.change(tls_verify_date=False)
            assert await gets_in(bob, authority.trusting(authority.issue("peer.test", expired=True)))
            bob.change(tls_verify_depth=1)
            assert await gets_in(bob, authority.trusting(intermediate.issue("peer.test")))
            assert not await gets_in(bob, authority.trusting(deeper.issue("peer.test")))
            bob.change(tls_verify_depth=2)
            assert await gets_in(bob, authority.trusting(deeper.issue("peer.test")))
            bob.change(tls_verify_policy=("subjects_in",), tls_verify_in_subjects=("Peer.test", "sip:other.test"))
            assert await gets_in(bob, known)
            assert await gets_in(bob, authority.trusting(authority.issue("x.test", "sip:other.test")))
            assert await gets_in(bob, authority.trusting(authority.issue(common="peer.test")))
            assert not await gets_in(bob, authority.trusting(authority.issue("x.test", common="peer.test")))

    run(scenario())


def test_whom_we_call_must_be_who_was_meant_by_policy(
    certificates: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = tmp_path_factory.mktemp("foreign")
    stranger = Authority(foreign / "authority", "Stranger")
    (foreign / "agent.pem").write_text(stranger.issue("a.test"))
    (foreign / "wss.pem").write_text(stranger.issue("a.test"))

    async def scenario() -> None:
        async with site(certificates) as alice, site(certificates) as bob, site(foreign) as mallory:
            alice.change(tls_verify_policy=("out",))
            alice.streams.send(message(), alice.to(bob, "tls"))
            await until(lambda: bob.came)
            alice.streams.send(message(), alice.to(mallory, "tls"))
            await until(lambda: alice.lost)
            assert alice.lost.pop() == alice.to(mallory, "tls")
            alice.change(tls_verify_policy=("subjects_out",))
            # RFC 5922 7.3: what was made for nobody in particular serves no other name than the certificate's own.
            for host, heard in (("pbx.test", True), ("a.test", True), ("other.test", False)):
                before = len(bob.came)
                assert bool(alice.streams.connection_to("a", "TLS", bob.at("tls"), host)) == heard
                alice.streams.send(message(), alice.to(bob, "tls"))
                await until(lambda: len(bob.came) > before or alice.lost)  # noqa: B023
                assert (len(bob.came) > before, alice.lost != []) == (heard, not heard)
                alice.lost.clear()

    run(scenario())


def test_versions_and_ciphers_are_those_of_the_profile(certificates: Path, authority: Authority) -> None:
    async def scenario() -> None:
        async with site(certificates, tls_version=("tlsv1.2",), tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as bob:
            trust = authority.trusting()
            _reader, writer = await asyncio.open_connection(*bob.at("tls"), ssl=trust, server_hostname="")
            assert writer.get_extra_info("cipher")[:2] == ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2")
            writer.close()
            trust.minimum_version = ssl.TLSVersion.TLSv1_3
            with pytest.raises(ssl.SSLError):
                await shown(bob, "tls", trust)

    run(scenario())


def client_hello(trust: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trust.wrap_bio(incoming, outgoing, server_hostname="a.test").do_handshake()
    return outgoing.read()


def test_a_crowd_that_shakes_hands_at_once_leaves_the_loop_its_turns(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each handshake costs a signature: a hundred in one go would keep everybody else waiting."""
    steps, most = 0, 0
    feed = TlsLayer.feed

    def counted(layer: TlsLayer, data: bytes) -> bytes:
        nonlocal steps
        steps += 1
        return feed(layer, data)

    monkeypatch.setattr(TlsLayer, "feed", counted)

    async def scenario() -> None:
        nonlocal steps, most
        async with site(certificates, streams=StreamLimits(accept_rate_per_source=1000)) as bob:
            writers = [(await asyncio.open_connection(*bob.at("tls")))[1] for _ in range(100)]
            hello = client_hello(authority.trusting())
            for writer in writers:
                writer.write(hello)
            done = 0
            while done < len(writers):
                await asyncio.sleep(0)
                done, most, steps = done + steps, max(most, steps), 0
            assert most <= SHAKES
            for writer in writers:
                writer.close()

    run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_rubbish_instead_of_a_handshake_ends_nobody_else(seed: int, certificates: Path, authority: Authority) -> None:
    async def scenario() -> None:
        async with site(certificates) as bob:
            for kind in ("tls", "wss"):
                for _ in range(10):
                    _reader, writer = await asyncio.open_connection(*bob.at(kind))
                    writer.write(os.urandom(50 * (seed + 1)) if seed % 2 else b"\x16\x03\x01\x02\x00" + os.urandom(600))
                    writer.close()
            assert await gets_in(bob, authority.trusting())

    run(scenario())


def test_what_a_connection_speaks_is_said_when_asked_for(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with site(certificates) as bob:
            await shown(bob, "tls", authority.trusting())
            assert "TLSv1.3" not in caplog.text
            monkeypatch.setattr("node.debug.tport.level", 5)
            await shown(bob, "tls", authority.trusting())
            assert "TLSv1.3, TLS_AES_256_GCM_SHA384" in caplog.text
            assert ": accepted a/tls " in caplog.text

    run(scenario())
