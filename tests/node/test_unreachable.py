"""A worker dies while the store cannot be reached: what its phones ask of their calls waits, and is answered when it can be."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.link import Revived
from store.backends import open_store
from store.interface import opened
from tests.node.rig import PASSWORD, Rig, media_process, rig, until
from tests.support.node import STRETCH
from tests.support.phone import Line, Phone
from tests.support.redis import RedisServer
from tests.support.tcpproxy import TcpProxy

pytestmark = pytest.mark.real


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.stop()


async def talking(node: Rig, redis: RedisServer, alice: Phone, bob: Phone) -> tuple[Line, Line]:
    """Two phones in a call that is on record as answered and acknowledged."""
    await alice.register()
    await bob.register()
    line = await alice.call("1001")
    other = await bob.answer_next()
    async with asyncio.timeout(10 * STRETCH):
        await line.answered.wait()
        await other.answered.wait()

    def on_record() -> bool:
        with opened(open_store(redis.dsn)) as store:
            calls = store.calls()
        return [[leg.state for leg in call.legs if leg.invite is None] for call in calls] == [["answered", "answered"]]

    await asyncio.to_thread(until, on_record)
    return line, other


def phone(user: str, node: Rig) -> Phone:
    return Phone(user, PASSWORD, node.udp, domain="pbx.test")


def test_nothing_in_a_dialog_is_refused_while_the_store_cannot_be_asked_and_all_is_answered_when_it_can(
    tmp_path: Path, redis: RedisServer
) -> None:
    with (
        TcpProxy(redis.address) as network,
        rig(tmp_path, core_db_dsn=f"redis://127.0.0.1:{network.port}/0") as node,
        media_process(node),
    ):
        first, spare = node.serve(), node.spawn()

        async def scenario() -> None:
            async with phone("1000", node) as alice, phone("1001", node) as bob:
                line, other = await talking(node, redis, alice, bob)
                network.cut()
                os.kill(first.process.pid, signal.SIGKILL)
                os.waitpid(first.process.pid, 0)
                first.process.status = -9
                await asyncio.to_thread(node.promote, spare)
                revived = await asyncio.to_thread(spare.wait, Revived)
                assert isinstance(revived, Revived)
                assert revived.calls == 0, "it serves without the calls for now"
                questions = [
                    asyncio.create_task(alice.request(line._request("OPTIONS"))),
                    asyncio.create_task(bob.request(other._request("INFO"))),
                    asyncio.create_task(line.reinvite("sendonly")),
                ]
                done, _pending = await asyncio.wait(questions, timeout=4.0)
                assert not done
                assert alice.statuses("INVITE")[-1] == 100, "it need not be repeated"
                network.restore()
                answers = await asyncio.gather(*questions)
                assert [answer.status for answer in answers] == [200, 200, 200]
                assert (await other.hangup()).status == 200
                async with asyncio.timeout(10 * STRETCH):
                    await line.ended.wait()
                assert not {481, 500, 503} & {*alice.statuses(), *bob.statuses()}

        asyncio.run(scenario())
        until(lambda: node.ask("channels") == [])


def test_a_bye_meanwhile_ends_the_call_when_the_store_is_back(tmp_path: Path, redis: RedisServer) -> None:
    with (
        TcpProxy(redis.address) as network,
        rig(tmp_path, core_db_dsn=f"redis://127.0.0.1:{network.port}/0") as node,
        media_process(node),
    ):
        first, spare = node.serve(), node.spawn()

        async def scenario() -> None:
            async with phone("1000", node) as alice, phone("1001", node) as bob:
                line, other = await talking(node, redis, alice, bob)
                network.freeze()
                os.kill(first.process.pid, signal.SIGKILL)
                os.waitpid(first.process.pid, 0)
                first.process.status = -9
                await asyncio.to_thread(node.promote, spare)
                bye = asyncio.create_task(line.hangup())
                begun = time.monotonic()
                done, _pending = await asyncio.wait([bye], timeout=4.0)
                assert not done
                network.restore()
                assert (await bye).status == 200
                print(f"BYE answered {time.monotonic() - begun:.1f} s after it was sent, 4 s of them without a store")
                async with asyncio.timeout(10 * STRETCH):
                    await other.ended.wait()
                assert not {481, 500, 503} & {*alice.statuses(), *bob.statuses()}

        asyncio.run(scenario())
        until(lambda: node.ask("channels") == [])
