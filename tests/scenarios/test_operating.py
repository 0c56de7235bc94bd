"""What an operator types, on a real node: recover, stop and start a profile, originate, kill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.conversation import talking
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone

pytestmark = pytest.mark.real


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Node]:
    """A node that recovers only when it is told to, as FreeSWITCH does."""
    settings = shared_settings(loopback_address(), tmp_path / "store.db") | {"recover_on_promote": "false"}
    node = Node("solo", tmp_path / "solo", settings, standalone=True)
    with node.serving():
        yield node


async def crash(node: Node) -> None:
    """The node dies and is started again, as by systemd."""
    node.kill()
    node.start()
    await asyncio.to_thread(node.wait_role, "active")


def test_sofia_recover_gives_the_calls_of_a_crashed_node_back(patient: Node) -> None:
    async def scenario() -> None:
        async with talking(patient.sip) as call:
            await crash(patient)
            assert await asyncio.to_thread(patient.api, "show channels count") == "\n0 total.\n"
            assert await asyncio.to_thread(patient.api, "sofia recover") == "Recovered 2 call(s)\n"
            assert await asyncio.to_thread(patient.api, "sofia recover") == "No calls to recover.\n"
            assert await asyncio.to_thread(patient.api, "show channels count") == "\n2 total.\n"
            await call.end(call.incoming)

    asyncio.run(scenario())


def test_sofia_recover_flush_forgets_the_calls_of_a_crashed_node(patient: Node) -> None:
    async def scenario() -> None:
        async with talking(patient.sip):
            await crash(patient)
            assert await asyncio.to_thread(patient.api, "sofia recover flush") == "Flushing recovery database.\n"
            assert await asyncio.to_thread(patient.api, "sofia recover") == "No calls to recover.\n"

    asyncio.run(scenario())


def test_a_call_is_originated_listed_and_killed(solo: Node) -> None:
    async def scenario() -> None:
        async with Phone("1000", PASSWORD, solo.sip, domain=DOMAIN) as alice:
            await alice.register()
            calling = asyncio.create_task(asyncio.to_thread(solo.api, f"originate user/1000@{DOMAIN} &echo"))
            line = await alice.answer_next()
            answer = await calling
            assert answer.startswith("+OK ")
            uuid = answer.split()[1]
            assert line.audio is not None
            await line.audio.heard(25, 5)
            assert uuid in await asyncio.to_thread(solo.api, "show channels")
            assert await asyncio.to_thread(solo.api, f"uuid_kill {uuid}") == "+OK\n"
            async with asyncio.timeout(5):
                await line.ended.wait()
            assert await asyncio.to_thread(solo.api, f"uuid_kill {uuid}") == "-ERR No such channel!\n"

    asyncio.run(scenario())


def test_both_legs_of_a_call_are_sent_their_own_ways(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip) as call:
            uuid = (await asyncio.to_thread(solo.api, "show calls")).splitlines()[1].partition(",")[0]
            assert await asyncio.to_thread(solo.api, f"uuid_transfer {uuid} -both 9196") == "+OK\n"
            # Each hears itself now: what it sends from here on comes back to it.
            for audio, floor in zip(call.audios, (1_000_000, 2_000_000), strict=True):
                audio.sent = floor
                async with asyncio.timeout(10 * STRETCH):
                    while not audio.arrivals or not floor <= audio.arrivals[-1][1] < floor + 900_000:
                        await asyncio.sleep(0.02)
            for line in (call.out, call.incoming):
                assert (await line.hangup()).status == 200

    asyncio.run(scenario())


def test_a_node_asks_the_peers_of_a_call_to_do_without_it(solo: Node) -> None:
    async def scenario() -> None:
        async with talking(solo.sip) as call:
            uuid = (await asyncio.to_thread(solo.api, "show calls")).splitlines()[1].partition(",")[0]

            def referred() -> str:
                seen = [m for _at, m in call.alice.seen if m.method == "REFER" and not m.is_response]
                return seen[0].get("Refer-To") if seen else ""

            async with asyncio.timeout(10 * STRETCH):
                # Not before the ACK is there: a call in the middle of something is left alone.
                while await asyncio.to_thread(solo.api, f"uuid_simplify {uuid}") != "+OK Success\n":
                    await asyncio.sleep(0.05)
                while not referred():
                    await asyncio.sleep(0.02)
            assert referred().startswith(f"<{call.bob.contact}?Replaces={call.incoming.call_id}")
            await call.end(call.incoming)

    asyncio.run(scenario())


def test_a_profile_stops_and_starts_and_the_other_never_notices(solo: Node) -> None:
    assert "must be up for at least 10 seconds" in solo.api("sofia profile external stop")
    until(
        lambda: solo.api("sofia profile external stop") == "Reload XML [Success]\nstopping: external", 15, "stop", solo
    )
    until(lambda: "external" not in solo.api("sofia status"), 10, "external to be gone", solo)

    async def scenario() -> None:
        async with Phone("1000", PASSWORD, solo.sip, domain=DOMAIN) as alice:
            assert (await alice.register()).status == 200

    asyncio.run(scenario())
    assert solo.api("sofia profile external start") == "Reload XML [Success]\nexternal started successfully\n"
    until(lambda: "sip:mod_sofia" in _row(solo, "external"), 10, "external to run", solo)
    assert solo.api("sofia profile internal rescan") == "Reload XML [Success]\n+OK scan complete\n"


def test_watchdogs_are_switched_as_in_freeswitch(solo: Node) -> None:
    assert solo.api("sofia global watchdog off") == "+OK Global watchdog off"
    assert solo.status()["watchdogs"] == "off"
    assert solo.api("sofia global watchdog on") == "+OK Global watchdog on"
    assert solo.status()["watchdogs"] == "on"
    assert solo.api("sofia profile internal watchdog off") == "Disabled sip debugging on internal"


def _row(node: Node, name: str) -> str:
    return next((line for line in node.api("sofia status").splitlines() if line.strip().startswith(name)), "")


def test_what_a_node_writes_is_for_its_own_user_only(solo: Node) -> None:
    modes = {path: mode for path in solo.run_dir.rglob("*") if path.name != "output" and (mode := mode_of(path))}
    assert len(modes) > 5
    assert [path for path, mode in modes.items() if mode & 0o077] == []


def mode_of(path: Path) -> int:
    """0 if it is gone by now, as the sockets of what was a spare worker."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return 0
