"""The account of changes in a SQL database: what it costs, how it ends, and that a hole in it is never overlooked."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import Outcome, Put, Remove, opened
from store.sql import feed
from store.sql.statements import Row
from store.sql.store import SqlStore
from tests.store.following import Replica
from tests.store.samples import call, registration
from tests.support.mariadb import mariadb
from tests.support.postgres import postgres


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/core.db"
        return
    server = postgres() if request.param == "postgresql" else mariadb()
    with server.fresh() as database:
        yield server.dsn(database)


@pytest.fixture
def store(dsn: str) -> Iterator[SqlStore]:
    with opened(open_store(dsn)) as store:
        assert isinstance(store, SqlStore)
        yield store


@pytest.fixture
def other(dsn: str) -> Iterator[SqlStore]:
    with opened(open_store(dsn)) as store:
        assert isinstance(store, SqlStore)
        yield store


def changed(store: SqlStore, statement: str, *values: object) -> int:
    """As an administrator would."""
    store.session.begin()
    count = store.session.change(statement, values)
    store.session.commit()
    return count


def count(store: SqlStore, table: str) -> int:
    return int(store.session.query(f"SELECT count(*) FROM {table}")[0][0])


def asked(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that it sends from now on."""
    statements: list[str] = []

    def noted(way: Callable[[str, Row], object]) -> Callable[..., object]:
        def ask(statement: str, values: Row = ()) -> object:
            statements.append(statement)
            return way(statement, values)

        return ask

    for name in ("query", "change"):
        monkeypatch.setattr(store.session, name, noted(getattr(store.session, name)))
    return statements


