"""The one contract, on each backend there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import Factory
from tests.store.backends import BACKENDS, Backend
from tests.store.contract import StoreContract
from tests.store.following import FollowingContract


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
class TestEachStore(StoreContract, FollowingContract):
    @pytest.fixture
    def factory(self, backend: Backend, tmp_path: Path) -> Iterator[Factory]:
        with backend.empty(tmp_path) as dsn:
            yield open_store(dsn)
