"""sipp's own PRACK, UPDATE and session timers, as caller and as callee."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from node.calls.leg import Leg
from tests.node.calls.clock import LeapingLoop, leap
from tests.node.calls.rig import node, until
from tests.support.node import DOMAIN, PASSWORD, ROOT, STRETCH, Node, loopback_address, shared_settings
from tests.support.phone import Phone
from tests.support.sipp import Sipp, user_rows

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture
def reliable_node(tmp_path: Path) -> Iterator[Node]:
    """A node whose phones may use 100rel."""
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    profile = conf / "sip_profiles" / "internal.xml"
    said = '<settings>\n    <param name="enable-100rel" value="true"/>'
    profile.write_text(profile.read_text().replace("<settings>", said, 1))
    settings = shared_settings(loopback_address(), tmp_path / "store.db")
    made = Node("solo", tmp_path / "solo", settings, standalone=True, conf=conf)
    with made.serving():
        yield made


@pytest.mark.parametrize(("transport", "port"), [("u1", 16100), ("t1", 16300)])
def test_sipp_acknowledges_and_is_acknowledged_updates_and_refreshes(
    reliable_node: Node, transport: str, port: int
) -> None:
    """The caller over UDP or TCP, the callee over UDP."""
    server = reliable_node.sip

    async def register() -> None:
        async with Phone("1011", PASSWORD, server, domain=DOMAIN) as phone:
            await phone.register(contact=f"sip:1011@127.0.0.1:{port}")

    asyncio.run(register())
    rows = user_rows(["1000", "1001"], PASSWORD, DOMAIN, "1011")
    callee = Sipp("uas_rings_reliably", server=server, calls=10, port=port, media_port=port + 50)
    caller = Sipp(
        "uac_acknowledges_ringing",
        server=server,
        calls=10,
        port=port + 100,
        media_port=port + 150,
        rows=rows,
        transport=transport,
    )
    try:
        assert caller.wait(60 * STRETCH) == 0, caller.errors()
        assert callee.wait(20 * STRETCH) == 0, callee.errors()
        assert caller.received("SIP/2.0 5") == 0
    finally:
        caller.stop()
        callee.stop()
    assert reliable_node.api("show channels count") == "\n0 total.\n"


def later(leg: Leg, refreshed: float) -> bool:
    return leg.session_refreshed > refreshed


def test_sipp_is_refreshed_in_the_middle_of_each_session() -> None:
    """The shortest session there is lasts 90 seconds (RFC 4028 5): our clock is put forward, sipp's is not."""

    async def scene() -> None:
        async with node(params={"session-timeout": "90"}) as (rig, cast):
            rig.stage.register("1001", "sip:1001@127.0.0.1:16500")
            sipp = Sipp("uas_is_refreshed", server=rig.stage.internal, calls=1, port=16500, media_port=16550)
            try:
                await until(lambda: (sipp.directory / "stat.csv").exists(), 10 * STRETCH)
                alice = await cast.phone("1000")
                line = await alice.call("1001")
                async with asyncio.timeout(10 * STRETCH):
                    await line.answered.wait()
                callee = rig.live[0].legs[1]
                for _ in range(2):
                    refreshed = callee.session_refreshed
                    await until(lambda: callee.refresh is not None and rig.live[0].legs[0].pending is None)
                    await leap(refreshed + 46 - rig.tap.store_time())
                    await until(partial(later, callee, refreshed), 10 * STRETCH)
                assert (await line.hangup()).status == 200
                await rig.idle()
                assert await asyncio.to_thread(sipp.wait, 20 * STRETCH) == 0, sipp.errors()
            finally:
                sipp.stop()

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(scene())
