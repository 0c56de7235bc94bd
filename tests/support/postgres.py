"""PostgreSQL from Debian's package."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from pathlib import Path

from tests.support.database import Database, at_exit, said

_names = count()

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "max_connections": "60",
    # What is committed is on the disk, as in earnest.
    "fsync": "on",
    "synchronous_commit": "on",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
}


class Postgres(Database):
    settings = SETTINGS

    def prepare(self) -> None:
        self.run(
            [
                program("initdb"),
                "-D",
                self.data,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "-N",
                "-U",
                "postgres",
            ]
        )

    def words(self) -> list[str]:
        words = [program("postgres"), "-D", self.data, "-p", str(self.port), "-k", str(self.directory)]
        return words + [word for name, value in self.settings.items() for word in ("-c", f"{name}={value}")]

    def answers(self) -> bool:
        words = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(words, check=False).returncode == 0

    def query(self, statement: str, database: str = "") -> str:
        """Databases of `fresh` are schemas of one: a database of its own takes a tenth of a second to make."""
        path = f"SET search_path = {database}; " if database else ""
        words = f"Driver={{PostgreSQL Unicode}};Server=127.0.0.1;Port={self.port};Uid=postgres;Database=postgres;"
        return said(words, path + statement)

    def dsn(self, database: str, host: str = "127.0.0.1", port: int | None = None) -> str:
        return f"pgsql://hostaddr={host} port={port or self.port} dbname=postgres user=postgres {options(database)}"

    def url(self, database: str, user: str = "postgres", ports: Sequence[int] = (), **settings: str) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports or [self.port])
        more = "".join(f"%20-c%20{name}%3D{value}" for name, value in settings.items())
        return f"postgresql://{user}@{hosts}/postgres?options=-c%20search_path%3D{database}{more}"

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """As a standby that has not been promoted, or a primary under maintenance."""
        self._set_read_only("on")
        try:
            yield
        finally:
            self._set_read_only("off")

    def _set_read_only(self, wanted: str) -> None:
        self.query(f"ALTER SYSTEM SET default_transaction_read_only = {wanted}")
        self.query("SELECT pg_reload_conf()")

    def user_dsn(self, database: str, port: int | None = None) -> str:
        return self.dsn(database, port=port)

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The name of a new database, for the length of a `with`."""
        name = f"sofia{next(_names)}"
        self.query(f"CREATE SCHEMA {name}")
        try:
            yield name
        finally:
            # Who was cut off may be in the midst of something there.
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sofia-node'"
            self.query(f"SET client_min_messages = error; {others}; DROP SCHEMA {name} CASCADE")

    def add_user(self, name: str, password: str) -> None:
        """One that has to show its password."""
        words = password.replace("'", "''")
        self.query(f"DROP ROLE IF EXISTS {name}; CREATE ROLE {name} LOGIN PASSWORD '{words}'")
        hba = Path(self.data) / "pg_hba.conf"
        rule = f"host all {name} all scram-sha-256\n"
        if rule not in (lines := hba.read_text()):
            hba.write_text(rule + lines)
            self.query("SELECT pg_reload_conf()")

    @property
    def data(self) -> str:
        return str(self.directory / "data")


def options(database: str) -> str:
    """Where libpq finds what `fresh` has made."""
    return f"options='-c search_path={database}'"


@cache
def postgres() -> Postgres:
    """The one of this run."""
    server = Postgres()
    at_exit(server)
    return server


def program(name: str) -> str:
    """Debian does not put the server's programs on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else name
