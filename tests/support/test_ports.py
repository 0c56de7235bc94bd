"""Ports that tests give to programs: two runs on one machine must not get the same."""

from __future__ import annotations

import socket
import subprocess
import sys

from tests.support import ports

OTHER = """
import itertools
from tests.support import ports
ports._first = itertools.cycle(({first}, {first} + ports.BLOCK))
print(ports.block())
"""


def other(first: int) -> int:
    """The block that another run gets whose turn this one is; the next one is free."""
    words = [sys.executable, "-c", OTHER.format(first=first)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def free() -> int:
    """The first of two blocks that nobody has; we let go of them."""
    while True:
        first, second = ports.block(), ports.block()
        for claim in (ports._claims.pop(), ports._claims.pop()):
            claim.close()
        if second == first + ports.BLOCK:
            return first


def test_a_block_with_a_single_port_that_somebody_has_is_passed_over() -> None:
    first = free()
    assert other(first) == first
    for used in (first, first + 1, first + 2, first + 150, first + ports.BLOCK - 1):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", used))
            assert other(first) == first + ports.BLOCK
    assert other(first) == first


def test_a_block_that_somebody_was_given_a_moment_ago_is_passed_over_though_nobody_is_there_yet() -> None:
    first = ports.block()
    assert other(first) != first


def test_old_claims_are_given_up() -> None:
    for _ in range(3 * ports.CLAIMS):
        ports.block()
    assert len(ports._claims) == ports.CLAIMS
