"""The way to a database server: who is let in, by which host, and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.backends import open_store
from store.errors import ReadOnly, Refused, UnknownStore
from store.interface import Outcome, Put, Remove, opened
from store.settings import OdbcSettings
from store.sql.dsn import target
from store.sql.odbc import OdbcSession, dialect_named
from store.sql.store import SqlStore
from tests.store.faults import fails_soon
from tests.store.samples import call, registration
from tests.store.sql.servers import reopened
from tests.support.database import Database
from tests.support.mariadb import mariadb
from tests.support.postgres import Postgres, options, postgres
from tests.support.tcpproxy import TcpProxy

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED


# ---- who is let in, and what may be written ------------------------------------------------------------------------


def test_a_wrong_password_is_told_without_it(server: Database, database: str) -> None:
    if isinstance(server, Postgres):
        server.add_user("bob", "right")
        server.query(f"GRANT ALL ON SCHEMA {database} TO bob")
        wrong, right = (server.url(database, f"bob:{password}") for password in ("hunter2", "right"))
    else:
        server.query("CREATE OR REPLACE USER bob@'127.0.0.1' IDENTIFIED BY 'right'")
        server.query(f"GRANT ALL ON {database}.* TO bob@'127.0.0.1'")
        place = f"@127.0.0.1:{server.port}/{database}"
        wrong, right = (f"mariadb://bob:{password}{place}" for password in ("hunter2", "right"))
    error = fails_soon(open_store(wrong)().open)
    assert "hunter2" not in str(error)
    assert f"on 127.0.0.1:{server.port}: " in str(error)
    with opened(open_store(right)) as store:
        assert store.commit([Put(call())]) == [STORED]


@pytest.mark.parametrize("password", ["a;b}c{d", "x' OR \\1 %41 = ?&@/:", "}}"])
def test_a_password_may_have_any_character(password: str) -> None:
    server = postgres()
    server.add_user("carol", password)
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    with server.fresh() as database:
        server.query(f"GRANT ALL ON SCHEMA {database} TO carol")
        words = f"hostaddr=127.0.0.1 port={server.port} dbname=postgres user=carol password='{quoted}'"
        with opened(open_store(f"pgsql://{words} {options(database)}")) as store:
            assert store.commit([Put(call())]) == [STORED]


def test_a_database_that_is_not_there_is_named() -> None:
    absent = f"postgresql://postgres@127.0.0.1:{postgres().port}/nowhere"
    for dsn in (absent, mariadb().dsn("nowhere")):
        assert "nowhere" in str(fails_soon(open_store(dsn)().open))


def test_a_database_that_takes_no_writes_says_so(server: Database, database: str, dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call())])
        if isinstance(server, Postgres):
            refused = server.url(database, default_transaction_read_only="on")
        else:
            server.query("CREATE OR REPLACE USER dave@'127.0.0.1' IDENTIFIED BY 'x'")
            server.query(f"GRANT ALL ON {database}.* TO dave@'127.0.0.1'")
            server.query("SET GLOBAL read_only = 1")
            refused = f"mariadb://dave:x@127.0.0.1:{server.port}/{database}"
        try:
            with opened(open_store(refused)) as reader:
                fails_soon(lambda: reader.commit([Put(call("2"))]), ReadOnly)
                assert reader.calls() == [call()]
        finally:
            if not isinstance(server, Postgres):
                server.query("SET GLOBAL read_only = 0")


def test_mysql_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UnknownStore, match=r"the place: MySQL is no database that we can use: .* SQLite. It has neither"
    ):
        dialect_named("MySQL", "the place")
    with pytest.raises(UnknownStore, match=r"the place: Oracle is no database that we can use: there are .* SQLite$"):
        dialect_named("Oracle", "the place")


def test_a_value_no_column_takes_is_refused_and_its_batch_undone(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        with pytest.raises(Refused):
            store.commit([Put(registration()), Put(registration("1001", expires=1 << 63))])
        assert store.registrations() == []


def test_a_character_zero_comes_back_as_it_was(dsn: str) -> None:
    odd = registration("1001", user_agent="a\0b", contact="<sip:\0@192.0.2.7>")
    there = call("x\0y", profile_name="\0")
    with opened(open_store(dsn)) as store:
        assert store.commit([Put(odd), Put(there), Put(registration())]) == [STORED] * 3
        assert sorted(r.sip_user for r in store.registrations()) == ["1000", "1001"]
        assert odd in store.registrations()
        assert store.calls() == [there]
        assert store.commit([Remove(call("x\0y", version=2)), Remove(registration("1001", version=1))]) == [
            STORED,
            STORED,
        ]


def test_much_text_that_is_not_ascii_is_taken_every_time(dsn: str) -> None:
    """A driver that gets it as UTF-16 fails by chance: once in four batches of this size."""
    with opened(open_store(dsn)) as store:
        for version in range(1, 25):
            names = [
                "".join(chr(0x4E00 + (n * 7919 + k * k * 31 + version) % 20000) for k in range(300)) for n in range(64)
            ]
            phones = [registration(str(n), version=version, user_agent=name) for n, name in enumerate(names)]
            assert store.commit([Put(phone) for phone in phones]) == [STORED] * 64
        assert sorted(r.user_agent for r in store.registrations()) == sorted(names)


def test_a_contact_may_be_as_long_as_it_likes(dsn: str) -> None:
    # Random enough not to be compressed below what an index takes.
    long = registration(contact=f"<sip:1000@192.0.2.7;x={'-'.join(str(n * n % 7919) for n in range(2000))}>")
    call_id = "y".join(str(n * n % 7919) for n in range(2000))
    there = call(legs=call().legs)
    assert there.legs[0].dialog is not None
    there.legs[0].dialog.call_id = call_id
    with opened(open_store(dsn)) as store:
        assert store.commit([Put(long), Put(there)]) == [STORED, STORED]
        assert store.registrations() == [long]
        assert store.call_by_call_id(call_id) == there


# ---- several hosts, any data source ------------------------------------------------------------------------------------


def test_of_several_hosts_the_one_that_may_write_is_taken() -> None:
    server = postgres()
    with (
        server.fresh() as database,
        TcpProxy(("127.0.0.1", server.port)) as first,
        TcpProxy(("127.0.0.1", server.port)) as second,
    ):
        first.cut()
        with opened(open_store(server.url(database, ports=[first.port, second.port]))) as store:
            assert store.commit([Put(call())]) == [STORED]
            second.cut()
            first.restore()
            fails_soon(lambda: store.commit([Put(call("2"))]))
            assert reopened(store).commit([Put(call("2"))]) == [STORED]


def test_a_data_source_of_any_server_is_recognised(server: Database, database: str) -> None:
    driver = "PostgreSQL Unicode" if isinstance(server, Postgres) else "MariaDB Unicode"
    user = "postgres" if isinstance(server, Postgres) else "root"
    words = f"Driver={{{driver}}};Server=127.0.0.1;Port={server.port};Uid={user};"
    if isinstance(server, Postgres):
        words += f"Database=postgres;Pqopt={{{options(database)}}};"
    else:
        words += f"Database={database};"
    session = OdbcSession(target(f"odbc://{words}"), OdbcSettings())
    store = SqlStore(session)
    with opened(lambda: store):
        assert session.dialect.name == ("PostgreSQL" if isinstance(server, Postgres) else "MariaDB")
        assert store.commit([Put(call())]) == [STORED]


@pytest.mark.parametrize("form", ["odbc://{}:{}:secret", "{}:{}:secret"])
def test_a_data_source_is_found_by_its_name(
    server: Database, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    words = [f"Server = 127.0.0.1\nServername = 127.0.0.1\nPort = {server.port}"]
    if isinstance(server, Postgres):
        user = "postgres"
        words += ["Driver = PostgreSQL Unicode", f"Database = postgres\nPqopt = {options(database)} connect_timeout=3"]
    else:
        user = "erin"
        server.query("CREATE OR REPLACE USER erin@'127.0.0.1' IDENTIFIED BY 'secret'")
        server.query(f"GRANT ALL ON {database}.* TO erin@'127.0.0.1'")
        words += ["Driver = MariaDB Unicode", f"Database = {database}"]
    sources = tmp_path / "odbc.ini"
    # unixODBC remembers what it has read of a name.
    name = f"telephony-{database}-{user}"
    sources.write_text(f"[{name}]\n" + "\n".join(words) + "\n")
    monkeypatch.setenv("ODBCINI", str(sources))
    with opened(open_store(form.format(name, user))) as store:
        assert store.commit([Put(call())]) == [STORED]
    with opened(open_store(server.dsn(database))) as store:
        assert store.calls() == [call()]


def test_a_data_source_that_nobody_knows_is_named() -> None:
    assert "ODBC nobody: the data source or its driver is not known" in str(fails_soon(open_store("nobody:a:b")().open))
