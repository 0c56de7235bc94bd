from __future__ import annotations

import itertools

from store.interface import Put, opened
from store.memory import memory_store
from tests.store.samples import registration

names = (f"memory-{n}" for n in itertools.count())


def test_stores_of_different_names_know_nothing_of_each_other() -> None:
    with opened(memory_store(next(names))) as one, opened(memory_store(next(names))) as other:
        one.commit([Put(registration())])
        assert other.registrations() == []


def test_expiry_goes_by_the_clock_of_the_store() -> None:
    with opened(memory_store(next(names), lambda: 1000.0)) as store:
        store.commit([Put(registration("due", expires=1000)), Put(registration("not yet", expires=1001))])
        assert [r.sip_user for r in store.registrations()] == ["not yet"]
