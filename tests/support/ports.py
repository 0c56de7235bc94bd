"""Ports for programs that want a range of them."""

from __future__ import annotations

import itertools
import os
import socket

BLOCK = 300
# Below what the kernel gives away by itself, above what other tests name. Two runs at once begin at different places.
_first = itertools.cycle(range(20000, 20000 + 40 * BLOCK, BLOCK))
for _ in range(os.getpid() % 40):
    next(_first)


def block(host: str = "127.0.0.1") -> int:
    """The first of 300 ports: this one and the next are free on UDP and TCP, the others as far as nobody has taken them."""
    return next(port for port in itertools.islice(_first, 80) if _free(host, port) and _free(host, port + 1))


def _free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True
