"""What two who share a database server do to each other."""

from __future__ import annotations

import threading
import time

from store.backends import open_store
from store.errors import StoreError, Unavailable
from store.interface import Outcome, Put, opened
from store.sql.store import SqlStore
from tests.store.faults import SOON, fails_soon
from tests.store.samples import call
from tests.support.database import Database

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED


# ---- two at once -----------------------------------------------------------------------------------------------------


def test_both_nodes_may_start_on_an_empty_database_at_the_same_moment(server: Database) -> None:
    for _ in range(20):
        with server.fresh() as database:
            assert _at_once(server.dsn(database), 2) == ["opened", "opened"]
            made = "SELECT count(*), max(version), (SELECT count(*) FROM sofia_lease) FROM sofia_schema"
            assert server.query(made, database) == "2|2|1"


def _at_once(dsn: str, count: int) -> list[str]:
    start = threading.Barrier(count)
    outcomes: list[str] = []

    def run() -> None:
        store = open_store(dsn)()
        start.wait()
        try:
            store.open()
            store.commit([Put(call(threading.current_thread().name))])
            outcomes.append("opened")
        except StoreError as error:
            outcomes.append(str(error))
        finally:
            store.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_who_froze_in_the_midst_of_a_write_does_not_keep_the_next_owner_out(dsn: str) -> None:
    """The fence is raised when the server has ended the silent one's transaction, whose writes are gone with it."""
    with opened(open_store(dsn)) as frozen, opened(open_store(dsn)) as heir:
        assert isinstance(frozen, SqlStore)
        epoch = heir.raise_fence("internal#0")
        session = frozen.session
        session.begin("SELECT slot, epoch FROM sofia_fences")
        session.change("UPDATE sofia_lease SET holder = 'nobody' WHERE name = 'active'")
        deadline = time.monotonic() + SOON
        while True:
            try:
                assert heir.raise_fence("internal#0") > epoch
                break
            except Unavailable:
                assert time.monotonic() < deadline
        fails_soon(session.commit)
        assert heir.read_lease() is None


def test_a_stale_write_is_refused_even_when_it_was_on_its_way_first(dsn: str) -> None:
    """A fence is not raised as long as somebody who has not seen it is in the midst of a write."""
    with opened(open_store(dsn)) as owner, opened(open_store(dsn)) as heir:
        assert isinstance(owner, SqlStore)
        epoch = heir.raise_fence("internal#0")
        owner.session.begin("SELECT slot, epoch FROM sofia_fences")
        raised: list[int] = []
        thread = threading.Thread(target=lambda: raised.append(heir.raise_fence("internal#0")))
        thread.start()
        thread.join(0.3)
        assert raised == []
        owner.session.commit()
        thread.join(SOON)
        assert raised[0] > epoch
        assert owner.commit([Put(call(epoch=epoch))]) == [FENCED]
