"""What the tests of database servers share."""

from __future__ import annotations

from store.interface import Store


def reopened(store: Store) -> Store:
    """As the writer does it after each failure."""
    store.close()
    store.open()
    return store
