"""Calls whose audio goes through a real rtpengine."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.conversation import Conversation, phones, talking
from tests.support.node import DOMAIN, PASSWORD, ROOT, STRETCH, Node, Pair, until
from tests.support.open_node import ANSWERING, log_of, open_node
from tests.support.phone import Line, Phone
from tests.support.ports import free_port
from tests.support.redis import RedisServer
from tests.support.rtpengine import RtpengineServer

pytestmark = [pytest.mark.real, pytest.mark.peers]

WITHIN = 30 * STRETCH


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtpengineServer]:
    """For all tests that leave no session behind."""
    with RtpengineServer(tmp_path_factory.mktemp("engine")).running() as engine:
        yield engine


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, engine: RtpengineServer) -> Iterator[Node]:
    with open_node(tmp_path_factory.mktemp("node"), params(engine.ng)).serving() as node:
        yield node


@pytest.fixture
def node(shared: Node) -> Node:
    """With nobody registered: the phones of an earlier test would be called too."""
    shared.api("sofia profile internal flush_inbound_reg")
    until(lambda: "Total items returned: 0" in shared.api("sofia status profile internal reg"), 10, "no phones", shared)
    return shared


def params(ng: str) -> dict[str, str]:
    return {"media-engine": "rtpengine", "rtpengine-ng": ng}


def through(call: Conversation, engine: RtpengineServer) -> set[int]:
    """The ports that the phones send to, all of them the engine's."""
    peers = [audio.peer for audio in call.audios]
    assert all(peer is not None and peer[0] == "127.0.0.1" and peer[1] in engine.ports for peer in peers), peers
    return {peer[1] for peer in peers if peer is not None}


async def gone(engine: RtpengineServer) -> None:
    await asyncio.to_thread(until, lambda: not engine.sessions(), 10, "the session to be deleted")


async def only(engine: RtpengineServer, ports: set[int]) -> None:
    """Of legs that are gone, it holds no port."""
    await asyncio.to_thread(until, lambda: engine.held_ports() == ports, 10, "ports to be given back")


@asynccontextmanager
async def answered(node: Node, number: str) -> AsyncIterator[tuple[Phone, Line]]:
    """1000 has called a number that the node answers by itself."""
    async with Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as alice:
        line = await alice.call(number)
        async with asyncio.timeout(WITHIN):
            await line.answered.wait()
        yield alice, line


# ---- ordinary calls --------------------------------------------------------------------------------------------------


