from __future__ import annotations

from pathlib import Path

import pytest

from store.backends import open_store
from store.errors import UnknownStore
from store.interface import Put, opened
from store.memory import MemoryStore
from tests.store.samples import registration


@pytest.mark.parametrize("form", ["{db}/core.db", "sqlite://{db}/core.db", "core", "sqlite://core"])
def test_every_form_of_a_sqlite_name_means_the_same_file(tmp_path: Path, form: str) -> None:
    with opened(open_store(form.format(db=tmp_path), db_dir=tmp_path)) as store:
        store.commit([Put(registration())])
    assert (tmp_path / "core.db").exists()
    with opened(open_store(str(tmp_path / "core.db"))) as store:
        assert len(store.registrations()) == 1


@pytest.mark.parametrize("dsn", ["memory://pair", "sqlite://memory://pair"])
def test_memory_stores_go_by_name(dsn: str) -> None:
    assert isinstance(open_store(dsn)(), MemoryStore)


def test_a_store_of_no_known_kind_is_refused_without_the_password() -> None:
    with pytest.raises(UnknownStore) as refusal:
        open_store("mongo://sofia:secret@db")
    assert "`mongo://...` is of no known kind" in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("dsn", ["", "sqlite://", "core"])
def test_a_name_that_leads_to_no_file_is_refused(dsn: str) -> None:
    with pytest.raises(UnknownStore):
        open_store(dsn)
