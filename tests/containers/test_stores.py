"""The one contract again, on servers in containers, reached as an operator's are: with a user and a password."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.backends import open_store
from store.interface import Factory
from tests.containers.servers import STORES
from tests.store.contract import StoreContract
from tests.store.following import FollowingContract

pytestmark = pytest.mark.containers


@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", STORES)
class TestEachStoreInAContainer(StoreContract, FollowingContract):
    @pytest.fixture
    def factory(self, backend: str) -> Iterator[Factory]:
        with STORES[backend]() as dsn:
            yield open_store(dsn)
