from __future__ import annotations

import socket
import sqlite3
from contextlib import ExitStack
from pathlib import Path

import pytest

from ha.cli import main
from store.backends import open_store
from store.interface import Outcome, Put, opened
from store.journal import Journal
from store.redis import scripts
from tests.store.backends import BACKENDS, Backend
from tests.store.samples import call, registration

SHARED = [backend for backend in BACKENDS if backend.shared]


def named(name: str) -> Backend:
    return next(backend for backend in BACKENDS if backend.name == name)


def fill(dsn: str, *, calls: int = 300) -> int:
    """Records under an epoch; returns it."""
    with opened(open_store(dsn)) as store:
        lease = store.acquire_lease("alpha", 0)
        assert lease is not None
        store.commit([Put(registration(str(n), epoch=lease.epoch)) for n in range(calls)])
        store.commit([Put(call(str(n), epoch=lease.epoch)) for n in range(calls)])
        return lease.epoch


@pytest.mark.parametrize("backend", SHARED, ids=lambda backend: backend.name)
def test_check_says_how_a_store_stands(backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with backend.empty(tmp_path) as dsn:
        assert main(["store", "check", dsn]) == 0
        assert "none yet: a node that starts makes version" in capsys.readouterr().out
        fill(dsn, calls=3)
        assert main(["store", "check", dsn]) == 0
        said = capsys.readouterr().out
        assert "as this release works with" in said
        assert "3 registrations, 3 live calls" in said
        assert "alpha, epoch" in said
        assert "latency" in said
        assert "this host's" in said


@pytest.mark.parametrize(("compatible_from", "status", "said"), [(2, 0, "goes on with it"), (3, 1, "")])
def test_check_says_what_a_newer_release_has_made_of_it(
    compatible_from: int, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with named("sqlite").empty(tmp_path) as dsn:
        fill(dsn, calls=3)
        with sqlite3.connect(dsn.removeprefix("sqlite://")) as connection:
            connection.execute(f"INSERT INTO sofia_schema (version, compatible_from) VALUES (3, {compatible_from})")
        assert main(["store", "check", dsn]) == status
        captured = capsys.readouterr()
        assert said in captured.out
        assert ("3 live calls" in captured.out) is not bool(status)
        assert ("from version 3 on only" in captured.err) is bool(status)
        assert main(["store", "migrate", dsn]) == status


@pytest.mark.parametrize("backend", SHARED, ids=lambda backend: backend.name)
def test_migrate_does_what_its_dry_run_says(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with backend.empty(tmp_path) as dsn:
        for _ in range(2):
            assert main(["store", "migrate", "--dry-run", dsn]) == 0
            assert len(capsys.readouterr().out.splitlines()) >= 1
            assert open_store(dsn)().describe().version == 0
        assert main(["store", "migrate", dsn]) == 0
        assert "brought to version" in capsys.readouterr().out
        assert open_store(dsn)().describe().version > 0
        assert main(["store", "migrate", "--dry-run", dsn]) == 0
        assert "nothing to do" in capsys.readouterr().out


def test_what_a_newer_release_has_made_of_redis_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with named("redis").empty(tmp_path) as dsn:
        with monkeypatch.context() as newer:
            newer.setattr(scripts, "COMPATIBLE_FROM", scripts.SCHEMA + 1)
            newer.setattr(scripts, "SCHEMA", scripts.SCHEMA + 1)
            fill(dsn, calls=1)
        for words in ([], ["--dry-run"]):
            assert main(["store", "migrate", *words, dsn]) == 1
            assert "cannot work with it" in capsys.readouterr().err
        assert main(["store", "check", dsn]) == 1
        assert "cannot work with it" in capsys.readouterr().out


@pytest.mark.parametrize("way", ["sqlite redis", "redis sqlite"])
def test_a_copy_has_all_of_it_and_goes_on_where_the_other_ended(
    way: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        source, target = (stack.enter_context(named(name).empty(tmp_path)) for name in way.split())
        epoch = fill(source)
        for again in (False, True):
            assert main(["store", "copy", source, target]) == 0
            said = capsys.readouterr().out
            assert "300 registrations and 300 calls" in said
            assert ("600 there already" in said) is again
        with opened(open_store(source)) as old, opened(open_store(target)) as new:
            assert sorted(r.key for r in new.registrations()) == sorted(r.key for r in old.registrations())
            key = lambda record: record.uuid  # noqa: E731
            assert sorted(new.calls(), key=key) == sorted(old.calls(), key=key)
            assert new.secret("nonce") != b""
            fence = new.raise_fence("internal#0")
            assert fence > epoch
            assert new.commit([Put(call("0", epoch=epoch, version=9))]) == [Outcome.FENCED]
            assert len(new.claim(["internal#0"], node="b", slot="internal#0", epoch=fence)) == 300


def test_a_copy_takes_the_secrets_along(tmp_path: Path) -> None:
    with named("sqlite").empty(tmp_path) as source, named("redis").empty(tmp_path) as target:
        fill(source, calls=1)
        with opened(open_store(source)) as old:
            secrets = old.secret("nonce"), old.secret("peer")
        assert main(["store", "copy", source, target]) == 0
        with opened(open_store(target)) as new:
            assert (new.secret("nonce"), new.secret("peer")) == secrets


@pytest.mark.parametrize("busy", ["FROM", "TO"])
def test_no_copy_under_an_active_node_unless_that_is_meant(
    busy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with named("sqlite").empty(tmp_path) as source, named("redis").empty(tmp_path) as target:
        fill(source, calls=2)
        with opened(open_store(source if busy == "FROM" else target)) as store:
            assert store.acquire_lease("beta", 60) is not None
        assert main(["store", "copy", source, target]) == 1
        assert f"node beta is active on {busy}" in capsys.readouterr().err
        with opened(open_store(target)) as new:
            assert new.calls() == []
        assert main(["store", "copy", "--live", source, target]) == (0 if busy == "FROM" else 1)


def test_what_is_wrong_is_said_in_a_line_without_the_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = tmp_path / "dsn"
    hidden.write_text("redis://:hunter2@127.0.0.1:1/0\n")
    for words, said in (
        (["check", f"@{hidden}"], "127.0.0.1:1"),
        (["check", f"@{tmp_path}/nothing"], "cannot be read"),
        (["check"], "which one?"),
        (["check", "mongo://u:hunter2@h"], "of no known kind"),
        (["copy", "redis://:hunter2@h/0/1", "redis://h"], "whole number"),
        (["check", "--conf", str(tmp_path)], "configuration"),
    ):
        assert main(["store", *words]) == 1
        error = capsys.readouterr().err
        assert said in error
        assert "hunter2" not in error
        assert len(error.splitlines()) == 1


def test_an_empty_store_is_not_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with named("sqlite").empty(tmp_path) as source, named("redis").empty(tmp_path) as target:
        assert main(["store", "copy", source, target]) == 1
        assert "holds nothing" in capsys.readouterr().err


def test_replay_gives_the_store_what_only_this_host_knew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other node has the role; a worker of ours that is alive replays by itself."""
    with named("postgresql").empty(tmp_path) as dsn:
        epoch = fill(dsn, calls=1)
        for token, uuid in (("internal.0", "mine"), ("external.0", "theirs")):
            journal = Journal(tmp_path / "journal" / token)
            journal.open()
            journal.append(
                [Put(call(uuid, node="alpha", epoch=epoch)), Put(call("0", node="alpha", epoch=epoch, version=2))]
            )
            journal.close()
        with opened(open_store(dsn)) as store, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as worker:
            assert store.acquire_lease("beta", 60) is not None
            (tmp_path / "bus").mkdir()
            worker.bind(str(tmp_path / "bus" / "external.0"))
            assert main(["store", "replay", dsn, "--run-dir", str(tmp_path)]) == 0
            said = capsys.readouterr().out
            assert "external.0: left to its worker" in said
            assert "1 writes stored, 0 it had already, 1 refused" in said
            assert "1 live calls among them that only this host knew of" in said
            assert sorted((c.uuid, c.version) for c in store.calls()) == [("0", 1), ("mine", 1)]
            assert main(["store", "replay", dsn, "--run-dir", str(tmp_path)]) == 0
            assert "0 writes stored, 0 it had already, 0 refused" in capsys.readouterr().out
    assert main(["store", "replay", dsn]) == 1
    assert "Give --run-dir" in capsys.readouterr().err
