"""What a Redis can do to who writes to it: nothing of it may hang, be taken for an answer, or lose a record unsaid."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from store.backends import open_store
from store.errors import Full, ReadOnly, SchemaTooNew, StoreError, Unavailable
from store.interface import Outcome, Put, Remove, Store, opened
from store.redis import scripts
from tests.store import faults
from tests.store.redis.stores import server
from tests.store.samples import call, registration
from tests.support.node import STRETCH
from tests.support.redis import RedisServer, SecureRedisServer
from tests.support.tcpproxy import TcpProxy

STORED, STALE = Outcome.STORED, Outcome.STALE

QUICK = "?timeout=300&connect-timeout=300"
SOON = 3.0 * STRETCH
"Seconds within which a call that cannot succeed must be over; its own limits are a tenth of that."
fails_soon = partial(faults.fails_soon, within=SOON)


@pytest.fixture
def dsn() -> str:
    with server().client() as client:
        client.flushall()
    return server().dsn


@pytest.fixture
def proxy(dsn: str) -> Iterator[TcpProxy]:
    with TcpProxy(server().address) as proxy:
        yield proxy


@pytest.fixture
def store(proxy: TcpProxy) -> Iterator[Store]:
    """A store behind the proxy, which has written a record."""
    with opened(open_store(f"redis://127.0.0.1:{proxy.port}/0{QUICK}")) as store:
        store.commit([Put(call())])
        yield store


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be broken."""
    own = RedisServer(tmp_path / "redis")
    own.start()
    yield own
    own.stop()


# ---- the network ---------------------------------------------------------------------------------------------------


def test_a_frozen_server_is_given_up_and_is_well_again_later(store: Store, proxy: TcpProxy) -> None:
    proxy.freeze()
    fails_soon(lambda: store.commit([Put(call("2"))]))
    fails_soon(lambda: store.registrations())
    proxy.restore()
    assert store.commit([Put(call("3"))]) == [STORED]


def test_a_stopped_process_is_given_up(own: RedisServer) -> None:
    with opened(open_store(own.dsn + QUICK)) as store:
        own.freeze()
        fails_soon(lambda: store.commit([Put(call())]))
        fails_soon(store.clock)
        own.thaw()
        assert store.commit([Put(call())]) in ([STORED], [STALE])


def test_a_cut_connection_is_made_anew(store: Store, proxy: TcpProxy) -> None:
    proxy.cut()
    fails_soon(lambda: store.commit([Put(call("2"))]))
    fails_soon(store.clock)
    proxy.restore()
    assert store.commit([Put(call("2"))]) == [STORED]


@pytest.mark.parametrize("seed", range(4))
def test_garbage_is_no_answer(store: Store, proxy: TcpProxy, seed: int) -> None:
    proxy.garbage(seed)
    for question in (
        lambda: store.commit([Put(call("2"))]),
        store.registrations,
        store.clock,
        lambda: store.acquire_lease("a", 1),
    ):
        fails_soon(question, StoreError)
    proxy.restore()
    assert store.commit([Put(call("3"))]) == [STORED]
    assert {c.uuid for c in store.calls()} == {"call-1", "3"}


def test_a_commit_whose_answer_was_lost_may_be_sent_again(store: Store, proxy: TcpProxy) -> None:
    proxy.lose_answers()
    fails_soon(lambda: store.commit([Put(call("2")), Put(registration())]))
    proxy.restore()
    assert store.commit([Put(call("2")), Put(registration())]) == [STALE, STALE]
    assert len(store.calls()) == 2


def test_who_is_given_up_in_the_middle_comes_back_and_sends_nothing_more(store: Store, proxy: TcpProxy) -> None:
    proxy.freeze()
    came_back: list[StoreError] = []

    def write() -> None:
        try:
            patient.commit([Put(call("2"))])
        except StoreError as error:
            came_back.append(error)

    proxy.restore()
    with opened(open_store(f"redis://127.0.0.1:{proxy.port}/0?timeout=60000")) as patient:
        proxy.freeze()
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        patient.abandon()
        thread.join(SOON)
        assert not thread.is_alive()
        assert came_back
        proxy.restore()
        with pytest.raises(Unavailable):
            patient.commit([Put(call("3"))])
    assert "3" not in {c.uuid for c in store.calls()}


def test_nobody_there_is_said_with_its_place(dsn: str) -> None:
    with TcpProxy(server().address) as proxy:
        proxy.cut()
        error = fails_soon(lambda: open_store(f"redis://:hunter2@127.0.0.1:{proxy.port}/0")().open())
        assert f"redis://127.0.0.1:{proxy.port}/0" in str(error)
        assert "hunter2" not in str(error)


