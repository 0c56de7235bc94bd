"""From a DSN to a store."""

from __future__ import annotations

from pathlib import Path

from store.errors import Unavailable, UnknownStore
from store.interface import Factory, Store
from store.memory import memory_store
from store.redis import dsn as redis_dsn
from store.redis.recent import Recent
from store.settings import OdbcSettings, SqliteSettings
from store.sql.dsn import is_server, target
from store.sql.sqlite import SqliteSession
from store.sql.store import SqlStore


def open_store(dsn: str, *, db_dir: Path | None = None, sqlite: SqliteSettings | None = None) -> Factory:
    """What makes stores for this DSN; each thread or process makes and opens its own.

    The forms are FreeSWITCH's: `sqlite://path-or-name`, an absolute path, or a plain name, which means
    `<db_dir>/<name>.db`; those of `store.sql.dsn` for a database server; and of ours `memory://name` and those of
    `store.redis.dsn`. Raises `UnknownStore`.
    """
    scheme, bar, rest = dsn.partition("://")
    if redis_dsn.is_redis(dsn):
        return _redis(dsn)
    if is_server(dsn):
        return _odbc(dsn)
    if bar:
        return _by_scheme(scheme.lower(), rest, db_dir, sqlite or SqliteSettings())
    return _sqlite(dsn, db_dir, sqlite or SqliteSettings())


def _by_scheme(scheme: str, rest: str, db_dir: Path | None, settings: SqliteSettings) -> Factory:
    if scheme == "sqlite":
        place, bar, name = rest.partition("://")
        if place == "memory" and bar:
            return memory_store(name)
        return _sqlite(rest, db_dir, settings)
    if scheme == "memory":
        return memory_store(rest)
    # Never the rest of it: that is where the password is.
    raise UnknownStore(f"the store `{scheme}://...` is of no known kind: use sqlite, pgsql, mariadb, odbc or redis")


def _odbc(dsn: str) -> Factory:
    database = target(dsn)
    said: set[int] = set()

    def make() -> Store:
        # As the driver of Redis: only who opens the store pays for it.
        try:
            from store.sql.odbc import OdbcSession
        except ImportError as error:
            raise Unavailable(f"{database.place}: ODBC is not installed (Debian: libodbc2): {error}") from error
        return SqlStore(OdbcSession(database, OdbcSettings()), said)

    return make


def _redis(dsn: str) -> Factory:
    settings, recent = redis_dsn.parse(dsn), Recent()
    said: set[int] = set()

    def make() -> Store:
        # The driver takes 20 MB and a fifth of a second: only who opens the store pays for it.
        from store.redis.store import RedisStore

        return RedisStore(settings, recent, said)

    return make


def _sqlite(name: str, db_dir: Path | None, settings: SqliteSettings) -> Factory:
    if not name:
        raise UnknownStore("the store's DSN names no SQLite file")
    if name.startswith("/"):
        path = Path(name)
    elif db_dir is not None:
        path = db_dir / f"{name}.db"
    else:
        raise UnknownStore(f"the SQLite store `{name}` is a plain name, and there is no directory to look for it in")

    said: set[int] = set()

    def make() -> Store:
        return SqlStore(SqliteSession(path, settings), said)

    return make
