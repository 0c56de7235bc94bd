"""A standby that keeps up with a real store: one with a feed of changes, and one without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from node.registrar.following import AGAIN, PERIOD, QUIET, RELOAD, Following
from node.registrar.location import Location
from store.backends import open_store
from store.errors import StoreError, Unavailable
from store.interface import Put, Remove, Store, opened
from store.records import Registration
from tests.store.redis.stores import server
from tests.store.samples import registration
from tests.support.postgres import postgres


class Standby:
    """Its questions are answered at once, its timers run when the test says so."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.time = 1000.0
        self.down = False
        self.asked: list[str] = []
        self.told: list[tuple[float, int]] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.location = Location(store.clock)
        self.location.attach(self)
        self.following = Following(
            self.location, self, call_later=self.call_later, now=lambda: self.time, told=self._hear
        )

    def ask(self, question: Callable[[Store], Any], then: Callable[[Any], None], deadline: float = 2.0) -> None:
        try:
            answer = Unavailable("down") if self.down else question(self.store)
        except StoreError as error:
            answer = error
        self.asked.append(type(answer).__name__)
        then(answer)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        self.timers.append((self.time + delay, timer.run))
        return timer

    def _hear(self, lag: float, known: int) -> None:
        self.told.append((lag, known))

    def wait(self, seconds: float) -> None:
        end = self.time + seconds
        while self.timers and min(at for at, _ in self.timers) <= end:
            at, run = min(self.timers, key=lambda timer: timer[0])
            self.timers.remove((at, run))
            self.time = max(self.time, at)
            run()
        self.time = end

    def users(self) -> list[str]:
        return sorted(record.sip_user for record in self.location.all())


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.run = self._run
        self._callback: Callable[[], None] | None = callback

    def _run(self) -> None:
        if self._callback is not None:
            self._callback()

    def cancel(self) -> None:
        self._callback = None


@pytest.fixture(params=["redis", "sqlite", "postgresql"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    match request.param:
        case "redis":
            with server().client() as client:
                client.flushall()
            yield server().dsn
        case "sqlite":
            yield f"sqlite://{tmp_path}/core.db"
        case _:
            with postgres().fresh() as database:
                yield postgres().dsn(database)


@pytest.fixture
def active(dsn: str) -> Iterator[Store]:
    with opened(open_store(dsn)) as store:
        yield store


@pytest.fixture
def standby(active: Store, dsn: str) -> Iterator[Standby]:
    with opened(open_store(dsn)) as store:
        yield Standby(store)


def test_what_the_other_node_writes_is_known_half_a_second_later(active: Store, standby: Standby) -> None:
    active.commit([Put(registration("before"))])
    standby.following.start()
    assert standby.users() == ["before"]
    active.commit([Put(registration("1001")), Put(registration("1002"))])
    standby.wait(PERIOD)
    assert standby.users() == ["1001", "1002", "before"]
    active.commit([Remove(registration("1001", version=2)), Put(registration("1002", version=2, user_agent="new"))])
    standby.wait(PERIOD)
    assert standby.users() == ["1002", "before"]
    assert [r.user_agent for r in standby.location.known("1002", "example.org")] == ["new"]
    assert standby.told[-1] == (0.0, 2)
    # All was read once, and then only what changed.
    assert standby.asked.count("list") == 1


def test_one_that_is_past_due_is_forgotten_when_the_other_node_sweeps_it(active: Store, standby: Standby) -> None:
    now = int(active.clock())
    active.commit([Put(registration("short", expires=now + 100))])
    standby.following.start()
    active.commit([Put(registration("short", expires=now - 1, version=2))])
    active.expire_registrations("internal")
    standby.wait(PERIOD)
    assert len(standby.location) == 0


def test_many_changes_are_taken_in_many_looks(active: Store, standby: Standby) -> None:
    standby.following.start()
    for n in range(120):
        active.commit([Put(registration(str(n)))])
    standby.wait(PERIOD)
    assert len(standby.users()) == 120
    assert standby.asked.count("list") == 1


def test_a_feed_that_does_not_reach_back_is_made_good_by_reading_all_of_it(active: Store, standby: Standby) -> None:
    standby.following.start()
    active.commit([Put(registration("missed"))])
    with server().client() as client:
        client.xtrim("sofia:feed", maxlen=0, approximate=False)
    active.commit([Put(registration("seen"))])
    standby.wait(PERIOD)
    assert standby.users() == ["missed", "seen"]
    active.commit([Put(registration("later"))])
    standby.wait(PERIOD)
    assert standby.users() == ["later", "missed", "seen"]


def test_its_lag_grows_while_the_store_is_gone_and_is_made_up_for(active: Store, standby: Standby) -> None:
    standby.following.start()
    standby.down = True
    active.commit([Put(registration())])
    standby.wait(10)
    assert 8 < standby.told[-1][0] <= 10
    assert standby.users() == []
    standby.down = False
    standby.wait(AGAIN)
    assert standby.told[-1] == (0.0, 1)


def test_a_store_that_is_gone_at_the_start_is_asked_until_it_is_there(active: Store, standby: Standby) -> None:
    active.commit([Put(registration())])
    standby.down = True
    standby.following.start()
    standby.wait(3)
    standby.down = False
    standby.wait(AGAIN)
    assert standby.users() == ["1000"]


def test_who_is_promoted_sees_the_last_of_it_without_reading_all_again(active: Store, standby: Standby) -> None:
    standby.following.start()
    active.commit([Put(registration())])
    standby.following.settle()
    assert standby.location.complete
    assert standby.users() == ["1000"]
    assert standby.asked.count("list") == 1
    standby.wait(60)
    assert standby.asked.count("list") == 1


def test_who_has_not_kept_up_reads_all_of_it_when_promoted(active: Store, standby: Standby) -> None:
    standby.following.start()
    standby.down = True
    standby.wait(QUIET + 1)
    standby.down = False
    active.commit([Put(registration())])
    standby.following.settle()
    assert standby.users() == ["1000"]
    assert standby.asked.count("list") == 2


def test_who_is_promoted_while_the_store_is_gone_reads_it_when_it_is_back(active: Store, standby: Standby) -> None:
    standby.following.start()
    active.commit([Put(registration())])
    standby.down = True
    standby.following.settle()
    standby.wait(10)
    assert not standby.location.complete
    standby.down = False
    standby.wait(2 * AGAIN)
    assert standby.location.complete
    assert standby.users() == ["1000"]


def test_a_worker_that_hears_its_neighbours_leaves_the_store_alone(active: Store, standby: Standby) -> None:
    standby.following.start()
    before = len(standby.asked)
    for _ in range(20):
        standby.following.heard()
        standby.wait(1)
    assert len(standby.asked) == before
    standby.wait(2 * QUIET)
    assert len(standby.asked) > before


class NoFeed:
    """A store that keeps no account of changes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.clock = store.clock

    def changes(self, since: str) -> None:
        return None

    def registrations(self) -> list[Registration]:
        return self._store.registrations()


def test_a_store_without_a_feed_is_read_from_time_to_time(active: Store) -> None:
    standby = Standby(NoFeed(active))  # type: ignore[arg-type]
    standby.following.start()
    active.commit([Put(registration())])
    standby.wait(RELOAD - 1)
    assert standby.users() == []
    standby.wait(2)
    assert standby.users() == ["1000"]
    assert standby.told[-1][1] == 1
