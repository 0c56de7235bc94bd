"""A SIP stack for browsers on WSS: it registers, asks, is called, and finds its way back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Browser
from tests.support.certificates import Authority
from tests.support.node import DOMAIN, PASSWORD, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certs")


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    address = loopback_address()
    (authority.folder / "wss.pem").write_text(authority.issue(DOMAIN, address))
    settings = shared_settings(address, tmp_path / "store.db")
    settings |= {"internal_wss_binding": ":7443", "certs_dir": str(authority.folder)}
    node = Node("solo", tmp_path / "solo", settings, standalone=True)
    node.start()
    try:
        node.wait_role("active")
        yield node
    finally:
        node.stop()


def test_jssip_registers_asks_is_called_and_comes_back_when_its_worker_dies(node: Node, authority: Authority) -> None:
    def refused_with_486() -> None:
        async def scenario() -> None:
            async with Phone("1001", PASSWORD, node.sip, domain=DOMAIN) as caller:
                line = await caller.call("1000")
                async with asyncio.timeout(10):
                    await line.ended.wait()
                assert line.refused is not None
                assert line.refused.status == 486

        asyncio.run(scenario())

    url = f"wss://{node.sip[0]}:7443"
    with Browser("1000", PASSWORD, DOMAIN, url, authority.certificate) as browser:
        browser.says("registered 200")
        rows = node.api(f"sofia status profile internal user 1000@{DOMAIN}")
        assert "Registered(WSS-NAT)" in rows
        assert ".invalid;transport=ws" in rows
        browser.options(f"sip:{DOMAIN}")
        browser.says("options 200")
        refused_with_486()
        assert any(line.startswith("called remote by 1001") for line in browser.said())
        victim = node.worker_pid("internal#0")
        os.kill(victim, signal.SIGKILL)
        browser.says("disconnected")
        browser.says("registered 200", times=2)
        refused_with_486()
    until(lambda: "Total items returned: 0" in node.api("sofia status profile internal reg"), 5, "it to be gone", node)