# ---- what the server refuses ---------------------------------------------------------------------------------------


def test_full_memory_is_named_and_nothing_is_half_done(own: RedisServer) -> None:
    with opened(open_store(own.dsn)) as store:
        store.commit([Put(call())])
        own.configure(maxmemory="1mb", maxmemory_policy="noeviction")
        assert "memory is full" in str(fails_soon(lambda: store.commit([Put(call("2")), Put(registration())]), Full))
        assert [c.uuid for c in store.calls()] == ["call-1"]
        assert store.registrations() == []
        own.configure(maxmemory="0")
        assert store.commit([Put(call("2")), Put(registration())]) == [STORED, STORED]


def test_a_replica_takes_no_writes_and_says_so(own: RedisServer, dsn: str) -> None:
    with opened(open_store(own.dsn)) as store:
        with own.client() as client:
            client.replicaof("127.0.0.1", server().port)
        fails_soon(lambda: store.commit([Put(call())]), ReadOnly)
        assert "is a replica" in str(fails_soon(lambda: store.commit([Put(call())]), ReadOnly))
        with own.client() as client:
            client.replicaof("no", "one")
        assert store.commit([Put(call())]) == [STORED]


def test_a_wrong_password_is_said_and_not_shown(tmp_path: Path) -> None:
    secure = SecureRedisServer(tmp_path / "redis")
    secure.start()
    try:
        ca = secure.authority.certificate
        dsn = f"rediss://:hunter2@127.0.0.1:{secure.port}/0?ca={ca}"
        error = fails_soon(lambda: open_store(dsn)().open())
        assert "does not take our user and password" in str(error)
        assert "hunter2" not in str(error)
        # Without its authority nobody knows who that is; without TLS nobody is there.
        fails_soon(lambda: open_store(secure.dsn.partition("?")[0])().open())
        fails_soon(lambda: open_store(secure.dsn.replace("rediss", "redis").partition("?")[0])().open())
    finally:
        secure.stop()


def test_a_newer_release_is_left_alone(dsn: str) -> None:
    with opened(open_store(dsn)):
        pass
    with server().client() as client:
        client.set("sofia:schema", scripts.SCHEMA + 1)
        client.delete("sofia:compatible-from")
    with pytest.raises(SchemaTooNew, match=f"version {scripts.SCHEMA + 1}"):
        open_store(dsn)().open()
    assert not open_store(dsn)().describe().usable


