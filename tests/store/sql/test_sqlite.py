from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from store.backends import open_store
from store.errors import Busy, Damaged, Full, ReadOnly, Refused, StoreError, Unavailable
from store.interface import ANY_SLOT, Outcome, Put, opened
from store.settings import SqliteSettings
from store.sql.sqlite import SqliteSession
from store.sql.store import SqlStore
from tests.store.samples import call, registration
from tests.store.sql import processes
from tests.store.sql.together import together


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "core.db"


# ---- several processes ---------------------------------------------------------------------------------------------


def test_processes_that_start_at_once_share_one_new_file_and_lose_nothing(path: Path) -> None:
    got = together(6, processes.write, f"sqlite://{path}")
    with opened(open_store(str(path))) as store:
        assert len(store.registrations()) == 6 * 30 * 3
        assert [(c.epoch, c.version) for c in store.calls()] == [(5, 30)]
    assert got[5] == ["stored"] * 120
    assert all(outcomes.count("stored") >= 90 for outcomes in got.values())


def test_of_processes_that_claim_at_once_one_gets_each_call(path: Path) -> None:
    with opened(open_store(str(path))) as store:
        store.commit([Put(call(str(n))) for n in range(600)])
        epoch = store.raise_fence(ANY_SLOT)
    got = together(3, processes.claim, str(path), epoch)
    assert sorted(uuid for mine in got.values() for uuid in mine) == sorted(str(n) for n in range(600))


def test_of_processes_that_want_the_lease_at_once_one_gets_it(path: Path) -> None:
    got = together(4, processes.lease, str(path))
    assert len([epoch for epoch in got.values() if epoch is not None]) == 1


# ---- what an operator sees -----------------------------------------------------------------------------------------


def test_the_columns_are_those_of_mod_sofia(path: Path) -> None:
    with opened(open_store(str(path))) as store:
        store.commit([Put(registration(user_agent="Phone")), Put(call())])
    with sqlite3.connect(path) as connection:
        row = connection.execute("SELECT sip_user, sip_host, user_agent, profile_name, expires FROM sip_registrations")
        assert row.fetchall() == [("1000", "example.org", "Phone", "internal", 4_000_000_000)]
        row = connection.execute("SELECT technology, profile_name, hostname, uuid, state, call_ids FROM recovery")
        assert row.fetchall() == [
            ("sofia", "internal", "a", "call-1", "answered", "call-1-a@sip call-1-b@sip"),
        ]
        names = [row[1] for row in connection.execute("PRAGMA table_info(sip_registrations)")]
        assert names[:6] == ["call_id", "sip_user", "sip_host", "presence_hosts", "contact", "status"]


def test_committed_means_flushed_to_the_disk(path: Path) -> None:
    store = sqlite(path)
    store.open()
    assert store.session.query("PRAGMA journal_mode") == [("wal",)]
    assert store.session.query("PRAGMA synchronous") == [(2,)]
    store.close()


def test_the_file_is_for_its_user_only(path: Path) -> None:
    with opened(open_store(str(path))):
        assert [oct(p.stat().st_mode & 0o777) for p in sorted(path.parent.iterdir())] == ["0o600"] * 3


def test_a_directory_that_is_missing_is_made(tmp_path: Path) -> None:
    with opened(open_store(f"sqlite://{tmp_path}/run/db/core.db")) as store:
        assert store.calls() == []


# ---- schema --------------------------------------------------------------------------------------------------------


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE sip_registrations (call_id VARCHAR(255))")
    with pytest.raises(StoreError, match=r"core.db: .*table sip_registrations already exists"):
        sqlite(path).open()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'sofia_lease'").fetchall() == [
            (0,)
        ]


# ---- trouble -------------------------------------------------------------------------------------------------------


def sqlite(path: Path, **settings: Any) -> SqlStore:
    return SqlStore(SqliteSession(path, SqliteSettings(**settings)))


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to write everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_may_not_be_written_is_named() -> None:
    place = Path(tempfile.mkdtemp())
    try:
        path = place / "core.db"
        with opened(open_store(str(path))):
            pass
        path.chmod(0o444)
        place.chmod(0o555)
        with as_nobody(), pytest.raises(Unavailable, match=str(path)) as error:
            with opened(open_store(str(path))) as store:
                store.commit([Put(call())])
        assert isinstance(error.value, ReadOnly)
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)


def test_a_full_disk_is_named_and_what_was_stored_stays(path: Path) -> None:
    store = sqlite(path)
    store.open()
    store.commit([Put(call())])
    pages = store.session.query("PRAGMA page_count")[0][0]
    store.session.query(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Full, match=rf"{path}: the disk is full"):
        store.commit([Put(call(f"more-{n}")) for n in range(20)])
    assert store.calls() == [call()]
    store.session.query("PRAGMA max_page_count = 100000")
    assert store.commit([Put(call("more"))]) == [Outcome.STORED]
    store.close()


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    path.write_bytes(b"this was a database once " * 100)
    with pytest.raises(Damaged, match=str(path)):
        sqlite(path).open()


def test_a_directory_in_its_place_is_named(path: Path) -> None:
    path.mkdir()
    with pytest.raises(Unavailable, match=str(path)):
        sqlite(path).open()


def test_a_lock_that_is_not_let_go_is_reported_after_the_wait(path: Path) -> None:
    store = sqlite(path, wait=0.05)
    store.open()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Busy, match=rf"{path}: others kept it locked"):
        store.commit([Put(call())])
    # Reading needs no lock.
    assert store.calls() == []
    blocker.execute("ROLLBACK")
    assert store.commit([Put(call())]) == [Outcome.STORED]
    blocker.close()
    store.close()


def test_a_file_that_was_taken_away_is_noticed_at_the_next_write(path: Path) -> None:
    store = sqlite(path)
    store.open()
    for each in path.parent.iterdir():
        each.unlink()
    with pytest.raises(Unavailable, match=rf"{path}: the file was taken away"):
        store.commit([Put(call())])
    store.open()
    assert store.commit([Put(call())]) == [Outcome.STORED]
    store.close()
    with opened(open_store(str(path))) as again:
        assert again.calls() == [call()]


def test_being_given_up_while_closed_is_no_error(path: Path) -> None:
    store = sqlite(path)
    store.abandon()
    store.open()
    store.close()
    store.abandon()


def test_a_value_no_column_takes_is_refused_and_its_batch_undone(path: Path) -> None:
    with opened(open_store(str(path))) as store:
        with pytest.raises(Refused):
            store.commit([Put(registration()), Put(registration("1001", expires=1 << 63))])
        assert store.registrations() == []


def test_a_record_that_cannot_be_read_does_not_hide_the_others(path: Path) -> None:
    with opened(open_store(str(path))) as store:
        store.commit([Put(call("good")), Put(call("broken"))])
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE recovery SET record = x'ff00' WHERE uuid = 'broken'")
        assert [c.uuid for c in store.calls()] == ["good"]
        epoch = store.raise_fence("internal#0")
        claimed = []
        while batch := store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch):
            claimed += batch
        assert [c.uuid for c in claimed] == ["good"]


def test_a_closed_store_says_so_and_closing_twice_is_no_error(path: Path) -> None:
    store = sqlite(path)
    store.open()
    store.close()
    store.close()
    with pytest.raises(Unavailable, match=f"{path}: not open"):
        store.calls()
