"""The inquiry socket: frames, questions, events, and consoles that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.events import Event, EventStream
from node.inquiry import BrokenFrame, Frames, Happened, InquiryServer, Question, Reply, Subscribe, encode


def test_frames_survive_any_cut() -> None:
    sent = [Question(1, "channels"), Subscribe(["ALL"]), Reply(1, True, [{"uuid": "x"}]), Happened(Event(name="A"))]
    data = b"".join(encode(frame) for frame in sent)
    frames = Frames()
    assert [frame for at in range(len(data)) for frame in frames.feed(data[at : at + 1])] == sent


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"])
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises(BrokenFrame):
        Frames().feed(data)


class Bench:
    """A server in a loop of its own, and consoles that block."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.events = EventStream()
        self.path = path
        self.server = InquiryServer(path, self.loop, respond=self._respond, want=self.events.want)
        self.events.listen(self.server.tell)

    def _respond(self, verb: str, words: list[str], then: Callable[[bool, Any], None]) -> None:
        if verb == "break":
            raise ValueError("broken")
        then(True, [verb, *words])

    def console(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(str(self.path))
        sock.setblocking(False)
        return sock

    def turn(self, sock: socket.socket, frames: Frames) -> list[Any]:
        """Run the loop until something comes."""

        async def wait() -> list[Any]:
            async with asyncio.timeout(5):
                while True:
                    data = await self.loop.sock_recv(sock, 1 << 16)
                    if not data:
                        return [None]
                    if got := frames.feed(data):
                        return list(got)

        return self.loop.run_until_complete(wait())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "workers" / "internal.0")
    yield made
    made.server.close()
    made.loop.close()


def test_a_question_is_answered_with_its_number(bench: Bench) -> None:
    with bench.console() as sock:
        sock.sendall(encode(Question(7, "dump", ["u"])))
        assert bench.turn(sock, Frames()) == [Reply(7, True, ["dump", "u"])]


def test_a_verb_that_breaks_is_answered_too(bench: Bench) -> None:
    with bench.console() as sock:
        sock.sendall(encode(Question(1, "break")))
        assert bench.turn(sock, Frames()) == [Reply(1, False, "ValueError: broken")]


def test_only_what_was_named_is_told(bench: Bench) -> None:
    with bench.console() as sock:
        frames = Frames()
        sock.sendall(encode(Subscribe(["CHANNEL_ANSWER", "sofia::register"])) + encode(Question(1, "sync")))
        bench.turn(sock, frames)
        assert not bench.events.wanted("CHANNEL_CREATE")
        bench.events.fire(Event(name="CHANNEL_CREATE"))
        bench.events.fire(Event(name="CUSTOM", subclass="sofia::register", headers=[("a", "b")]))
        (told,) = bench.turn(sock, frames)
        assert told.event.subclass == "sofia::register"
        assert told.event.headers == [("a", "b")]


def test_a_console_that_leaves_wants_nothing_any_more(bench: Bench) -> None:
    with bench.console() as sock:
        sock.sendall(encode(Subscribe(["ALL"])) + encode(Question(1, "sync")))
        bench.turn(sock, Frames())
        assert bench.events.wanted("ANYTHING")

    async def gone() -> None:
        async with asyncio.timeout(5):
            while bench.events.wanted("ANYTHING"):
                await asyncio.sleep(0.001)

    bench.loop.run_until_complete(gone())


def test_a_console_that_speaks_nonsense_is_cut_off(bench: Bench) -> None:
    with bench.console() as sock:
        sock.sendall(b"\xff\xff\xff\xff")
        assert bench.turn(sock, Frames()) == [None]
