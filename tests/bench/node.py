"""The node that is measured: alone, without a limit of requests a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import Node, loopback_address, shared_settings


@contextlib.contextmanager
def measured_node(directory: Path) -> Iterator[Node]:
    """A fresh active node with its SQLite file in the directory."""
    settings = shared_settings(loopback_address(), directory / "store.db") | {"max_recv_rps": "0"}
    node = Node("bench", directory / "node", settings, standalone=True)
    with node.serving():
        yield node
