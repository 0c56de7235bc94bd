"""A server that cannot write: its disk is full, or it may not. The writer goes on, counts, and gives it all back later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from store.backends import open_store
from store.errors import StoreError
from store.interface import Outcome, Put, opened
from store.journal import Journal
from store.writer import Writer
from tests.store.faults import Loop
from tests.store.samples import call, registration
from tests.support.database import Database
from tests.support.mariadb import MariaDb
from tests.support.node import STRETCH
from tests.support.postgres import Postgres

LIMIT = 150.0 * STRETCH
"MariaDB itself looks only once a minute whether there is room again."

pytestmark = pytest.mark.timeout(2 * LIMIT)
CRAMPED: dict[str, Callable[[], Database]] = {
    "postgresql": lambda: Postgres("160m"),
    "mariadb": lambda: MariaDb("220m"),
}
RECORDS = 3000
"More than a server has room for within what it has set aside already."


@pytest.fixture(scope="module", params=CRAMPED)
def server(request: pytest.FixtureRequest) -> Iterator[Database]:
    server = CRAMPED[request.param]()
    yield server
    server.stop()


@pytest.fixture
def dsn(server: Database) -> Iterator[str]:
    with server.fresh() as database:
        yield server.user_dsn(database)


class Node:
    """As much of one as writes: what it was told of each write, and what it holds itself."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.loop = Loop()
        self.told: list[Outcome] = []
        self.known: dict[str, int] = {}
        journal = Journal(folder / "journal")
        self.writer = Writer(
            open_store(dsn), call_soon=self.loop.call_soon, call_later=self.loop.call_later, journal=journal
        )

    def put(self, user: str, version: int) -> None:
        # Bytes that cannot be made fewer.
        odd = "".join(chr(0x4E00 + (int(user) * 7919 + n * n * 31 + version) % 20000) for n in range(300))
        self.writer.put(registration(user, version=version, user_agent=odd), self.told.append)
        self.known[user] = version

    def wait(self, holds: Callable[[], object]) -> None:
        self.loop.run(holds, LIMIT)


@pytest.fixture
def node(dsn: str, tmp_path: Path) -> Iterator[Node]:
    node = Node(dsn, tmp_path)
    with ExitStack() as stack:
        stack.callback(node.writer.close, 10.0)
        node.writer.start()
        node.put("1", 1)
        node.wait(lambda: node.told and node.writer.stats.items == 1)
        node.told.clear()
        yield node


def held(dsn: str) -> dict[str, int]:
    with opened(open_store(dsn)) as store:
        return {record.sip_user: record.version for record in store.registrations()}


def test_a_full_disk_costs_no_record_and_what_was_at_risk_is_counted(server: Database, node: Node, dsn: str) -> None:
    stats, before = node.writer.stats, node.writer.stats.at_risk
    with server.full():
        for user in range(RECORDS):
            node.put(str(user), 2)
            if user % 100 == 0:
                node.wait(lambda: len(node.told) > len(node.known) - 150)
        node.wait(lambda: len(node.told) == RECORDS)
        assert stats.open, "it can still write"
        assert node.told.count(Outcome.AT_RISK) == stats.at_risk - before > 0
        assert set(node.told) <= {Outcome.STORED, Outcome.AT_RISK}
        print(f"full disk: {stats.at_risk} of {RECORDS} at risk, {stats.error}")
    node.wait(lambda: not node.writer.behind and not stats.open)
    node.put("1", 3)
    node.wait(lambda: len(node.told) == RECORDS + 1)
    assert node.told[-1] is Outcome.STORED
    assert held(dsn) == node.known
    assert stats.lost == 0
    assert stats.replayed + stats.late >= stats.at_risk


def test_a_store_that_may_not_be_written_costs_no_record(server: Database, node: Node, dsn: str) -> None:
    stats, before = node.writer.stats, node.writer.stats.at_risk
    with server.read_only():
        for version in range(2, 30):
            node.put("1", version)
            node.put(str(version), version)
        node.wait(lambda: len(node.told) == 56)
        assert stats.at_risk > before
        assert "it is read-only" in stats.error
    node.wait(lambda: not node.writer.behind and not stats.open)
    assert held(dsn) == node.known
    assert stats.lost == 0


def test_what_a_full_disk_refuses_is_said_to_be_that(server: Database, dsn: str) -> None:
    """To whoever looks: `full`, or that it is gone, where it ends of it."""
    errors: list[StoreError] = []
    with opened(open_store(dsn)) as store, server.full():
        for lot in range(100):
            writes = [Put(call(f"{lot}-{n}", progress={"x": f"{n * n * 7919:064d}" * 30})) for n in range(100)]
            try:
                store.commit(writes)
            except StoreError as error:
                errors.append(error)
                break
    assert errors, "it took all"
    print(f"full disk: {type(errors[0]).__name__}: {errors[0]}")
    assert any(word in str(errors[0]) for word in ("the disk is full", "no connection", "shuts down"))
