"""MariaDB from Debian's package."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count

import pyodbc

from tests.support.database import Database, at_exit, said

_names = count()

SETTINGS = {
    "bind-address": "127.0.0.1",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "32M",
    # What is committed is on the disk, as in earnest.
    "innodb-flush-log-at-trx-commit": "1",
    "max-connections": "60",
}


class MariaDb(Database):
    def prepare(self) -> None:
        words = ["mariadb-install-db", "--no-defaults", f"--datadir={self.directory}/data"]
        self.run([*words, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"])

    def words(self) -> list[str]:
        words = ["/usr/sbin/mariadbd", "--no-defaults", f"--datadir={self.directory}/data", f"--port={self.port}"]
        return [*words, f"--socket={self.directory}/s", *(f"--{name}={value}" for name, value in SETTINGS.items())]

    def answers(self) -> bool:
        try:
            self.query("SELECT 1")
        except pyodbc.Error:
            return False
        return True

    def query(self, statement: str, database: str = "") -> str:
        where = f"Server=127.0.0.1;Port={self.port};Uid=root;Database={database};CONN_TIMEOUT=2"
        return said(f"Driver={{MariaDB Unicode}};{where}", statement)

    def dsn(self, database: str, host: str = "127.0.0.1", port: int | None = None) -> str:
        return f"mariadb://Server={host};Port={port or self.port};Database={database};Uid=root;"

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.query("SET GLOBAL read_only = 1")
        try:
            yield
        finally:
            self.query("SET GLOBAL read_only = 0")

    def user_dsn(self, database: str, port: int | None = None) -> str:
        self.query("CREATE USER IF NOT EXISTS node@'127.0.0.1' IDENTIFIED BY 'sesame'")
        self.query(f"GRANT ALL ON {database}.* TO node@'127.0.0.1'")
        return f"mariadb://Server=127.0.0.1;Port={port or self.port};Database={database};Uid=node;Pwd=sesame;"

    @contextmanager
    def fresh(self) -> Iterator[str]:
        """The name of a new database, for the length of a `with`."""
        name = f"sofia{next(_names)}"
        self.query(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self.query(f"DROP DATABASE {name}")


@cache
def mariadb() -> MariaDb:
    """The one of this run."""
    server = MariaDb()
    at_exit(server)
    return server
