"""What an operator hears on the event socket when more comes than is taken."""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from tests.support.flood import messages
from tests.support.inquire import ask
from tests.support.node import (
    DOMAIN,
    EVENT_SOCKET_PASSWORD,
    PASSWORD,
    STRETCH,
    Node,
    loopback_address,
    shared_settings,
    until,
)
from tests.support.open_node import open_node
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip

pytestmark = pytest.mark.real

VANDAL = "127.0.0.66"


@contextlib.contextmanager
def serving(tmp_path: Path, **settings: str) -> Iterator[Node]:
    node = Node(
        "solo",
        tmp_path / "solo",
        shared_settings(loopback_address(), tmp_path / "store.db") | settings,
        standalone=True,
    )
    with node.serving():
        yield node


@contextlib.contextmanager
def listening(node: Node, subclass: str, *others: str) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """The events of this subclass. The worker hears of our wish a moment after it was granted."""
    with socket.create_connection(("127.0.0.1", node.console_port), timeout=20 * STRETCH) as sock:
        with sock.makefile("rwb") as stream:
            block(stream)
            for line in (f"auth {EVENT_SOCKET_PASSWORD}", f"event plain {' '.join(others)} CUSTOM {subclass}"):
                stream.write(f"{line}\n\n".encode())
                stream.flush()
                assert "+OK" in block(stream)["Reply-Text"]
            yield sock, stream


def block(stream: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := stream.readline().decode().strip()) or not headers:
        name, _, value = line.partition(": ")
        headers[name] = value
    return headers


def next_event(stream: BinaryIO) -> dict[str, str]:
    body = stream.read(int(block(stream)["Content-Length"])).decode()
    return dict(line.partition(": ")[::2] for line in body.splitlines() if line)


def burst(node: Node, count: int, source: str = VANDAL) -> None:
    """As fast as they can be sent; what comes back is not read."""
    make = messages("OPTIONS", source)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        for number in range(count):
            sock.sendto(make(number), node.sip)


def log_of(node: Node) -> str:
    return (node.run_dir / "log" / "sofia-node.log").read_text()


def next_of(stream: BinaryIO, name: str, value: str) -> dict[str, str]:
    """The next event of which this header is so."""
    while (event := next_event(stream)).get(name) != value:
        pass
    return event


