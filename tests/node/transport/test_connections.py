"""Streams by themselves, on real sockets: reuse, what is lost, and slow readers."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from node.config.streams import StreamLimits
from node.sip.flow import Flow
from tests.node.transport.site import message, run, site, until
from tests.support.certificates import Authority

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
