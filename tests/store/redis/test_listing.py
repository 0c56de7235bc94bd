"""Listing what lies in Redis: in small looks, for it serves nobody else during one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.backends import open_store
from store.interface import Put, Store, opened
from tests.store.redis.stores import server
from tests.store.samples import registration

MANY = 6000


@pytest.fixture
def store() -> Iterator[Store]:
    with server().client() as client:
        client.flushall()
    with opened(open_store(server().dsn)) as store:
        yield store


def test_many_registrations_are_listed_in_many_small_looks(store: Store) -> None:
    for start in range(0, MANY, 500):
        store.commit([Put(registration(str(n))) for n in range(start, start + 500)])
    with server().client() as client:
        client.config_resetstat()
        assert len(store.registrations()) == MANY
        used = {name.removeprefix("cmdstat_"): each["calls"] for name, each in client.info("commandstats").items()}
    assert used["zscan"] >= MANY / 1000
    assert used["mget"] == MANY / 500
    assert not {"evalsha", "eval", "zrange", "keys"} & used.keys()


@pytest.mark.parametrize("user", ["a*", "a?", "[ab]", "a\\b", "a|b", "a@b", "^a-"])
def test_a_user_is_not_taken_for_a_pattern(store: Store, user: str) -> None:
    store.commit([Put(registration(each)) for each in ("a", "ab", "aa", user)])
    assert [r.sip_user for r in store.registrations(user=user)] == [user]
    assert [r.sip_user for r in store.registrations(user=user, profile="internal")] == [user]


def test_those_of_several_profiles_are_listed_once_each(store: Store) -> None:
    for profile in ("internal", "external"):
        store.commit([Put(registration(str(n), profile_name=profile)) for n in range(700)])
    assert len({record.key for record in store.registrations()}) == len(store.registrations()) == 1400
    assert len(store.registrations(profile="external")) == 700
