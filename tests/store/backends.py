"""The stores that the contract suite runs on: each with a way to an empty one, by its DSN.

A backend that comes is one more entry in `BACKENDS`; its server, if it has one, is started when first asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.store.redis import stores as redis
from tests.support.mariadb import mariadb as maria
from tests.support.postgres import postgres
from tests.support.tcpproxy import TcpProxy

_numbers = itertools.count()


@dataclass(frozen=True)
class Backend:
    name: str
    empty: Callable[[Path], AbstractContextManager[str]]
    "Given a directory of the test's own: the DSN of a store that nobody has opened yet, for the length of a `with`."
    shared: bool = True
    "Whether other processes see it."


@contextmanager
def memory(directory: Path) -> Iterator[str]:
    yield f"memory://contract-{next(_numbers)}"


@contextmanager
def sqlite(directory: Path) -> Iterator[str]:
    yield f"sqlite://{directory / f'core-{next(_numbers)}.db'}"


@contextmanager
def postgresql(directory: Path) -> Iterator[str]:
    with postgres().fresh() as name:
        yield postgres().dsn(name)


@contextmanager
def postgresql_distant(directory: Path) -> Iterator[str]:
    """Behind a network that takes a millisecond each way."""
    with postgres().fresh() as name, TcpProxy(("127.0.0.1", postgres().port)) as proxy:
        proxy.delay(0.001)
        yield postgres().dsn(name, port=proxy.port)


@contextmanager
def mariadb(directory: Path) -> Iterator[str]:
    with maria().fresh() as name:
        yield maria().dsn(name)


@contextmanager
def sqlite_odbc(directory: Path) -> Iterator[str]:
    yield f"odbc://Driver={{SQLite3}};Database={directory / f'core-{next(_numbers)}.db'};"


BACKENDS = (
    Backend("memory", memory, shared=False),
    Backend("sqlite", sqlite),
    Backend("postgresql", postgresql),
    Backend("postgresql-distant", postgresql_distant),
    Backend("mariadb", mariadb),
    Backend("sqlite-odbc", sqlite_odbc),
    Backend("redis", redis.plain),
    Backend("redis-tls-password", redis.secure),
    Backend("redis-sentinel-wait", redis.guarded),
    Backend("redis-distant", redis.distant),
)
