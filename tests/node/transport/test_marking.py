"""What SIP datagrams bear: the DSCP of their profile, as the receiver sees it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

from node.sip.flow import Flow
from node.transport.marking import mark
from tests.node.transport.test_oversize import Bench, play


async def seen(bench: Bench) -> int:
    """The DSCP of a datagram of ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        phone.bind(("127.0.0.1", 0))
        phone.settimeout(5)
        bench.endpoint.send(b"SIP/2.0 200 OK\r\n\r\n", Flow("internal", "UDP", bench.here, phone.getsockname()))
        _data, ancillary, _flags, _source = await asyncio.to_thread(phone.recvmsg, 100, 100)
        return ancillary[0][2][0] >> 2


def test_datagrams_bear_the_dscp_of_the_profile(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        assert await seen(bench) == 26

    play(tmp_path, test, sip_dscp=26)


def test_an_ipv6_datagram_bears_it_too() -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as phone,
    ):
        phone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        phone.bind(("::1", 0))
        phone.settimeout(5)
        mark(ours, 26)
        ours.sendto(b"SIP/2.0 200 OK\r\n\r\n", phone.getsockname())
        _data, ancillary, _flags, _source = phone.recvmsg(100, 100)
        assert ancillary[0][2][0] >> 2 == 26


def test_a_rescan_changes_what_they_bear(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        assert await seen(bench) == 0
        settings = bench.endpoint._settings["internal"]
        bench.endpoint.configure({"internal": replace(settings, sip_dscp=24)})
        assert await seen(bench) == 24

    play(tmp_path, test)
