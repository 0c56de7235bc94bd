from __future__ import annotations

import pytest

from store.errors import UnknownStore
from store.sql.dsn import Server, is_server, target


@pytest.mark.parametrize(
    ("dsn", "server", "place", "words"),
    [
        (
            r"pgsql://hostaddr=127.0.0.1 port = 5433 dbname=sip user=bob password='it\'s \\ a=secret' options=''",
            Server.POSTGRESQL,
            "PostgreSQL sip on 127.0.0.1:5433",
            {
                "hostaddr": "127.0.0.1",
                "port": "5433",
                "dbname": "sip",
                "user": "bob",
                "password": "it's \\ a=secret",
                "options": "",
            },
        ),
        (
            "postgresql://bob:se%40cret@[2001:db8::1]:5433,db2/sip?sslmode=require&options=-c%20x%3D1",
            Server.POSTGRESQL,
            "PostgreSQL sip on 2001:db8::1:5433,db2",
            {
                "host": "2001:db8::1,db2",
                "port": "5433,",
                "user": "bob",
                "password": "se@cret",
                "dbname": "sip",
                "sslmode": "require",
                "options": "-c x=1",
            },
        ),
        ("postgres:///sip", Server.POSTGRESQL, "PostgreSQL sip on local", {"dbname": "sip"}),
        (
            "mariadb://Server=192.0.2.9;Port=3307;Database=sip;Uid=bob;Pwd={a;b}}c=d};",
            Server.MARIADB,
            "MariaDB sip on 192.0.2.9:3307",
            {"SERVER": "192.0.2.9", "PORT": "3307", "DATABASE": "sip", "UID": "bob", "PWD": "a;b}c=d"},
        ),
        (
            "mysql://bob:secret@db/sip",
            Server.MARIADB,
            "MariaDB sip on db",
            {"SERVER": "db", "DATABASE": "sip", "UID": "bob", "PWD": "secret"},
        ),
        (
            "odbc://freeswitch:bob:sec:ret",
            Server.ANY,
            "ODBC freeswitch",
            {"DSN": "freeswitch", "UID": "bob", "PWD": "sec:ret"},
        ),
        ("odbc://freeswitch", Server.ANY, "ODBC freeswitch", {"DSN": "freeswitch"}),
        ("freeswitch:bob:", Server.ANY, "ODBC freeswitch", {"DSN": "freeswitch", "UID": "bob", "PWD": ""}),
        (
            "odbc://Driver={Some Driver};Server=db;Database=sip;PWD=secret",
            Server.ANY,
            "ODBC sip on db",
            {"DRIVER": "Some Driver", "SERVER": "db", "DATABASE": "sip", "PWD": "secret"},
        ),
    ],
)
def test_every_form_is_read(dsn: str, server: Server, place: str, words: dict[str, str]) -> None:
    assert is_server(dsn)
    read = target(dsn)
    assert (read.server, read.place, read.words) == (server, place, words)
    assert "secret" not in repr(read)


@pytest.mark.parametrize(
    ("dsn", "complaint"),
    [
        ("pgsql://", "cannot be read: write pgsql://user"),
        ("pgsql://host=db password='secret", "cannot be read behind 'host': write keyword=value"),
        ("pgsql://host=db secret", "cannot be read behind 'host': write keyword=value"),
        ("postgresql://bob:secret@db:port/sip", "has a host that cannot be read"),
        ("mariadb://Server=db;Uid=bob;Pwd=secret;", "names no database"),
        ("mariadb://Server=db;secret", "cannot be read behind 'SERVER'"),
        ("mariadb://bob:secret@a,b/sip", "names several hosts"),
        ("odbc://:bob:secret", "names no data source"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_repeated(dsn: str, complaint: str) -> None:
    with pytest.raises(UnknownStore) as refusal:
        target(dsn)
    assert complaint in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("dsn", ["core", "/var/lib/a:b", "sqlite://core", "memory://x", "redis://:secret@db"])
def test_what_is_no_database_server_is_left_to_others(dsn: str) -> None:
    assert not is_server(dsn)