def test_an_idle_look_is_one_query_of_a_few_rows(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(other)
    for n in range(300):
        store.commit([Put(registration(str(n)))])
    replica.look()
    statements = asked(other, monkeypatch)
    replica.look()
    assert len(statements) == 1
    assert len(other.session.query(statements[0])) == 2


def test_while_nobody_follows_no_account_is_kept(store: SqlStore) -> None:
    store.commit([Put(registration())])
    assert (count(store, "sofia_feed"), count(store, "sofia_feed_heads")) == (0, 1)


def test_a_commit_is_one_entry_however_much_it_changes(store: SqlStore, other: SqlStore) -> None:
    Replica(other)
    store.commit([Put(registration(str(n))) for n in range(64)])
    store.commit([Remove(registration("1", version=2)), Put(registration("2", version=2))])
    assert count(store, "sofia_feed") == 2


def test_a_store_from_before_there_was_an_account_gets_one_and_keeps_what_it_has(dsn: str, store: SqlStore) -> None:
    store.commit([Put(registration("1")), Put(call())])
    epoch = store.raise_fence("external#0")
    for table in ("sofia_feed", "sofia_feed_heads"):
        store.session.change(f"DROP TABLE {table}")
    changed(store, "DELETE FROM sofia_fences WHERE slot = ?", feed.FOLLOWED)
    changed(store, "DELETE FROM sofia_schema WHERE version = ?", 2)
    with opened(open_store(dsn)) as newer:
        assert newer.registrations() == [registration("1")]
        assert newer.calls() == [call()]
        assert newer.raise_fence("external#0") > epoch
        replica = Replica(newer)
        newer.commit([Put(registration("2"))])
        replica.look()
        assert set(replica.known) == {registration("2").key}


def test_an_account_that_ended_meanwhile_is_worth_nothing(store: SqlStore, other: SqlStore) -> None:
    """Nobody said for long that he follows; what came then is in no account, though one is kept again."""
    mark = other.changes("")
    assert mark is not None
    changed(store, "UPDATE sofia_fences SET epoch = 1 WHERE slot = ?", feed.FOLLOWED)
    store.commit([Put(registration("unseen"))])
    assert other.changes("") is not None
    store.commit([Put(registration("seen"))])
    assert other.changes(mark.watermark) is None


def test_who_follows_says_so_from_time_to_time(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(other)
    monkeypatch.setattr(feed, "SAY_SO", -1)  # though no time has gone by
    almost = int(store.clock()) + feed.MARGIN + 20
    changed(store, "UPDATE sofia_fences SET epoch = ? WHERE slot = ?", almost, feed.FOLLOWED)
    replica.look()
    (until,) = store.session.query("SELECT epoch FROM sofia_fences WHERE slot = ?", (feed.FOLLOWED,))
    assert until[0] > almost + 100
    # Too late: who writes may have seen it end.
    changed(store, "UPDATE sofia_fences SET epoch = ? WHERE slot = ?", almost - 40, feed.FOLLOWED)
    assert other.changes(replica.last.watermark) is None


def test_a_removal_is_told_though_an_older_put_of_another_writer_is_read_behind_it(
    store: SqlStore, other: SqlStore, dsn: str
) -> None:
    """Whichever of the two names comes first."""
    Replica(other)
    for version in range(2, 20, 2):
        replica = Replica(other)
        with opened(open_store(dsn)) as one, opened(open_store(dsn)) as two:
            one.commit([Put(registration(version=version))])
            two.commit([Remove(registration(version=version + 1))])
        replica.look()
        assert replica.gone == [registration().key]


def test_a_watermark_that_rested_for_long_is_worth_nothing(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica(other)
    monkeypatch.setattr(feed, "WORTHLESS", -1)
    assert other.changes(replica.last.watermark) is None


def test_a_watermark_of_another_store_is_worth_nothing(store: SqlStore) -> None:
    assert store.changes("1718-0") is None
    assert store.changes('{"account": 77, "asked": 0, "said": 0, "seen": {}}') is None


def test_the_oldest_entries_go_and_who_has_not_seen_them_is_told(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT", 10)
    monkeypatch.setattr(feed, "PRUNING", 5)
    replica = Replica(other)
    for n in range(30):
        store.commit([Put(registration(str(n)))])
    assert count(store, "sofia_feed") == 10
    assert other.changes(replica.last.watermark) is None


def test_a_writer_that_went_long_ago_is_forgotten_by_the_next_that_comes(store: SqlStore, other: SqlStore) -> None:
    replica = Replica(other)
    store.commit([Put(registration("1"))])
    replica.look()
    changed(store, "UPDATE sofia_feed_heads SET moment = 1 WHERE writer <> ?", feed.ACCOUNT)
    store.close()
    store.open()
    store.commit([Put(registration("2"))])
    replica.look()
    assert {record.sip_user for record in replica.known.values()} == {"1", "2"}
    assert (count(store, "sofia_feed"), count(store, "sofia_feed_heads")) == (1, 2)


def test_a_writer_that_comes_waits_for_nobody_in_the_midst_of_a_write(store: SqlStore, other: SqlStore) -> None:
    if store.session.dialect.name == "SQLite":
        pytest.skip("whoever writes is alone there")
    other.changes("")
    other.commit([Put(registration("1"))])
    other.session.begin()
    other.session.change("INSERT INTO sofia_feed (writer, number, moment, changed) VALUES ('b', 1, 4e9, ?)", (b"\x90",))
    other.session.change("UPDATE sofia_feed_heads SET moment = 4e9 WHERE writer <> '#'")
    store.commit([Put(registration("2"))])
    # Had it been waited for, the server would have ended it: its client is silent.
    other.session.commit()
    assert count(store, "sofia_feed") == 3


def test_one_that_was_forgotten_and_writes_again_is_not_overlooked(store: SqlStore, other: SqlStore) -> None:
    for user in ("1", "2"):
        other.changes("")
        store.commit([Put(registration(user))])
    changed(other, "DELETE FROM sofia_feed")
    changed(other, "DELETE FROM sofia_feed_heads WHERE writer <> ?", feed.ACCOUNT)
    mark = other.changes("")
    assert mark is not None
    store.commit([Put(registration("3"))])
    assert other.changes(mark.watermark) is None


def test_a_commit_that_failed_leaves_no_hole_behind(
    store: SqlStore, other: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether the number was used, so it is never used again."""
    replica = Replica(other)
    store.commit([Put(registration("1"))])
    commit = store.session.commit

    def lost(closing: object = ()) -> None:
        commit(closing)  # type: ignore[arg-type]
        raise OSError("the answer was lost")

    monkeypatch.setattr(store.session, "commit", lost)
    with pytest.raises(OSError, match="the answer"):
        store.commit([Put(registration("2"))])
    monkeypatch.setattr(store.session, "commit", commit)
    assert store.commit([Put(registration("2")), Put(registration("3"))]) == [Outcome.STALE, Outcome.STORED]
    replica.look()
    assert {record.sip_user for record in replica.known.values()} == {"1", "2", "3"}


def test_who_begins_to_follow_waits_for_those_in_the_midst_of_a_write(dsn: str, store: SqlStore) -> None:
    """They have seen that nobody follows, and keep no account: what they write must be there before the watermark."""
    store.session.begin("SELECT slot, epoch FROM sofia_fences")
    marks: list[object] = []

    def follow() -> None:
        with opened(open_store(dsn)) as mine:
            marks.append(mine.changes(""))

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(0.3)
    assert marks == []
    store.session.commit()
    thread.join(20)
    assert len(marks) == 1
