"""What every store must tell those who follow its changes: a part of the contract."""

from __future__ import annotations

import random
import threading

from store.errors import Busy
from store.interface import Factory, Put, Remove, Store, opened
from store.records import Registration
from tests.store.samples import registration

CHANGES = 1000
"That each of two writers makes while a third one follows."


class FollowingContract:
    def test_what_changes_is_told_from_a_watermark_on(self, store: Store, other: Store) -> None:
        store.commit([Put(registration("before")), Put(registration("goes"))])
        replica = Replica(other)
        assert sorted(replica.known) == []
        store.commit([Put(registration("comes")), Put(registration("before", version=2, user_agent="new"))])
        store.commit([Remove(registration("goes", version=2))])
        replica.look()
        assert sorted(r.sip_user for r in replica.known.values()) == ["before", "comes"]
        assert {r.user_agent for r in replica.known.values()} == {"new", ""}
        assert replica.gone == [registration("goes").key]

    def test_who_looks_again_is_told_nothing_twice(self, store: Store, other: Store) -> None:
        replica = Replica(other)
        store.commit([Put(registration())])
        replica.look()
        replica.known.clear()
        replica.look()
        assert replica.known == {}
        last = replica.last
        assert (list(last.registrations), list(last.gone), last.more, last.lag) == ([], [], False, 0.0)

    def test_what_is_swept_is_told_as_gone(self, store: Store, other: Store) -> None:
        now = int(store.clock())
        past = [registration(str(n), expires=now - 1) for n in range(250)]
        store.commit([Put(record) for record in past])
        replica = Replica(other)
        assert len(store.expire_registrations("internal")) == 250
        replica.look()
        assert sorted(replica.gone) == sorted(record.key for record in past)

    def test_a_binding_that_went_and_came_back_is_told_as_it_is_now(self, store: Store, other: Store) -> None:
        replica = Replica(other)
        store.commit([Put(registration()), Remove(registration(version=2))])
        store.commit([Put(registration(version=3, user_agent="again"))])
        replica.look()
        assert [r.user_agent for r in replica.known.values()] == ["again"]
        assert replica.gone == []

    def test_bytes_that_are_no_utf8_are_told_as_they_were(self, store: Store, other: Store) -> None:
        odd = b"caf\xe9".decode("utf-8", "surrogateescape")
        replica = Replica(other)
        store.commit([Put(registration(odd))])
        replica.look()
        assert [r.sip_user for r in replica.known.values()] == [odd]
        store.commit([Remove(registration(odd, version=2))])
        replica.look()
        assert replica.gone == [registration(odd).key]

    def test_writes_that_change_nothing_are_not_told(self, store: Store, other: Store) -> None:
        store.commit([Put(registration(version=5))])
        replica = Replica(other)
        store.commit([Put(registration(version=4))])
        replica.look()
        assert replica.known == {}

    def test_one_look_reads_only_so_much_and_says_that_there_is_more(self, store: Store, other: Store) -> None:
        replica = Replica(other)
        for n in range(120):
            store.commit([Put(registration(str(n)))])
        looks = replica.look()
        assert len(replica.known) == 120
        # Memory has it all at hand.
        assert looks == 3 or len(replica.last.registrations) == 120

    def test_who_follows_misses_nothing_of_two_who_write_at_once(self, factory: Factory, other: Store) -> None:
        """It looks all the time while they add, change and remove, both of them all users."""
        replica = Replica(other)
        broken: list[BaseException] = []

        def write(seed: int) -> None:
            chance = random.Random(seed)
            try:
                with opened(factory) as mine:
                    written = 0
                    while written < CHANGES:
                        # Odd versions are one's, even ones the other's.
                        batch = [
                            (Remove if chance.random() < 0.3 else Put)(
                                registration(str(chance.randrange(300)), version=2 * (written + n) + seed)
                            )
                            for n in range(chance.randint(1, 40))
                        ]
                        try:
                            mine.commit(batch)
                        except Busy:
                            continue  # the other one was in its way: what a writer does then, too
                        written += len(batch)
            except BaseException as error:
                broken.append(error)

        writers = [threading.Thread(target=write, args=(seed,)) for seed in (0, 1)]
        for writer in writers:
            writer.start()
        while any(writer.is_alive() for writer in writers):
            replica.look()
        replica.look()
        assert broken == [], broken
        there = {record.key: record for record in other.registrations()}
        differ = {key for key in replica.known.keys() | there.keys() if replica.known.get(key) != there.get(key)}
        assert not differ, {key: (replica.known.get(key), there.get(key)) for key in differ}


class Replica:
    """What somebody knows who has begun to follow now, and looks when told to."""

    def __init__(self, store: Store) -> None:
        self._store = store
        begun = store.changes("")
        assert begun is not None
        assert (list(begun.registrations), list(begun.gone), begun.more) == ([], [], False)
        self.last = begun
        self.known: dict[str, Registration] = {}
        self.gone: list[str] = []

    def look(self) -> int:
        """Until there is no more; returns how often it had to."""
        for looks in range(1, 10_000):
            changes = self._store.changes(self.last.watermark)
            assert changes is not None, "the account reaches back so far"
            self.last = changes
            self.known |= {record.key: record for record in changes.registrations}
            for key in changes.gone:
                self.known.pop(key, None)
            self.gone += changes.gone
            if not changes.more:
                return looks
        raise AssertionError("it never comes to an end")
