"""What database servers do to who writes to them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from store.backends import open_store
from store.errors import StoreError, Unavailable
from store.interface import Outcome, Put, Remove, Store, opened
from store.journal import MemoryJournal
from store.writer import Writer
from tests.store.faults import SOON, Loop, fails_soon
from tests.store.samples import call, registration
from tests.store.sql.servers import reopened
from tests.support.database import Database
from tests.support.node import STRETCH
from tests.support.tcpproxy import TcpProxy

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED

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
