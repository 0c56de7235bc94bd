"""A phone with a flow through each of two edge proxies (RFC 5626): one binding each, and one proxy may die."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.baresip import Baresip, all_gone, connect, hang_up, hold_and_take_back, registered
from tests.support.certificates import Authority
from tests.support.kamailio import Edge
from tests.support.node import DOMAIN, PASSWORD, ROOT, Node, loopback_address, secured, until

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    """With `enable-rfc-5626`."""
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    profile = conf / "sip_profiles" / "internal.xml"
    profile.write_text(
        profile.read_text().replace("<settings>", '<settings><param name="enable-rfc-5626" value="true"/>')
    )
    made = secured(tmp_path, authority, conf)
    with made.serving():
        yield made


@pytest.mark.parametrize(("near", "far"), [("tcp", "tls"), ("tls", "tcp")])
def test_a_phone_is_called_by_the_flow_that_is_left(node: Node, authority: Authority, near: str, far: str) -> None:
    with (
        Edge(loopback_address(), node.sip[0], authority, towards=far, flows=True) as one,
        Edge(loopback_address(), node.sip[0], authority, towards=far, flows=True) as two,
        one.phone(near, second=two) as inner,
        Baresip("1001", PASSWORD, DOMAIN, node.sip, tone=700) as outer,
    ):
        registered(node, inner, outer)
        until(lambda: node.api("show registrations").count("1000,") == 2, 10, "both flows", node)
        for caller, callee in ((inner, outer), (outer, inner)):
            connect(caller, callee)
            hold_and_take_back(inner, outer)
            hold_and_take_back(outer, inner)
            hang_up(outer, inner)
            all_gone(node)
        # It is called by one of its flows, that which registered last.
        used, left = (one, two) if one.count("[loose BYE]") > two.count("[loose BYE]") else (two, one)
        used.stop()
        before = left.count("[loose BYE]")
        connect(outer, inner)
        hang_up(outer, inner)
        all_gone(node)
        assert left.count("[loose BYE]") == before + 1
        assert one.count("[astray") == two.count("[astray") == 0
