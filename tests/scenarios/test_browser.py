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
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Line, Phone

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def node(tmp_path: Path, authority: Authority) -> Iterator[Node]:
    address = loopback_address()
    (authority.folder / "wss.pem").write_text(authority.issue(DOMAIN, address))
    settings = shared_settings(address, tmp_path / "store.db")
    settings |= {"internal_wss_binding": ":7443", "certs_dir": str(authority.folder)}
    node = Node("solo", tmp_path / "solo", settings, standalone=True)
    with node.serving():
        yield node


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
        browser.does(f"options sip:{DOMAIN}")
        browser.says("options 200")
        refused_with_486()
        assert any(line.startswith("called remote by 1001") for line in browser.said())
        victim = node.worker_pid("internal#0")
        os.kill(victim, signal.SIGKILL)
        browser.says("disconnected")
        browser.says("registered 200", times=2)
        refused_with_486()
    until(lambda: "Total items returned: 0" in node.api("sofia status profile internal reg"), 5, "it to be gone", node)


def test_jssip_calls_and_is_called_holds_cancels_and_hangs_up(node: Node, authority: Authority) -> None:
    """Its signalling, over WSS, with a phone on UDP; its media is only said to be there."""

    async def story(browser: Browser) -> None:
        async with Phone("1001", PASSWORD, node.sip, domain=DOMAIN) as phone:
            await phone.register()
            for round_, it_hangs_up in enumerate((True, False), 1):
                browser.does(f"call sip:1001@{DOMAIN}")
                line = await phone.answer_next(10)
                await said(browser, "talking", 2 * round_ - 1)
                await both_hold(browser, line, round_)
                await end(browser, line, it_hangs_up)
                line = await phone.call("1000")
                await said(browser, "called remote by 1001", round_)
                browser.does("accept")
                await happens(line.answered)
                await said(browser, "talking", 2 * round_)
                await end(browser, line, it_hangs_up)
            browser.does(f"call sip:1001@{DOMAIN}")
            line = await phone.next_line(10)
            await said(browser, "ringing 180")
            browser.does("bye")
            await happens(line.ended)
            assert line.ended_by == "cancelled"
            line = await phone.call("1000")
            await happens(line.ringing)
            assert (await line.cancel()).status == 487
            await said(browser, "failed remote")
            await phone.register(0)

    with Browser("1000", PASSWORD, DOMAIN, f"wss://{node.sip[0]}:7443", authority.certificate) as browser:
        browser.says("registered 200")
        browser.does("on ring")
        asyncio.run(story(browser))
        until(lambda: "\n0 total" in node.api("show channels count"), 10, "all channels to be gone", node)


async def said(browser: Browser, line: str, times: int = 1) -> None:
    async with asyncio.timeout(15 * STRETCH):
        while sum(each.startswith(line) for each in browser.said()) < times:
            await asyncio.sleep(0.02)


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(15 * STRETCH):
        await event.wait()


async def both_hold(browser: Browser, line: Line, round_: int) -> None:
    browser.does("hold")
    await said(browser, "held local", round_)
    browser.does("unhold")
    await said(browser, "taken back local", round_)
    assert (await line.reinvite("sendonly")).status == 200
    await said(browser, "held remote", round_)
    assert (await line.reinvite()).status == 200
    await said(browser, "taken back remote", round_)


async def end(browser: Browser, line: Line, it_hangs_up: bool) -> None:
    if it_hangs_up:
        browser.does("bye")
        await happens(line.ended)
    else:
        assert (await line.hangup()).status == 200
    gone = sum(each.startswith("talking") for each in browser.said())
    await said(browser, "ended", gone)


def test_a_browsers_media_is_refused_with_a_reason(node: Node, authority: Authority) -> None:
    """DTLS-SRTP is not relayed: whoever calls with it, is told so."""
    with Browser("1000", PASSWORD, DOMAIN, f"wss://{node.sip[0]}:7443", authority.certificate) as browser:
        browser.says("registered 200")
        for times, number in enumerate(("9196", "1000"), 1):  # answered by ourselves, and by a phone
            browser.does(f"call sip:{number}@{DOMAIN} webrtc")
            asyncio.run(said(browser, "failed remote 488 303 ", times))
