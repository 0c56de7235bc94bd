"""The operator's socket: requests in, answers out, at once or later, and nothing left over."""

from __future__ import annotations

import gc
import json
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ha.control import LONGEST, Control
from ha.loop import Loop


class Desk:
    """A control socket whose requests are answered by hand."""

    def __init__(self, path: Path) -> None:
        self.loop, self.path = Loop(), path
        self.asked: list[tuple[dict[str, Any], Callable[[dict[str, Any]], None]]] = []
        self.control = Control(self.loop, path, lambda request, answer: self.asked.append((request, answer)))
        self.control.listen()

    def caller(self, *lines: bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(2)
        sock.connect(str(self.path))
        for line in lines:
            sock.sendall(line)
        self.turn()
        return sock

    def turn(self) -> None:
        for _ in range(10):
            self.loop.turn(0.01)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "control")
    yield desk
    desk.control.close()
    desk.loop.close()


def test_a_request_is_answered_whenever_the_answer_is_there(desk: Desk) -> None:
    with desk.caller(b'{"verb": "sta', b'tus"}\n{"verb": "demote"}\n') as sock:
        assert [request for request, _answer in desk.asked] == [{"verb": "status"}, {"verb": "demote"}]
        for number, (_request, answer) in enumerate(desk.asked):
            answer({"ok": True, "number": number})
        with sock.makefile("rb") as answers:
            assert [json.loads(answers.readline())["number"] for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("line", [b"status\n", b"[1]\n", b"\xff\n"])
def test_what_is_no_request_is_refused_in_words(desk: Desk, line: bytes) -> None:
    with desk.caller(line) as sock:
        assert json.loads(sock.recv(4096))["error"] == "a request is one JSON object on one line"
    assert desk.asked == []


def test_who_never_ends_a_line_is_cut_off(desk: Desk) -> None:
    with desk.caller(b"x" * (LONGEST + 1)) as sock:
        assert sock.recv(4096) == b""


def test_an_answer_to_nobody_is_no_error(desk: Desk) -> None:
    desk.caller(b'{"verb": "promote"}\n').close()
    desk.turn()
    desk.asked[0][1]({"ok": True})


def test_nobody_is_left_connected_when_it_closes(desk: Desk) -> None:
    with desk.caller(b'{"verb": "promote"}\n') as sock, warnings.catch_warnings():
        warnings.simplefilter("error")
        desk.control.close()
        assert sock.recv(4096) == b""
        assert not desk.path.exists()
        desk.asked.clear()
        gc.collect()
