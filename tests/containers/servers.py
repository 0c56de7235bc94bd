"""The servers that nodes store in, each in a container; started when first asked for, and used until the run ends."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import pyodbc
import redis
from testcontainers.core.container import DockerContainer

from tests.support.database import said
from tests.support.engine import NAME, engine
from tests.support.node import STRETCH
from tests.support.redis import wait_until

USER, PASSWORD, DATABASE = "sofia", "a;word=with}odd'characters", "telephony"
WITHIN = 60.0 * STRETCH
_names = itertools.count()


@dataclass(frozen=True)
class Server:
    """A server in a container, as testcontainers publishes it."""

    container: DockerContainer
    port: int
    "The one it listens on, inside."

    @property
    def address(self) -> tuple[str, int]:
        """Where it is published: another port after each start."""
        return str(self.container.get_container_host_ip()), int(self.container.get_exposed_port(self.port))


def started(command: str, port: int, **environment: str) -> DockerContainer:
    container = DockerContainer(engine().servers()).with_command(command).with_exposed_ports(port)
    for name, value in environment.items():
        container = container.with_env(name, value)
    # In memory: whether they keep what they flush is not the question here.
    for folder in ("/var/lib/postgresql", "/var/lib/mysql"):
        container = container.with_tmpfs_mount(folder)
    return container.with_kwargs(labels={NAME: str(os.getpid())}, init=True).start()


# ---- each of them ----------------------------------------------------------------------------------------------------


@cache
def postgresql() -> Server:
    environment = {"POSTGRES_USER": USER, "POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": DATABASE}
    server = Server(started("serve-postgres", 5432, **environment), 5432)
    wait_until(lambda: _asked(postgresql_words(server), "SELECT 1"), "PostgreSQL in a container", WITHIN)
    return server


@cache
def mariadb() -> Server:
    environment = {"MARIADB_USER": USER, "MARIADB_PASSWORD": PASSWORD.replace("'", "''"), "MARIADB_DATABASE": DATABASE}
    server = Server(started("serve-mariadb", 3306, **environment), 3306)
    wait_until(lambda: _asked(mariadb_words(server), "SELECT 1"), "MariaDB in a container", WITHIN)
    return server


@cache
def redis_server() -> Server:
    words = "redis-server --bind 0.0.0.0 --protected-mode no --appendonly yes --appendfsync always --requirepass sesame"
    server = Server(started(words, 6379), 6379)

    def answers() -> bool:
        try:
            with redis.Redis(*server.address, password="sesame") as client:
                return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False

    wait_until(answers, "Redis in a container", WITHIN)
    return server


def postgresql_words(server: Server) -> str:
    host, port = server.address
    login = f"Uid={USER};Pwd={{{PASSWORD.replace('}', '}}')}}};Database={DATABASE};"
    return f"Driver={{PostgreSQL Unicode}};Server={host};Port={port};{login}"


def mariadb_words(server: Server) -> str:
    host, port = server.address
    # Its driver takes localhost for a Unix socket.
    login = f"Uid={USER};Pwd={{{PASSWORD.replace('}', '}}')}}};Database={DATABASE};"
    return f"Driver={{MariaDB Unicode}};Server={numeric(host)};Port={port};{login}CONN_TIMEOUT=2"


def numeric(host: str) -> str:
    return "127.0.0.1" if host == "localhost" else host


def _asked(words: str, statement: str) -> str:
    try:
        return said(words, statement)
    except pyodbc.Error:
        return ""


# ---- empty stores in them --------------------------------------------------------------------------------------------


@contextmanager
def empty_postgresql() -> Iterator[str]:
    server, name = postgresql(), f"sofia{next(_names)}"
    words = postgresql_words(server)
    said(words, f"CREATE SCHEMA {name}")
    host, port = server.address
    quoted = PASSWORD.replace("\\", "\\\\").replace("'", "\\'")
    yield (
        f"pgsql://host={numeric(host)} port={port} dbname={DATABASE} user={USER} password='{quoted}' "
        f"options='-c search_path={name}'"
    )
    said(words, f"SET client_min_messages = error; DROP SCHEMA {name} CASCADE")


@contextmanager
def empty_mariadb() -> Iterator[str]:
    """Its user has this one database: what a test has left in it goes before the next."""
    words = mariadb_words(mariadb())
    tables = said(words, f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{DATABASE}'")
    for table in tables.splitlines():
        said(words, f"DROP TABLE {table}")
    host, port = mariadb().address
    password = "{" + PASSWORD.replace("}", "}}") + "}"
    yield f"mariadb://Server={numeric(host)};Port={port};Database={DATABASE};Uid={USER};Pwd={password};"


@contextmanager
def empty_redis() -> Iterator[str]:
    host, port = redis_server().address
    with redis.Redis(host, port, password="sesame") as client:
        client.flushall()
    yield f"redis://:sesame@{numeric(host)}:{port}/0"


STORES: dict[str, Callable[[], contextmanager[str]]] = {  # type: ignore[valid-type]
    "postgresql": empty_postgresql,
    "mariadb": empty_mariadb,
    "redis": empty_redis,
}
