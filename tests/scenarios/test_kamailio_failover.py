"""Calls through Kamailio outlive the worker and the node that held them: the successor has their route sets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.baresip import Baresip, all_gone, connect, hang_up, hold_and_take_back, registered
from tests.support.certificates import Authority
from tests.support.kamailio import Edge
from tests.support.node import DOMAIN, PASSWORD, Node, Pair, loopback_address, secured, until

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    """Of its own for each test: a worker that is killed too often is taken for one that its calls kill."""
    made = secured(tmp_path, authority)
    with made.serving():
        yield made


def before(server: tuple[str, int]) -> Baresip:
    """A phone that speaks to the node itself."""
    return Baresip("1001", PASSWORD, DOMAIN, server, tone=700)


@pytest.mark.parametrize(
    ("near", "far", "outwards"),
    [("udp", "udp", True), ("tls", "tls", False), ("udp", "tls", True), ("tls", "udp", False)],
)
def test_a_call_through_a_proxy_outlives_its_worker(
    node: Node, authority: Authority, near: str, far: str, outwards: bool
) -> None:
    """Either side can hold and hang up. `outwards`: the phone behind the proxy calls."""
    with (
        Edge(loopback_address(), node.sip[0], authority, towards=far) as edge,
        edge.phone(near) as inner,
        before(node.sip) as outer,
    ):
        registered(node, inner, outer)
        for last, other in ((inner, outer), (outer, inner)):
            connect(*((inner, outer) if outwards else (outer, inner)))
            replaced(node)
            hold_and_take_back(outer, inner)
            hold_and_take_back(inner, outer)
            hang_up(last, other)
            all_gone(node)
        assert edge.count("[loose BYE]") == 2
        assert edge.count("[astray") == 0


def replaced(node: Node) -> None:
    """The worker is killed and its slot served by another one, with its call."""
    victim = node.worker_pid("internal#0")
    os.kill(victim, signal.SIGKILL)
    until(lambda: node.worker_pid("internal#0") not in (0, victim), 15, "a successor", node)
    until(lambda: "\n2 total" in node.api("show channels count"), 15, "its call to be revived", node)


def test_a_call_through_a_proxy_outlives_its_node(tmp_path: Path, authority: Authority) -> None:
    """On the other node of the pair too; UDP to the phone, TLS to us."""
    address = loopback_address()
    with (
        Pair(tmp_path, address=address, **authority.settings(address, DOMAIN)) as pair,
        Edge(loopback_address(), address, authority, towards="tls") as edge,
        edge.phone("udp") as inner,
        before(pair.sip) as outer,
    ):
        first, second = pair.active, pair.standby
        registered(first, inner, outer)
        connect(inner, outer)
        first.kill()
        second.wait_role("active")
        until(lambda: "\n2 total" in second.api("show channels count"), 15, "the call to be revived", second)
        hold_and_take_back(outer, inner)
        hang_up(outer, inner)
        all_gone(second)
        assert edge.count("[loose BYE]") == 1
