"""Expiry goes by the store's clock: a node whose own is wrong changes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import store.committer
import store.writer
from store.backends import open_store
from store.interface import Factory, opened
from store.writer import Writer
from tests.store.backends import BACKENDS, Backend
from tests.store.faults import LIMIT, Loop
from tests.store.samples import registration

NEAR = 30.0


@pytest.fixture(params=[backend for backend in BACKENDS if backend.shared], ids=lambda backend: backend.name)
def factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Factory]:
    backend: Backend = request.param
    with backend.empty(tmp_path) as dsn:
        yield open_store(dsn)


@pytest.mark.parametrize("off", [-600, 600])
def test_a_node_whose_clock_is_ten_minutes_off_writes_the_same_expiries(
    factory: Factory, off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = SimpleNamespace(time=lambda: time.time() + off, monotonic=time.monotonic)
    monkeypatch.setattr(store.writer, "time", wrong)
    monkeypatch.setattr(store.committer, "time", wrong)
    loop = Loop()
    writer = Writer(factory, call_soon=loop.call_soon, call_later=loop.call_later)
    writer.start()
    told: list[object] = []
    try:
        writer.ask(lambda store: store.clock(), told.append)
        loop.run(lambda: told)
        clock = told[0]
        assert isinstance(clock, float)
        assert abs(writer.store_time() - clock) < NEAR
        assert writer.clock_offset == pytest.approx(-off, abs=NEAR)
        for user, expires in (("past", -NEAR), ("coming", NEAR)):
            writer.put(registration(user, expires=int(writer.store_time() + expires)), told.append)
        loop.run(lambda: len(told) == 3)
        with opened(factory) as other:
            assert [r.sip_user for r in other.registrations()] == ["coming"]
            assert [r.sip_user for r in other.expire_registrations("internal")] == ["past"]
    finally:
        writer.close(LIMIT)