def test_a_call_passes_audio_both_ways_and_leaves_no_session(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with talking(node.sip) as call:
            await call.heard(20, WITHIN)
            ports = through(call, engine)
            assert engine.held_ports() == ports, "one session, one port for each phone and no other"
            assert f"rtpengine {engine.ng} UP (1)" in node.api("sofia status profile internal")
            await call.end(call.out)
            await gone(engine)

    asyncio.run(scenario())


def test_hold_and_reinvite_keep_the_ports_and_the_audio(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with talking(node.sip) as call:
            ports = through(call, engine)
            for line in (call.out, call.incoming):
                assert (await line.reinvite("sendonly")).status == 200
                other = call.incoming if line is call.out else call.out
                assert "a=recvonly" in line.remote_sdp
                assert other.audio is not None
                await other.audio.heard(10, WITHIN)
                assert (await line.reinvite()).status == 200
                await call.heard(10, WITHIN)
            assert through(call, engine) == ports
            assert engine.held_ports() == ports
            await call.end(call.incoming)
            await gone(engine)

    asyncio.run(scenario())


def test_the_engine_knows_that_a_held_call_may_be_silent(node: Node, engine: RtpengineServer) -> None:
    """It ends a session that says nothing (`timeout`), but of those that are held only after hours (`silent-timeout`)."""

    def told(flags: set[str]) -> bool:
        found = engine.flags()
        return len(found) == 2 and all(flags == {"send", "recv"} & each for each in found)

    async def scenario() -> None:
        async with talking(node.sip) as call:
            await call.heard(5, WITHIN)
            await asyncio.to_thread(until, lambda: told({"send", "recv"}), 10, "talking", node)
            assert (await call.out.reinvite("inactive")).status == 200
            await asyncio.to_thread(until, lambda: told(set()), 10, "held", node)
            assert (await call.out.reinvite()).status == 200
            await asyncio.to_thread(until, lambda: told({"send", "recv"}), 10, "talking again", node)
            await call.heard(5, WITHIN)
            await call.end(call.out)
            await gone(engine)

    asyncio.run(scenario())


def test_an_echo_is_served_by_our_own_media_process_behind_the_engine(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with answered(node, ANSWERING) as (_alice, line):
            assert line.audio is not None
            assert line.audio.peer is not None
            assert line.audio.peer[1] in engine.ports
            await line.audio.heard(20, WITHIN)
            assert (await line.hangup()).status == 200
            await gone(engine)

    asyncio.run(scenario())


def test_whoever_of_two_phones_answers_is_heard_in_the_one_session(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with phones(node.sip) as (alice, bob), Phone("1001", PASSWORD, node.sip, domain=DOMAIN) as second:
            await second.register()
            out = await alice.call("1001")
            other = await bob.next_line()
            incoming = await second.answer_next()
            async with asyncio.timeout(WITHIN):
                await out.answered.wait()
                await other.ended.wait()
            call = Conversation(alice, second, out, incoming)
            await call.heard(20, WITHIN)
            assert len(engine.sessions()) == 1
            await only(engine, through(call, engine))
            await call.heard(20, WITHIN)
            await call.end(out)
            await gone(engine)

    asyncio.run(scenario())


def test_a_call_that_is_transferred_is_heard_by_the_new_partner_only(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with talking(node.sip) as call, Phone("1002", PASSWORD, node.sip, domain=DOMAIN) as carol:
            await carol.register()
            await call.heard(5, WITHIN)
            assert (await call.incoming.refer(f"sip:1002@{DOMAIN}")).status == 202
            third = await carol.answer_next()
            async with asyncio.timeout(WITHIN):
                await third.answered.wait()
            new = Conversation(call.alice, carol, call.out, third)
            await new.heard(20, WITHIN)
            await only(engine, through(new, engine))
            await new.heard(20, WITHIN)
            await new.end(third)
            await gone(engine)

    asyncio.run(scenario())


# ---- what may die ----------------------------------------------------------------------------------------------------


def test_a_killed_worker_costs_no_audio_and_its_successor_deletes_the_session(
    node: Node, engine: RtpengineServer
) -> None:
    async def scenario() -> None:
        async with talking(node.sip) as call:
            await call.heard(20, WITHIN)
            ports, victim = through(call, engine), node.worker_pid("internal#0")
            os.kill(victim, signal.SIGKILL)
            await asyncio.to_thread(
                until, lambda: node.worker_pid("internal#0") not in (0, victim), 10, "a worker", node
            )
            assert (await call.out.reinvite()).status == 200
            await call.heard(20, WITHIN)
            assert [audio.missing() for audio in call.audios] == [0, 0]
            assert through(call, engine) == engine.held_ports() == ports
            await call.end(call.incoming)
            await gone(engine)

    asyncio.run(scenario())


def test_an_echo_goes_on_after_its_worker_was_killed(node: Node, engine: RtpengineServer) -> None:
    async def scenario() -> None:
        async with answered(node, ANSWERING) as (_alice, line):
            assert line.audio is not None
            await line.audio.heard(20, WITHIN)
            before, victim = engine.held_ports(), node.worker_pid("internal#0")
            os.kill(victim, signal.SIGKILL)
            await asyncio.to_thread(
                until, lambda: node.worker_pid("internal#0") not in (0, victim), 10, "a worker", node
            )
            await line.audio.heard(50, WITHIN)
            assert engine.held_ports() == before
            assert (await line.hangup()).status == 200
            await gone(engine)

    asyncio.run(scenario())


def test_audio_goes_on_through_the_same_ports_when_the_standby_takes_over(
    tmp_path: Path, engine: RtpengineServer
) -> None:
    conf = tmp_path / "conf"
    shutil.copytree(ROOT / "conf", conf)
    profile = conf / "sip_profiles" / "internal.xml"
    lines = "".join(f'<param name="{name}" value="{value}"/>' for name, value in params(engine.ng).items())
    profile.write_text(profile.read_text().replace("<settings>", f"<settings>{lines}"))

    async def scenario(pair: Pair) -> None:
        async with talking(pair.sip) as call:
            await call.heard(20, WITHIN)
            ports, heir = through(call, engine), pair.standby
            pair.active.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            assert (await call.out.reinvite()).status == 200
            await call.heard(20, WITHIN)
            assert [audio.missing() for audio in call.audios] == [0, 0], "the engine is not on the node that died"
            assert through(call, engine) == engine.held_ports() == ports
            await call.end(call.incoming)
            await gone(engine)

    pair = Pair(tmp_path / "pair")
    for node in pair.nodes:
        node.conf = conf
    with pair:
        asyncio.run(scenario(pair))


def test_an_engine_that_dies_and_finds_its_sessions_in_redis_keeps_the_ports(tmp_path: Path) -> None:
    async def scenario(engine: RtpengineServer, node: Node) -> None:
        async with talking(node.sip) as call:
            await call.heard(20, WITHIN)
            ports = through(call, engine)
            engine.kill()
            await asyncio.to_thread(engine.start)
            await call.heard(20, WITHIN)
            assert (await call.incoming.reinvite("sendonly")).status == 200
            assert (await call.incoming.reinvite()).status == 200
            await call.heard(20, WITHIN)
            assert through(call, engine) == engine.held_ports() == ports
            await call.end(call.out)
            await gone(engine)

    redis = RedisServer(tmp_path / "redis")
    redis.start()
    try:
        with RtpengineServer(tmp_path / "engine", redis=redis.port).running() as engine:
            with open_node(tmp_path, params(engine.ng)).serving() as node:
                asyncio.run(scenario(engine, node))
    finally:
        redis.stop()


def test_a_call_whose_session_the_engine_has_forgotten_is_ended(node: Node, engine: RtpengineServer) -> None:
    def is_down() -> bool:
        return f"rtpengine {engine.ng} DOWN" in node.api("sofia status profile internal")

    async def scenario() -> None:
        async with talking(node.sip) as call:
            await call.heard(20, WITHIN)
            engine.kill()
            await asyncio.to_thread(until, is_down, 30, "the engine to be missed", node)
            await asyncio.to_thread(engine.start)
            async with asyncio.timeout(WITHIN):
                await call.out.ended.wait()
                await call.incoming.ended.wait()
            assert call.out.ended_by == "them"
            await asyncio.to_thread(until, lambda: "Unknown call-id" in log_of(node), 10, "the reason in the log", node)

    asyncio.run(scenario())


# ---- engines that do not answer, or badly ------------------------------------------------------------------------------


def test_without_an_engine_calls_are_refused_and_other_profiles_do_not_notice(tmp_path: Path) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    node = open_node(tmp_path, params(nobody))
    other = tmp_path / "conf" / "sip_profiles" / "external.xml"
    port = free_port()
    text = other.read_text().replace("<settings>", '<settings><param name="accept-blind-auth" value="true"/>')
    other.write_text(text.replace('"apply-inbound-acl"', '"apply-inbound-acl-unused"'))
    node.settings["external_sip_port"] = str(port)

    async def scenario() -> None:
        async with phones(node.sip) as (alice, _bob):
            line = await alice.call("1001")
            assert line.task is not None
            async with asyncio.timeout(WITHIN):
                await asyncio.wait([line.task])
            assert line.refused is not None
            assert line.refused.status == 503
            assert (await alice.register()).status == 200
        async with Phone("1000", PASSWORD, (node.sip[0], port), domain=DOMAIN) as outside:
            line = await outside.call(ANSWERING)
            async with asyncio.timeout(WITHIN):
                await line.answered.wait()
            assert line.audio is not None
            await line.audio.heard(20, WITHIN)
            assert (await line.hangup()).status == 200

    with node.serving():
        asyncio.run(scenario())
        assert f"rtpengine {nobody} DOWN" in node.api("sofia status profile internal")
        assert "MEDIA-ENGINE" not in node.api("sofia status profile external")
        until(lambda: f"rtpengine {nobody} does not answer" in log_of(node), 10, "the reason in the log", node)
