"""A question on a worker's inquiry socket, as the console asks it."""

from __future__ import annotations

import socket
from typing import Any

from node import inquiry
from tests.support.node import STRETCH, Node


def ask(node: Node, verb: str, *words: str, token: str = "internal.0") -> Any:
    frames = inquiry.Frames()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10 * STRETCH)
        sock.connect(str(node.run_dir / "workers" / token))
        sock.sendall(inquiry.encode(inquiry.Question(1, verb, list(words))))
        while data := sock.recv(1 << 16):
            for frame in frames.feed(data):
                assert isinstance(frame, inquiry.Reply)
                assert frame.ok, frame.value
                return frame.value
    raise AssertionError("the worker hung up")
