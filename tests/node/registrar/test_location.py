"""What is remembered of registrations, and when the store is asked."""

from __future__ import annotations

from typing import Any

import pytest

from node.registrar.location import Location
from node.sip.flow import Flow
from store.errors import Unavailable
from store.records import Registration, encode

NOW = 1_800_000_000.0


class Store:
    """Answers like the writer, when told to."""

    def __init__(self, *rows: Registration) -> None:
        self.rows: Any = list(rows)
        self.waiting: list[Any] = []

    def ask(self, question: Any, then: Any, deadline: float = 2.0) -> None:
        self.waiting.append(then)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for then in waiting:
            then(self.rows)


def row(user: str = "1000", port: int = 5062, *, version: int = 1, expires: float = 300) -> Registration:
    return Registration(
        call_id=f"c{port}",
        sip_user=user,
        sip_host="pbx.test",
        contact=f'"" <sip:{user}@192.0.2.7:{port}>',
        profile_name="internal",
        expires=int(NOW + expires),
        version=version,
    )


def location(store: Store) -> Location:
    made = Location(lambda: NOW)
    made.attach(store)
    return made


def found(place: Location, store: Store, user: str = "1000", profile: str | None = None) -> list[Registration]:
    got: list[list[Registration]] = []
    place.find(user, "PBX.test", profile, got.append)
    store.answer()
    return got[0]


def test_until_all_is_read_the_store_is_asked() -> None:
    store = Store(row())
    place = location(store)
    assert found(place, store) == [row()]
    place.load()
    store.answer()
    place.find("1000", "pbx.test", None, lambda _rows: None)
    assert store.waiting == []


def test_a_store_that_does_not_answer_leaves_memory() -> None:
    store = Store()
    place = location(store)
    place.learn(row())
    store.rows = Unavailable("gone")
    assert found(place, store) == [row()]


def test_reading_again_forgets_what_was_removed_elsewhere() -> None:
    store = Store(row(port=1))
    place = location(store)
    place.learn(row(port=2))
    place.load()
    store.answer()
    assert [each.call_id for each in found(place, store)] == ["c1"]
    assert len(place) == 1


def test_what_is_written_while_the_store_is_read_stays() -> None:
    store = Store()
    place = location(store)
    place.load()
    place.put(row(version=int((NOW + 1) * 1_000_000)))
    store.answer()
    assert len(found(place, store)) == 1


def test_those_past_due_are_not_found_and_the_longest_comes_first() -> None:
    store = Store(row(port=1, expires=-1), row(port=2, expires=10), row(port=3, expires=20))
    place = location(store)
    place.load()
    store.answer()
    assert [each.call_id for each in found(place, store)] == ["c3", "c2"]
    assert found(place, store, profile="external") == []


def test_an_older_notice_changes_nothing() -> None:
    place = location(Store())
    place.complete = True
    place.on_notice("registered", encode(row(version=5, expires=500)))
    place.on_notice("registered", encode(row(version=4, expires=100)))
    assert place.known("1000", "pbx.test")[0].version == 5


def test_what_one_tells_the_others_learn() -> None:
    one, other = location(Store()), location(Store())
    one.tell = lambda topic, body: other.on_notice(topic, body())
    one.put(row())
    assert other.known("1000", "pbx.test") == [row()]
    one.remove(row(version=2))
    assert other.known("1000", "pbx.test") == []


def test_a_lost_notice_makes_it_read_the_store() -> None:
    store = Store(row())
    place = location(store)
    place.complete = True
    place.on_notice("missed", b"")
    assert not place.complete
    store.answer()
    assert place.complete
    assert len(place) == 1


# ---- a phone that has connected anew -----------------------------------------------------------------------------------


def flow(number: int, transport: str = "WSS") -> Flow:
    return Flow("internal", transport, ("192.0.2.1", 7443), ("192.0.2.7", number), f"internal.0/abc.{number}")  # type: ignore[arg-type]


def by(
    number: int, *, port: int = 5062, call_id: str = "c", instance: str = "", transport: str = "WSS"
) -> Registration:
    made = row(port=port, version=number)
    made.call_id, made.instance, made.flow = call_id, instance, flow(number, transport).to_record()
    return made


def test_a_phone_is_found_by_its_newest_connection() -> None:
    place = location(Store())
    place.learn(by(1))
    assert place.moved(flow(1)) == flow(1)
    place.learn(by(2))
    place.learn(by(3))
    assert place.moved(flow(1)) == place.moved(flow(2)) == flow(3)
    assert place.moved(flow(9)) is None


@pytest.mark.parametrize(
    ("former", "newer", "same"),
    [
        ({}, {"port": 5099}, True),  # the same Call-ID, another Contact
        ({}, {"call_id": "other"}, True),  # the same Contact, another Call-ID
        ({}, {"call_id": "other", "port": 5099}, False),
        ({"instance": "<urn:uuid:1>"}, {"instance": "<urn:uuid:1>", "call_id": "other", "port": 5099}, True),
        ({"instance": "<urn:uuid:1>"}, {"instance": "<urn:uuid:2>"}, False),
        ({"instance": "<urn:uuid:1>"}, {}, False),
        ({}, {"transport": "WS"}, False),
        ({}, {"transport": "UDP"}, False),
    ],
)
def test_another_phone_of_the_user_or_another_transport_is_not_taken_for_it(
    former: dict[str, Any], newer: dict[str, Any], same: bool
) -> None:
    place = location(Store())
    place.learn(by(1, **former))
    place.learn(by(2, **newer))
    assert (place.moved(flow(1)) == flow(2)) is same


def test_what_is_remembered_of_connections_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.registrar.location.CONNECTIONS", 10)
    place = location(Store())
    for number in range(1, 30):
        place.learn(by(number))
    assert len(place._reached) == 10
    assert place.moved(flow(20)) == flow(29)


@pytest.mark.parametrize("user", ["10\udcff00", "größe", "1000"])
def test_a_removal_is_told_whatever_bytes_the_user_has(user: str) -> None:
    one, other = location(Store()), location(Store())
    one.tell = lambda topic, body: other.on_notice(topic, body())
    record = row(user)
    one.put(record)
    assert [each.sip_user for each in other.known(user, "pbx.test")] == [user]
    one.remove(record)
    assert list(other.known(user, "pbx.test")) == []
