"""Database servers, and databases on them, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.database import Database
from tests.support.mariadb import mariadb
from tests.support.postgres import postgres
from tests.support.tcpproxy import TcpProxy

SERVERS: dict[str, Callable[[], Database]] = {"postgresql": postgres, "mariadb": mariadb}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Database:
    return SERVERS[request.param]()


@pytest.fixture
def database(server: Database) -> Iterator[str]:
    with server.fresh() as name:
        yield name


@pytest.fixture
def dsn(server: Database, database: str) -> str:
    return server.dsn(database)


@pytest.fixture
def proxy(server: Database) -> Iterator[TcpProxy]:
    with TcpProxy(("127.0.0.1", server.port)) as proxy:
        yield proxy
