"""Ports for programs that want one by number, or a range of them.

All are below those that the kernel gives away by itself: such a one would be gone by the time it is wanted.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections import deque

BLOCK = 300
CLAIMS = 8
"Blocks of a process that no other one takes meanwhile, though nobody is on their ports yet; older ones it may be done with."
# Above what other tests name. Two runs at once begin at different places.
_first = itertools.cycle(range(20000, 20000 + 40 * BLOCK, BLOCK))
for _ in range(os.getpid() % 40):
    next(_first)
_claims: deque[socket.socket] = deque()


_single = itertools.cycle(range(10000, 16000))
for _ in range(os.getpid() * 97 % 6000):
    next(_single)


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody has on UDP or TCP, and that was not given away lately."""
    return next(port for port in itertools.islice(_single, 6000) if _free(host, port))


def block(host: str = "127.0.0.1") -> int:
    """The first of 299 ports that nobody has on UDP; the first two are free on TCP, too. The one after is ours, as a claim."""
    while len(_claims) >= CLAIMS:
        _claims.popleft().close()
    return next(port for port in itertools.islice(_first, 80) if _vacant(host, port))


def _vacant(host: str, first: int) -> bool:
    """Whether a block is free; then it is claimed."""
    if not all(_free(host, port) for port in (first, first + 1)):
        return False
    if not all(_free(host, port, socket.SOCK_DGRAM) for port in range(first + 2, first + BLOCK - 1)):
        return False
    claim = _socket(host, socket.SOCK_DGRAM)
    try:
        claim.bind((host, first + BLOCK - 1))
    except OSError:
        claim.close()
        return False
    _claims.append(claim)
    return True


def _free(host: str, port: int, *kinds: socket.SocketKind) -> bool:
    for kind in kinds or (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with _socket(host, kind) as sock:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((host, port))
            except OSError:
                return False
    return True


def _socket(host: str, kind: socket.SocketKind) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
