from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.node.media.stage import Phone, Process, Worker


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: names of Unix sockets are limited to 107 characters."""
    with TemporaryDirectory(prefix="media-") as name:
        yield Path(name)


@pytest.fixture
def process(folder: Path) -> Iterator[Process]:
    process = Process(folder)
    yield process
    process.kill()


@pytest.fixture
def worker(process: Process) -> Iterator[Worker]:
    worker = Worker(process.path)
    yield worker
    worker.client.shut()


@pytest.fixture
def alice() -> Iterator[Phone]:
    with Phone() as phone:
        yield phone


@pytest.fixture
def bob() -> Iterator[Phone]:
    with Phone() as phone:
        yield phone
