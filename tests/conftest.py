"""Fixtures that more than one folder needs."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support import node as node_module
from tests.support.node import Node, loopback_address, shared_settings


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failure undisturbed.

    Python 3.11 breaks in `ast.parse` when the garbage collected meanwhile prints a traceback, which parses too
    (python/cpython#106905); pytest would end there without a word about the test.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def nodes_do_not_break() -> Iterator[None]:
    """A node that prints a traceback, or a warning about itself, fails the test, however well its calls went."""
    node_module.broken.clear()
    yield
    assert node_module.broken == [], "a node broke:\n" + "\n".join(node_module.broken)


@pytest.fixture
def solo(tmp_path: Path) -> Iterator[Node]:
    """One node without a peer, active."""
    node = Node("solo", tmp_path / "solo", shared_settings(loopback_address(), tmp_path / "store.db"), standalone=True)
    with node.serving():
        yield node
