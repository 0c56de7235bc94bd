"""Two releases that share a database: who makes what of its tables, and who goes on with that."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from store.backends import open_store
from store.errors import SchemaTooNew
from store.interface import Description, Outcome, Put, Store, opened
from store.sql import odbc, schema, sqlite
from store.sql.dialects import MARIADB, POSTGRESQL, SQLITE
from store.sql.migration import Tables
from store.sql.schema import Step
from store.sql.store import SqlStore
from tests.store.samples import call, registration
from tests.support.mariadb import mariadb
from tests.support.postgres import postgres

NOW = len(schema.FILE_STEPS)
HARMLESS = Step(("ALTER TABLE recovery ADD COLUMN note {text}", "CREATE TABLE sofia_notes (note {text})"), NOW)
"A step of the release after this one, which those before need not know."
SHARP = Step(("ALTER TABLE recovery ADD COLUMN sharp {text}",), NOW + 1)
"One that they would stumble over."

Newer = Callable[..., Store]


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def dsn(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/core.db"
        return
    server = postgres() if request.param == "postgresql" else mariadb()
    with server.fresh() as database:
        yield server.dsn(database)


@pytest.fixture
def newer(dsn: str, monkeypatch: pytest.MonkeyPatch) -> Newer:
    """Opens a store as a release does that has these steps more than ours. It is the caller's to close."""

    def opens(*steps: Step) -> Store:
        with monkeypatch.context() as patched:
            for dialect in (POSTGRESQL, MARIADB):
                patched.setitem(odbc.DIALECTS, dialect.name, replace(dialect, steps=(*dialect.steps, *steps)))
            patched.setattr(sqlite.SqliteSession, "dialect", replace(SQLITE, steps=(*SQLITE.steps, *steps)))
            store = open_store(dsn)()
            # A session keeps the dialect that it met.
            if isinstance(store, SqlStore):
                store.session.dialect = store.session.dialect
            store.open()
        return store

    return opens


def versions(store: Store) -> list[tuple[int, int | None]]:
    assert isinstance(store, SqlStore)
    return [
        (row[0], row[1]) for row in store.session.query("SELECT version, compatible_from FROM sofia_schema ORDER BY 1")
    ]


def test_each_step_says_how_old_a_release_may_be(dsn: str, newer: Newer) -> None:
    with opened(open_store(dsn)) as store:
        assert versions(store) == [(1, 1), (2, 2)]
    with closing(newer(HARMLESS, SHARP)) as store:
        assert versions(store) == [(1, 1), (2, 2), (NOW + 1, NOW), (NOW + 2, NOW + 1)]


def test_an_older_schema_is_brought_up_to_date_once(dsn: str, newer: Newer) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call())])
    for _ in range(2):
        with closing(newer(HARMLESS)) as store:
            assert store.calls() == [call()]
            assert isinstance(store, SqlStore)
            assert [tuple(row) for row in store.session.query("SELECT note FROM recovery")] == [(None,)]


def test_the_older_of_two_releases_goes_on_when_the_newer_has_changed_the_tables(
    dsn: str, newer: Newer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "store")
    older = open_store(dsn)
    with opened(older) as active, closing(newer(HARMLESS)) as standby:
        # What it is connected with stays good, and so does what it connects anew with, as the writer does after a failure.
        for number in (1, 2, 3):
            assert active.commit([Put(call(version=number)), Put(registration(version=number))]) == [Outcome.STORED] * 2
            assert standby.calls() == [call(version=number)]
            assert standby.registrations() == [registration(version=number)]
            active.close()
            active.open()
        epoch = standby.raise_fence("internal#0")
        assert [c.uuid for c in standby.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch)] == ["call-1"]
        assert active.commit([Put(call(version=9))]) == [Outcome.FENCED]
        assert standby.commit([Put(call(version=9, epoch=epoch, node="b"))]) == [Outcome.STORED]
    with opened(older) as active:
        assert active.calls() == [call(version=9, epoch=epoch, node="b")]
        assert active.describe() == Description(
            server=active.describe().server, version=NOW + 1, wanted=NOW, steps=(), remarks=(), usable=True
        )
    said = [record.getMessage() for record in caplog.records if "goes on" in record.getMessage()]
    assert len(said) == 1
    assert (
        f"have version {NOW + 1}, this release knows {NOW} and goes on, for they take releases from version {NOW} on"
        in said[0]
    )


def test_tables_that_an_older_release_would_stumble_over_are_refused(dsn: str, newer: Newer) -> None:
    with closing(newer(HARMLESS, SHARP)):
        pass
    text = f"have version {NOW + 2}, this release knows {NOW}, and they take releases from version {NOW + 1} on only"
    with pytest.raises(SchemaTooNew, match=text):
        open_store(dsn)().open()


def test_a_harmless_step_after_a_sharp_one_makes_it_no_better(dsn: str, newer: Newer) -> None:
    with closing(newer(SHARP, HARMLESS)):
        pass
    with pytest.raises(SchemaTooNew, match=f"from version {NOW + 1} on only"):
        open_store(dsn)().open()


def test_a_newer_schema_that_does_not_say_whom_it_takes_is_refused(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        assert isinstance(store, SqlStore)
        store.session.begin()
        store.session.change("INSERT INTO sofia_schema (version) VALUES (?)", (NOW + 1,))
        store.session.commit()
    with pytest.raises(SchemaTooNew, match=f"its tables have version {NOW + 1}, this release knows {NOW}$"):
        open_store(dsn)().open()


def test_a_database_that_was_made_before_steps_said_so_learns_it_with_the_next(dsn: str, newer: Newer) -> None:
    with opened(open_store(dsn)) as store:
        assert isinstance(store, SqlStore)
        store.session.begin()
        store.session.change("ALTER TABLE sofia_schema DROP COLUMN compatible_from")
        store.session.commit()
    with opened(open_store(dsn)) as store, closing(newer(HARMLESS)) as later:
        assert versions(later) == [(1, None), (2, None), (NOW + 1, NOW)]
        store.close()
        store.open()
        assert store.commit([Put(call())]) == [Outcome.STORED]
        assert later.calls() == [call()]


def test_what_a_migration_would_do_is_told_with_the_column_for_it(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        assert isinstance(store, SqlStore)
        session = store.session
        session.dialect = replace(session.dialect, steps=(*session.dialect.steps, HARMLESS))
        tables = Tables(session, set())
        made = list(tables.missing(NOW))
        assert len(made) == len(HARMLESS.statements)
        session.begin()
        session.change("ALTER TABLE sofia_schema DROP COLUMN compatible_from")
        session.commit()
        first, *rest = tables.missing(NOW)
        assert first.startswith("ALTER TABLE sofia_schema ADD COLUMN compatible_from")
        assert rest == made
