"""The tables on a database server: who may change them, who may ask them, and what other releases find there."""

from __future__ import annotations

import msgspec
import pytest

from store.backends import open_store
from store.errors import StoreError
from store.interface import Outcome, Put, opened
from store.sql.store import SqlStore
from tests.store.samples import call, registration
from tests.support.database import Database

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED


# ---- tables ------------------------------------------------------------------------------------------------------------


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
