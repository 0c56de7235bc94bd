"""Ports for programs that want one by number, or a range of them.

All are below those that the kernel gives away by itself: such a one would be gone by the time it is wanted.
"""

from __future__ import annotations

import itertools
import os
import socket

BLOCK = 300
# Above what other tests name. Two runs at once begin at different places.
_first = itertools.cycle(range(20000, 20000 + 40 * BLOCK, BLOCK))
for _ in range(os.getpid() % 40):
    next(_first)


_single = itertools.cycle(range(10000, 16000))
for _ in range(os.getpid() * 97 % 6000):
    next(_single)


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody has on UDP or TCP, and that was not given away lately."""
    return next(port for port in itertools.islice(_single, 6000) if _free(host, port))


def block(host: str = "127.0.0.1") -> int:
    """The first of 300 ports: this one and the next are free on UDP and TCP, the others as far as nobody has taken them."""
    return next(port for port in itertools.islice(_first, 80) if _free(host, port) and _free(host, port + 1))


def _free(host: str, port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True
