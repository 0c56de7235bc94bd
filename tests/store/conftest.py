"""Fixtures of the store's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.faults import LIMIT
from tests.store.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    stage = Stage(tmp_path / "journal" / "internal.0")
    yield stage
    stage.faults.mend()
    for writer in stage.writers:
        writer.close(LIMIT)
