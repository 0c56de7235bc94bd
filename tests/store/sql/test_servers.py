"""What database servers do to who writes to them, and what two who share one do to each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from store.backends import open_store
from store.errors import Busy, ReadOnly, Refused, SchemaTooNew, StoreError, Unavailable, UnknownStore
from store.interface import Outcome, Put, Remove, Store, opened
from store.journal import MemoryJournal
from store.settings import OdbcSettings
from store.sql.dsn import target
from store.sql.odbc import OdbcSession, dialect_named
from store.sql.schema import MARIADB_STEPS
from store.sql.store import SqlStore
from store.writer import Writer
from tests.store.faults import SOON, Loop, fails_soon
from tests.store.samples import call, registration
from tests.support.database import Database
from tests.support.mariadb import mariadb
from tests.support.node import STRETCH
from tests.support.postgres import Postgres, options, postgres
from tests.support.tcpproxy import TcpProxy

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED

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


def reopened(store: Store) -> Store:
    """As the writer does it after each failure."""
    store.close()
    store.open()
    return store


# ---- a server that is frozen, killed, cut off ------------------------------------------------------------------------


def test_nobody_waits_for_a_frozen_server_and_its_thread_comes_back(server: Database, dsn: str) -> None:
    loop = Loop()
    others = _writing()
    writer = Writer(
        open_store(dsn), call_soon=loop.call_soon, call_later=loop.call_later, journal=MemoryJournal(10_000)
    )
    told: list[Outcome] = []
    with ExitStack() as stack:
        stack.callback(writer.close, 5.0)
        writer.start()
        writer.put(call("before"))
        loop.run(lambda: writer.stats.items, SOON)
        with server.frozen():
            writer.put(call("meanwhile"), told.append)
            waited = loop.run(lambda: told, SOON)
            # The breaker keeps all but one from the store for now.
            loop.run(lambda: writer.stats.open and len(_writing() - others) <= 1, SOON)
        assert told == [Outcome.AT_RISK]
        assert waited < writer.settings.hang * STRETCH
        # By the journal, or by the try that was under way when it thawed; and on a slow machine the last one so too.
        loop.run(lambda: not writer.stats.open and not writer.behind, SOON)
        writer.put(call("after"), told.append)
        loop.run(lambda: len(told) == 2 and not writer.stats.queued and not writer.behind, SOON)
    with opened(open_store(dsn)) as store:
        assert {c.uuid for c in store.calls()} == {"before", "meanwhile", "after"}


def _writing() -> set[threading.Thread]:
    """The threads of all writers of this process, those of other tests that were given up too."""
    return {thread for thread in threading.enumerate() if thread.name == "store-writer"}


def test_a_call_to_a_frozen_server_ends_when_it_is_given_up(server: Database, dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        came_back: list[StoreError] = []

        def write() -> None:
            try:
                store.commit([Put(call())])
            except StoreError as error:
                came_back.append(error)

        with server.frozen():
            thread = threading.Thread(target=write)
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
            store.abandon()
            thread.join(SOON)
            assert not thread.is_alive()
        assert isinstance(came_back[0], Unavailable)
        assert reopened(store).calls() == []


def test_a_frozen_server_takes_no_new_connection_and_does_not_keep_who_asks(server: Database, dsn: str) -> None:
    with server.frozen():
        fails_soon(open_store(dsn)().open)


def test_a_killed_server_is_noticed_and_its_successor_has_what_was_committed(server: Database, dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call())])
        server.kill()
        try:
            fails_soon(lambda: store.commit([Put(call("2"))]))
            fails_soon(lambda: reopened(store))
        finally:
            server.start()
        assert reopened(store).calls() == [call()]


@pytest.fixture
def distant(server: Database, database: str, proxy: TcpProxy) -> Iterator[Store]:
    """A store behind the proxy, which has written a record."""
    with opened(open_store(server.dsn(database, port=proxy.port))) as store:
        store.commit([Put(call())])
        yield store


def test_a_cut_connection_is_an_error_at_once(distant: Store, proxy: TcpProxy) -> None:
    proxy.cut()
    fails_soon(lambda: distant.commit([Put(call("2"))]))
    fails_soon(lambda: reopened(distant))
    proxy.restore()
    assert reopened(distant).commit([Put(call("2"))]) == [STORED]


@pytest.mark.parametrize("seed", range(3))
def test_garbage_is_no_answer(distant: Store, proxy: TcpProxy, seed: int) -> None:
    proxy.garbage(seed)
    ended = threading.Timer(2.0, distant.abandon)
    ended.start()
    try:
        # Of some garbage the driver waits for the rest; then it is ended like any that hangs.
        fails_soon(lambda: distant.commit([Put(call("2"))]), StoreError)
    finally:
        ended.cancel()
    fails_soon(lambda: reopened(distant), StoreError)
    proxy.restore()
    assert reopened(distant).commit([Put(call("3"))]) == [STORED]
    assert {c.uuid for c in distant.calls()} == {"call-1", "3"}


def test_a_commit_whose_answer_was_lost_may_be_sent_again(distant: Store, proxy: TcpProxy) -> None:
    proxy.lose_answers()
    fails_soon(lambda: distant.commit([Put(call("2")), Put(registration())]))
    proxy.restore()
    again = reopened(distant).commit([Put(call("2")), Put(registration())])
    assert again in ([STORED, STORED], [STALE, STALE])
    assert len(distant.calls()) == 2


def test_a_slow_network_costs_time_and_nothing_else(distant: Store, proxy: TcpProxy) -> None:
    proxy.delay(0.02)
    assert distant.commit([Put(call("2")), Put(registration()), Remove(call("3"))]) == [STORED] * 3
    epoch = distant.raise_fence("internal#0")
    assert len(distant.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch)) == 2


# ---- who is let in, and what may be written ------------------------------------------------------------------------


def test_a_wrong_password_is_told_without_it(server: Database, database: str) -> None:
    if isinstance(server, Postgres):
        server.add_user("bob", "right")
        server.query(f"GRANT ALL ON SCHEMA {database} TO bob")
        wrong, right = (server.url(database, f"bob:{password}") for password in ("hunter2", "right"))
    else:
        server.query("CREATE OR REPLACE USER bob@'127.0.0.1' IDENTIFIED BY 'right'")
        server.query(f"GRANT ALL ON {database}.* TO bob@'127.0.0.1'")
        place = f"@127.0.0.1:{server.port}/{database}"
        wrong, right = (f"mariadb://bob:{password}{place}" for password in ("hunter2", "right"))
    error = fails_soon(open_store(wrong)().open)
    assert "hunter2" not in str(error)
    assert f"on 127.0.0.1:{server.port}: " in str(error)
    with opened(open_store(right)) as store:
        assert store.commit([Put(call())]) == [STORED]


@pytest.mark.parametrize("password", ["a;b}c{d", "x' OR \\1 %41 = ?&@/:", "}}"])
def test_a_password_may_have_any_character(password: str) -> None:
    server = postgres()
    server.add_user("carol", password)
    quoted = password.replace("\\", "\\\\").replace("'", "\\'")
    with server.fresh() as database:
        server.query(f"GRANT ALL ON SCHEMA {database} TO carol")
        words = f"hostaddr=127.0.0.1 port={server.port} dbname=postgres user=carol password='{quoted}'"
        with opened(open_store(f"pgsql://{words} {options(database)}")) as store:
            assert store.commit([Put(call())]) == [STORED]


def test_a_database_that_is_not_there_is_named() -> None:
    absent = f"postgresql://postgres@127.0.0.1:{postgres().port}/nowhere"
    for dsn in (absent, mariadb().dsn("nowhere")):
        assert "nowhere" in str(fails_soon(open_store(dsn)().open))


def test_a_database_that_takes_no_writes_says_so(server: Database, database: str, dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call())])
        if isinstance(server, Postgres):
            refused = server.url(database, default_transaction_read_only="on")
        else:
            server.query("CREATE OR REPLACE USER dave@'127.0.0.1' IDENTIFIED BY 'x'")
            server.query(f"GRANT ALL ON {database}.* TO dave@'127.0.0.1'")
            server.query("SET GLOBAL read_only = 1")
            refused = f"mariadb://dave:x@127.0.0.1:{server.port}/{database}"
        try:
            with opened(open_store(refused)) as reader:
                fails_soon(lambda: reader.commit([Put(call("2"))]), ReadOnly)
                assert reader.calls() == [call()]
        finally:
            if not isinstance(server, Postgres):
                server.query("SET GLOBAL read_only = 0")


def test_mysql_is_refused_with_the_reason() -> None:
    with pytest.raises(
        UnknownStore, match=r"the place: MySQL is no database that we can use: .* SQLite. It has neither"
    ):
        dialect_named("MySQL", "the place")
    with pytest.raises(UnknownStore, match=r"the place: Oracle is no database that we can use: there are .* SQLite$"):
        dialect_named("Oracle", "the place")


def test_a_value_no_column_takes_is_refused_and_its_batch_undone(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        with pytest.raises(Refused):
            store.commit([Put(registration()), Put(registration("1001", expires=1 << 63))])
        assert store.registrations() == []


def test_a_character_zero_comes_back_as_it_was(dsn: str) -> None:
    odd = registration("1001", user_agent="a\0b", contact="<sip:\0@192.0.2.7>")
    there = call("x\0y", profile_name="\0")
    with opened(open_store(dsn)) as store:
        assert store.commit([Put(odd), Put(there), Put(registration())]) == [STORED] * 3
        assert sorted(r.sip_user for r in store.registrations()) == ["1000", "1001"]
        assert odd in store.registrations()
        assert store.calls() == [there]
        assert store.commit([Remove(call("x\0y", version=2)), Remove(registration("1001", version=1))]) == [
            STORED,
            STORED,
        ]


def test_much_text_that_is_not_ascii_is_taken_every_time(dsn: str) -> None:
    """A driver that gets it as UTF-16 fails by chance: once in four batches of this size."""
    with opened(open_store(dsn)) as store:
        for version in range(1, 25):
            names = [
                "".join(chr(0x4E00 + (n * 7919 + k * k * 31 + version) % 20000) for k in range(300)) for n in range(64)
            ]
            phones = [registration(str(n), version=version, user_agent=name) for n, name in enumerate(names)]
            assert store.commit([Put(phone) for phone in phones]) == [STORED] * 64
        assert sorted(r.user_agent for r in store.registrations()) == sorted(names)


def test_a_contact_may_be_as_long_as_it_likes(dsn: str) -> None:
    # Random enough not to be compressed below what an index takes.
    long = registration(contact=f"<sip:1000@192.0.2.7;x={'-'.join(str(n * n % 7919) for n in range(2000))}>")
    call_id = "y".join(str(n * n % 7919) for n in range(2000))
    there = call(legs=call().legs)
    assert there.legs[0].dialog is not None
    there.legs[0].dialog.call_id = call_id
    with opened(open_store(dsn)) as store:
        assert store.commit([Put(long), Put(there)]) == [STORED, STORED]
        assert store.registrations() == [long]
        assert store.call_by_call_id(call_id) == there


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


def test_batches_in_opposite_order_do_not_lock_each_other_out(dsn: str) -> None:
    """Each takes its rows in one order, whatever order they were written in."""
    users = [str(n) for n in range(40)]
    failures: list[str] = []

    def write(mine: list[str], first: int) -> None:
        with opened(open_store(dsn)) as store:
            for version in range(first, first + 100, 2):
                try:
                    store.commit([Put(registration(user, version=version)) for user in mine])
                except Busy as error:
                    # On a slow machine one may have to wait for too long; but never for each other.
                    if "in the way" in str(error):
                        failures.append(str(error))

    threads = [
        threading.Thread(target=write, args=(users, 1)),
        threading.Thread(target=write, args=(users[::-1], 2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


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


# ---- tables ------------------------------------------------------------------------------------------------------------


def test_a_newer_schema_is_refused(server: Database, database: str, dsn: str) -> None:
    with opened(open_store(dsn)):
        pass
    newer = len(MARIADB_STEPS) + 1
    server.query(f"INSERT INTO sofia_schema (version) VALUES ({newer})", database)
    with pytest.raises(SchemaTooNew, match=r" on 127.0.0.1:\d+: its tables have version \d+, this release knows"):
        open_store(dsn)().open()


def test_the_tables_of_another_program_are_left_alone(server: Database, database: str, dsn: str) -> None:
    server.query("CREATE TABLE sip_registrations (call_id VARCHAR(255))", database)
    with pytest.raises(StoreError, match=r"sip_registrations.* already exists"):
        open_store(dsn)().open()
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_name = 'sofia_lease' AND table_schema = '{}'"
    assert server.query(tables.format(database)) == "0"


def test_operators_queries_find_what_they_always_found(server: Database, database: str, dsn: str) -> None:
    phones = [("1000", "Yealink", "192.0.2.7"), ("1001", "Yealink", "192.0.2.7"), ("1002", "Snom", "192.0.2.8")]
    with opened(open_store(dsn)) as store:
        store.commit([Put(registration(user, user_agent=agent, network_ip=ip)) for user, agent, ip in phones])
        store.commit([Put(call())])

    def asked(statement: str) -> list[str]:
        return server.query(statement, database).splitlines()

    assert len(asked("select * from sip_registrations where sip_user = '1000' and sip_host = 'example.org'")) == 1
    assert len(asked("select * from sip_registrations where sip_user like '100%' and expires > 0")) == 3
    by_agent = "select user_agent, count(*) from sip_registrations group by user_agent order by user_agent"
    assert asked(by_agent) == ["Snom|1", "Yealink|2"]
    by_address = "select network_ip, network_port, count(*) from sip_registrations group by 1, 2 order by 1"
    assert asked(
        by_address.replace("group by 1, 2 order by 1", "group by network_ip, network_port order by network_ip")
    ) == [
        "192.0.2.7|5060|2",
        "192.0.2.8|5060|1",
    ]
    assert asked(
        "select contact, status, ping_status, rpid from sip_registrations where profile_name = 'internal' and sip_user = '1002'"
    ) == ['"" <sip:1002@192.0.2.7:5060;transport=udp>|Registered(UDP)|Reachable|unknown']
    assert asked("select technology, profile_name, hostname, uuid, state from recovery") == [
        "sofia|internal|a|call-1|answered"
    ]


# ---- releases before and after this one ------------------------------------------------------------------------------


def test_what_a_newer_release_put_into_a_record_outlives_a_claim(server: Database, database: str, dsn: str) -> None:
    """It claims a call that it reads in part only, and gives it back: nothing of it is gone."""
    with opened(open_store(dsn)) as store:
        newer = msgspec.msgpack.decode(Put(call()).data) | {"later": {"a": [1, 2]}}
        newer["legs"][0]["later"] = "kept"
        store.commit([Put.restored(call(), msgspec.msgpack.encode(newer))])
        read = call(beyond={"later": {"a": [1, 2]}})
        read.legs[0].beyond = {"later": "kept"}
        assert store.calls() == [read]
        epoch = store.raise_fence("internal#0")
        read.node, read.epoch, read.version = "b", epoch, 2
        assert store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch) == [read]
        assert isinstance(store, SqlStore)
        (row,) = store.session.query("SELECT record FROM recovery")
    assert msgspec.msgpack.decode(bytes(row[0])) == newer


def test_records_of_the_release_before_and_after_this_one_are_read(dsn: str) -> None:
    """What is missing has its default, what is unknown is passed over, and columns are as good as what the blob says."""
    with opened(open_store(dsn)) as store:
        older = {"uuid": "old", "slot": "internal#0", "version": 1, "state": "answered", "legs": []}
        store.commit([Put.restored(call("old", legs=[], steps=[], profile_name=""), msgspec.msgpack.encode(older))])
        store.commit([Put(registration())])
        assert isinstance(store, SqlStore)
        assert [(c.uuid, c.state, c.steps) for c in store.calls()] == [("old", "answered", [])]
        for blob in ({}, {"later": 1, "nonce": "n"}):
            store.session.begin()
            store.session.change("UPDATE sip_registrations SET record = ?", (msgspec.msgpack.encode(blob),))
            store.session.commit()
            (found,) = store.registrations()
            assert (found.contact, found.version, found.nonce) == (registration().contact, 1, blob.get("nonce", ""))


# ---- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("off", [-600, 600])
def test_expiry_goes_by_the_clock_of_the_server(dsn: str, off: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(open_store(dsn)) as store:
        there = store.clock()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + off)
        store.commit(
            [Put(registration("due", expires=int(there) - 2)), Put(registration("not", expires=int(there) + 300))]
        )
        assert [r.sip_user for r in store.registrations()] == ["not"]
        assert [r.sip_user for r in store.expire_registrations("internal")] == ["due"]
        assert abs(store.clock() - there) < 100
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        assert abs(lease.now - there) < 100


# ---- several hosts, any data source ------------------------------------------------------------------------------------


def test_of_several_hosts_the_one_that_may_write_is_taken() -> None:
    server = postgres()
    with (
        server.fresh() as database,
        TcpProxy(("127.0.0.1", server.port)) as first,
        TcpProxy(("127.0.0.1", server.port)) as second,
    ):
        first.cut()
        with opened(open_store(server.url(database, ports=[first.port, second.port]))) as store:
            assert store.commit([Put(call())]) == [STORED]
            second.cut()
            first.restore()
            fails_soon(lambda: store.commit([Put(call("2"))]))
            assert reopened(store).commit([Put(call("2"))]) == [STORED]


def test_a_data_source_of_any_server_is_recognised(server: Database, database: str) -> None:
    driver = "PostgreSQL Unicode" if isinstance(server, Postgres) else "MariaDB Unicode"
    user = "postgres" if isinstance(server, Postgres) else "root"
    words = f"Driver={{{driver}}};Server=127.0.0.1;Port={server.port};Uid={user};"
    if isinstance(server, Postgres):
        words += f"Database=postgres;Pqopt={{{options(database)}}};"
    else:
        words += f"Database={database};"
    session = OdbcSession(target(f"odbc://{words}"), OdbcSettings())
    store = SqlStore(session)
    with opened(lambda: store):
        assert session.dialect.name == ("PostgreSQL" if isinstance(server, Postgres) else "MariaDB")
        assert store.commit([Put(call())]) == [STORED]


@pytest.mark.parametrize("form", ["odbc://{}:{}:secret", "{}:{}:secret"])
def test_a_data_source_is_found_by_its_name(
    server: Database, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    words = [f"Server = 127.0.0.1\nServername = 127.0.0.1\nPort = {server.port}"]
    if isinstance(server, Postgres):
        user = "postgres"
        words += ["Driver = PostgreSQL Unicode", f"Database = postgres\nPqopt = {options(database)} connect_timeout=3"]
    else:
        user = "erin"
        server.query("CREATE OR REPLACE USER erin@'127.0.0.1' IDENTIFIED BY 'secret'")
        server.query(f"GRANT ALL ON {database}.* TO erin@'127.0.0.1'")
        words += ["Driver = MariaDB Unicode", f"Database = {database}"]
    sources = tmp_path / "odbc.ini"
    # unixODBC remembers what it has read of a name.
    name = f"telephony-{database}-{user}"
    sources.write_text(f"[{name}]\n" + "\n".join(words) + "\n")
    monkeypatch.setenv("ODBCINI", str(sources))
    with opened(open_store(form.format(name, user))) as store:
        assert store.commit([Put(call())]) == [STORED]
    with opened(open_store(server.dsn(database))) as store:
        assert store.calls() == [call()]


def test_a_data_source_that_nobody_knows_is_named() -> None:
    assert "ODBC nobody: the data source or its driver is not known" in str(fails_soon(open_store("nobody:a:b")().open))
