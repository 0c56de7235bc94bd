"""Fixtures that more than one folder needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.node import Node, loopback_address, shared_settings


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Node]:
    """One node without a peer, active."""
    node = Node("solo", tmp_path / "solo", shared_settings(loopback_address(), tmp_path / "store.db"), standalone=True)
    node.start()
    try:
        node.wait_role("active")
        yield node
    finally:
        node.stop()