def test_the_older_of_two_releases_goes_on_where_the_newer_says_that_it_may(
    dsn: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    older, now = open_store(dsn), scripts.SCHEMA
    with opened(older) as active:
        with monkeypatch.context() as newer:
            newer.setattr(scripts, "SCHEMA", now + 1)
            newer.setattr(scripts, "COMPATIBLE_FROM", now)
            with opened(open_store(dsn)) as standby:
                assert standby.describe().version == now + 1
        for _ in range(2):
            active.close()
            active.open()
        assert active.commit([Put(call())]) == [Outcome.STORED]
        assert active.describe().usable
    (said,) = [r.getMessage() for r in caplog.records if "goes on" in r.getMessage()]
    assert f"version {now + 1}, this release knows {now} and goes on, for it takes releases from version {now}" in said
    with monkeypatch.context() as newer:
        newer.setattr(scripts, "SCHEMA", now + 2)
        newer.setattr(scripts, "COMPATIBLE_FROM", now + 1)
        with opened(open_store(dsn)):
            pass
    with pytest.raises(SchemaTooNew, match=f"version {now + 2}, this release knows {now}"):
        older().open()


def test_scripts_that_the_server_forgot_are_sent_again(store: Store) -> None:
    with server().client() as client:
        client.script_flush()
    assert store.commit([Put(call("2"))]) == [STORED]
    assert len(store.calls()) == 2


# ---- what lies there -----------------------------------------------------------------------------------------------


def test_nothing_is_left_of_what_is_gone(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        before = _keys()
        now = int(store.clock())
        store.commit([Put(registration(str(n), expires=now - 1 if n % 2 else 0)) for n in range(20)])
        store.commit([Put(call(str(n))) for n in range(20)])
        store.commit([Put(call(str(n), state="ended", expires=now - 1, version=2)) for n in range(10)])
        epoch = store.raise_fence("internal#1")
        assert len(store.claim(["internal#0"], node="b", slot="internal#1", epoch=epoch)) == 10
        store.sweep_calls()
        store.expire_registrations("internal")
        store.commit([Remove(registration(str(n), epoch=epoch, version=2)) for n in range(20)])
        store.commit([Remove(call(str(n), slot="internal#1", epoch=epoch, version=9)) for n in range(20)])
        store.call_slots()
        store.expire_registrations("internal")
        assert _keys() - before == {b"sofia:fences", b"sofia:feed"}


def test_redis_itself_drops_what_nobody_sweeps(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        now = int(store.clock())
        store.commit([Put(registration(expires=now + 60)), Put(registration("1001", expires=0))])
        store.commit([Put(call()), Put(call("over", state="ended", expires=now + 60))])
    with server().client() as client:
        left = {name: client.ttl(name) for name in _keys() if name[:8] in (b"sofia:r:", b"sofia:c:")}
    assert sorted(left.values())[:2] == [-1, -1]
    assert 60 < sorted(left.values())[2] <= 60 + scripts.GRACE + 1
    assert 60 < sorted(left.values())[3] <= 60 + scripts.TOMB_GRACE + 1


def test_a_call_that_lives_again_is_not_dropped_as_a_tombstone(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call(state="ended", expires=store.clock() + 1)), Put(call(version=2))])
        assert [c.version for c in store.calls()] == [2]
        with server().client() as client:
            assert client.ttl("sofia:c:call-1") == -1
            assert client.zcard("sofia:tombs") == 0


def test_a_leg_that_is_gone_is_not_found_any_more(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        store.commit([Put(call()), Put(call(version=2, legs=call().legs[:1]))])
        assert store.call_by_call_id("call-1-a@sip") is not None
        assert store.call_by_call_id("call-1-b@sip") is None


def test_two_nodes_of_different_prefixes_share_a_server(dsn: str) -> None:
    with opened(open_store(dsn)) as one, opened(open_store(f"{dsn}?prefix=other:")) as other:
        one.commit([Put(call())])
        assert other.calls() == []
        assert other.raise_fence("internal#0") > 0


def _keys() -> set[bytes]:
    with server().client() as client:
        return set(client.keys("*"))


# ---- a server that starts again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("again", [False, True], ids=["same store", "store opened again"])
def test_what_a_server_lost_when_it_died_is_given_to_it_again(tmp_path: Path, again: bool) -> None:
    """It keeps nothing on disk at all: the worst that can befall the last second."""
    careless = RedisServer(tmp_path / "redis", appendonly="no")
    careless.start()
    try:
        factory = open_store(careless.dsn + QUICK)
        with opened(factory) as store:
            store.commit([Put(registration()), Put(call()), Put(call("2"))])
            store.commit([Put(call(version=2, state="ringing")), Remove(call("2", version=2))])
            careless.kill()
            fails_soon(lambda: store.commit([Put(call("3"))]))
            careless.start()
            if again:
                store.close()
                store.open()
            assert store.commit([Put(call("3"))]) == [STORED]
        with opened(factory) as store:
            assert {(c.uuid, c.version) for c in store.calls()} == {("call-1", 2), ("3", 1)}
            assert len(store.registrations()) == 1
    finally:
        careless.stop()


def test_epochs_grow_even_when_the_counter_is_lost(dsn: str) -> None:
    with opened(open_store(dsn)) as store:
        before = store.raise_fence("internal#0")
        time.sleep(1.1)  # the floor of an epoch is the server's clock in seconds
        with server().client() as client:
            client.delete("sofia:fences")
        assert store.raise_fence("internal#0") > before


def test_a_server_that_flushes_at_each_commit_has_all_of_it_after_a_kill(own: RedisServer) -> None:
    with opened(open_store(own.dsn)) as store:
        store.commit([Put(registration(str(n))) for n in range(50)])
    own.kill()
    own.start()
    with opened(open_store(own.dsn)) as store:
        assert len(store.registrations()) == 50


def test_what_is_committed_is_said_even_if_the_server_goes_right_after_it(own: RedisServer) -> None:
    """Each second a commit also asks how far the replicas are; what comes of that is another matter."""
    with own.client() as client:
        client.acl_setuser("limited", enabled=True, nopass=True, keys="*", commands=["+@all"])
    with opened(open_store(own.dsn.replace("redis://", "redis://limited:any@"))) as store:
        with own.client() as client:
            client.acl_setuser("limited", enabled=True, commands=["-info"])
        until = time.monotonic() + 2.5
        version = 0
        while time.monotonic() < until:
            version += 1
            assert store.commit([Put(call(version=version))]) == [STORED]
        assert [c.version for c in store.calls()] == [version]