def ready(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def test_a_limit_that_is_exceeded_is_told_once_a_period(tmp_path: Path) -> None:
    with serving(tmp_path, max_recv_rps="40") as node, listening(node, "sofia::limit_exceeded") as (sock, events):
        sources = (f"127.0.2.{number}" for number in range(1, 200))
        burst(node, 150, next(sources))
        while not ready(sock, 0.5):
            burst(node, 150, next(sources))
        counted = ask(node, "stats")["over_source_rate"]
        for times in range(1, 4):
            burst(node, 150, VANDAL)
            least = counted + times * 100
            until(lambda: ask(node, "stats")["over_source_rate"] >= least, 10, "all to be counted", node)  # noqa: B023
        burst(node, 150, "127.0.0.67")
        told = next_of(events, "source", VANDAL)
        assert told["Event-Subclass"] == "sofia%3A%3Alimit_exceeded"
        assert told["profile-name"] == "internal"
        assert told["limit"].replace("%20", " ") == "more than max-source-requests-per-second"
        after = next_event(events)
        while after["source"] != "127.0.0.67":
            assert after["source"] != VANDAL, "of that one nothing more is told in this period"
            after = next_event(events)
        line = f"max-source-requests-per-second from {VANDAL}"
        until(lambda: line in log_of(node), 10, "the line in the log", node)
        assert log_of(node).count(line) == 1


def test_the_begin_and_the_end_of_an_overload_are_told(tmp_path: Path) -> None:
    with serving(tmp_path, max_recv_rps="0") as node, listening(node, "sofia::overload") as (sock, events):
        for number in range(30):
            # Others on the machine may take the processor from us: then it is no burst.
            burst(node, 8000, f"127.0.1.{number}")
            if ready(sock, 0.2):
                break
        began = next_event(events)
        if began["state"] == "end":  # the first one began before the worker knew of us
            burst(node, 8000)
            began = next_event(events)
        assert (began["Event-Subclass"], began["state"]) == ("sofia%3A%3Aoverload", "begin")
        ended = next_event(events)
        assert (ended["state"], ended["profile-name"]) == ("end", "internal")
        assert int(ended["refused"]) > 0
        counts = ask(node, "stats")
        assert counts["overload_refused"] + counts["overload_dropped"] >= int(ended["refused"])
        until(
            lambda: re.search(r"overload is over, \d+ requests refused in", log_of(node)),
            10,
            "the end in the log",
            node,
        )
        assert log_of(node).count("more new requests than can be served") == counts["overloads"]


@pytest.mark.parametrize("limit", ["max-proceeding", "max-profile-sessions"])
def test_a_call_beyond_the_maximum_is_refused_and_told_of(tmp_path: Path, limit: str) -> None:
    node = open_node(tmp_path, {limit: "2"})
    with node.serving():
        with listening(node, "sofia::limit_exceeded", "CHANNEL_CREATE") as (sock, events):
            while not ready(sock, 0.2):
                asyncio.run(one_call(node))
            answer = asyncio.run(the_third_call(node))
            assert answer.get("Retry-After")
            assert ask(node, "stats")["full"] == 1
            asyncio.run(the_third_call(node))
            told = next_of(events, "Event-Subclass", "sofia%3A%3Alimit_exceeded")
            assert told["limit"].replace("%20", " ") == f"more than {limit}"
            assert told["profile-name"] == "internal"
        until(lambda: f"more than {limit}" in log_of(node), 10, "the line in the log", node)
        assert log_of(node).count(f"more than {limit}") == 1


async def one_call(node: Node) -> None:
    async with asyncio.timeout(30 * STRETCH), Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as phone:
        await (await ringing(phone)).cancel()


async def the_third_call(node: Node) -> Sip:
    """Two ring, and the third is refused; when one has gone there is room again."""
    async with asyncio.timeout(30 * STRETCH), Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as phone:
        first, second = await ringing(phone), await ringing(phone)
        third = await phone.call("9195")
        await third.ended.wait()
        assert third.refused is not None
        assert third.refused.status == 503
        await second.cancel()
        for line in (await ringing(phone), first):
            await line.cancel()
        return third.refused


async def ringing(phone: Phone) -> Line:
    line = await phone.call("9195")
    await line.ringing.wait()
    return line


def test_connections_closed_for_a_limit_are_told_once_a_period(tmp_path: Path) -> None:
    node = open_node(tmp_path, {"stream-max-connections-per-source": "5"})
    with node.serving():
        with listening(node, "sofia::limit_exceeded") as (sock, events):
            sources = (f"127.0.3.{number}" for number in range(1, 200))
            connect(node, next(sources), 8)
            while not ready(sock, 0.5):
                connect(node, next(sources), 8)
            before = ask(node, "stats")["connections_refused"]
            for _ in range(3):
                connect(node, VANDAL, 25)
            least = before + 3 * 20
            until(lambda: ask(node, "stats")["connections_refused"] >= least, 10, "all to be counted", node)
            connect(node, "127.0.0.67", 8)
            told = next_of(events, "source", VANDAL)
            assert told["limit"].replace("%20", " ") == "more than stream-max-connections-per-source"
            assert told["profile-name"] == "internal"
            after = next_event(events)
            while after["source"] != "127.0.0.67":
                assert after["source"] != VANDAL, "of that one nothing more is told in this period"
                after = next_event(events)
        line = f"stream-max-connections-per-source from {VANDAL}"
        until(lambda: line in log_of(node), 10, "the line in the log", node)
        assert log_of(node).count(line) == 1


def connect(node: Node, source: str, count: int) -> None:
    """So many connections at once; those beyond the fifth are closed by the node."""
    with contextlib.ExitStack() as held:
        made = [held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) for _ in range(count)]
        for sock in made:
            sock.settimeout(10 * STRETCH)
            sock.bind((source, 0))
            sock.connect(node.sip)
        for sock in made[5:]:
            with contextlib.suppress(ConnectionError):
                assert sock.recv(1) == b""
