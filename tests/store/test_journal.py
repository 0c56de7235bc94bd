from __future__ import annotations

import logging
import os
import resource
from pathlib import Path

import pytest

from store.interface import Put, Remove, Write
from store.journal import Journal, JournalFailed, MemoryJournal
from store.settings import JournalSettings
from tests.store.samples import call, registration


@pytest.fixture
def stem(tmp_path: Path) -> Path:
    return tmp_path / "journal" / "internal.0"


def journal(stem: Path, **settings: int) -> Journal:
    made = Journal(stem, JournalSettings(**settings))
    made.open()
    return made


def segments(stem: Path) -> list[Path]:
    return sorted(stem.parent.iterdir())


def seen(writes: list[Write]) -> list[tuple[type, object]]:
    return [(type(write), write.record) for write in writes]


def everything(from_journal: Journal) -> list[tuple[type, object]]:
    found = []
    while (lot := from_journal.oldest()) is not None:
        found += seen(lot.writes)
        from_journal.forget(lot)
    return found


def test_what_is_appended_comes_back_in_order(stem: Path) -> None:
    writes = [Put(registration()), Put(call()), Remove(registration(version=2)), Remove(call(version=2))]
    mine = journal(stem)
    mine.append(writes[:3])
    mine.append(writes[3:])
    assert everything(mine) == seen(writes)
    assert not mine.pending


def test_a_successor_finds_what_a_crash_left(stem: Path) -> None:
    journal(stem).append([Put(call())])
    successor = journal(stem)
    successor.append([Put(call(version=2))])
    assert everything(successor) == seen([Put(call()), Put(call(version=2))])
    assert segments(stem) == []


def test_journals_of_other_slots_are_left_alone(stem: Path) -> None:
    other = stem.with_name("internal.01")
    journal(other).append([Put(call())])
    journal(stem.with_name("internal")).append([Put(call())])
    assert not journal(stem).pending


def test_a_torn_tail_is_passed_over(stem: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal(stem).append([Put(call()), Put(call("torn"))])
    (path,) = segments(stem)
    path.write_bytes(path.read_bytes()[:-5])
    with caplog.at_level(logging.WARNING):
        assert everything(journal(stem)) == seen([Put(call())])
    assert "ends torn" in caplog.text


@pytest.mark.parametrize("cut", range(40))
def test_a_tail_torn_anywhere_costs_only_the_last_write(stem: Path, cut: int) -> None:
    mine = journal(stem)
    mine.append([Put(registration())])
    whole = mine.size
    mine.append([Put(registration(version=2))])
    (path,) = segments(stem)
    path.write_bytes(path.read_bytes()[: whole + cut])
    assert everything(journal(stem)) == seen([Put(registration())])


def test_a_flipped_bit_ends_the_segment_there(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(registration())])
    whole = mine.size
    mine.append([Put(registration(version=2))])
    (path,) = segments(stem)
    data = bytearray(path.read_bytes())
    data[whole + 30] ^= 1
    path.write_bytes(data)
    assert everything(journal(stem)) == seen([Put(registration())])


def test_the_oldest_comes_again_until_it_is_forgotten(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(call())])
    first, again = mine.oldest(), mine.oldest()
    assert first is not None
    assert again is not None
    assert first.number == again.number


def test_what_comes_during_a_replay_comes_after_it(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(call())])
    lot = mine.oldest()
    assert lot is not None
    mine.append([Put(call(version=2))])
    mine.forget(lot)
    assert everything(mine) == seen([Put(call(version=2))])


def test_what_cannot_be_read_for_want_of_a_descriptor_is_not_given_up(stem: Path) -> None:
    mine = journal(stem)
    mine.append([Put(call())])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(JournalFailed, match="cannot be read now"):
            mine.oldest()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert everything(mine) == seen([Put(call())])


def test_what_is_replayed_leaves_no_descriptor_behind_that_waits_for_a_flush(stem: Path) -> None:
    mine = journal(stem)
    before = len(os.listdir("/proc/self/fd"))
    for version in range(1, 50):
        mine.append([Put(call(version=version))])
        lot = mine.oldest()
        assert lot is not None
        mine.forget(lot)
    assert len(os.listdir("/proc/self/fd")) == before
    mine.append([Put(call(version=50))])
    mine.flush()
    mine.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_segment_that_is_long_enough_is_followed_by_the_next(stem: Path) -> None:
    mine = journal(stem, segment=1000)
    for n in range(20):
        mine.append([Put(registration(str(n)))])
    assert len(segments(stem)) > 2
    assert everything(mine) == seen([Put(registration(str(n))) for n in range(20)])


def test_a_full_journal_drops_the_oldest_and_says_so(stem: Path, caplog: pytest.LogCaptureFixture) -> None:
    mine = journal(stem, segment=1000, limit=3000)
    dropped = sum(len(mine.append([Put(registration(str(n)))])) for n in range(100))
    assert mine.size <= 3000
    assert dropped > 0
    assert "dropped the oldest" in caplog.text
    kept = everything(mine)
    assert len(kept) == 100 - dropped
    assert kept == seen([Put(registration(str(n))) for n in range(dropped, 100)])


def test_bytes_that_are_no_utf8_survive(stem: Path) -> None:
    odd = registration(b"caf\xe9".decode("utf-8", "surrogateescape"))
    mine = journal(stem)
    mine.append([Put(odd)])
    lot = mine.oldest()
    assert lot is not None
    assert (lot.writes[0].record, lot.writes[0].data) == (Put(odd).record, Put(odd).data)


def test_no_place_for_it_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("not a directory")
    with pytest.raises(JournalFailed, match="no place for the journal"):
        Journal(tmp_path / "journal" / "internal.0").open()


def test_in_memory_the_oldest_goes_when_there_are_too_many() -> None:
    mine = MemoryJournal(limit=10)
    dropped = sum(len(mine.append([Put(call(version=n)), Put(registration(version=n))])) for n in range(8))
    assert dropped == 6
    lot = mine.oldest()
    assert lot is not None
    assert lot.writes[0].record.version == 3


def test_a_segment_that_cannot_be_removed_is_emptied_and_not_replayed_again(
    stem: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may hold what has been removed from the store since."""

    def refuse(_path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(1, "not permitted")

    mine = journal(stem)
    mine.append([Put(call())])
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        assert everything(mine) == seen([Put(call())])
    assert not mine.pending
    assert "emptied instead" in caplog.text
    mine.append([Put(call("2"))])
    successor = journal(stem)
    assert everything(successor) == seen([Put(call("2"))])
    assert segments(stem) == []


def test_a_segment_that_can_neither_be_removed_nor_emptied_is_told_of(
    stem: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_arguments: object, **_named: object) -> None:
        raise OSError(30, "read-only file system")

    mine = journal(stem)
    mine.append([Put(call())])
    monkeypatch.setattr(Path, "unlink", refuse)
    monkeypatch.setattr(os, "truncate", refuse)
    assert everything(mine) == seen([Put(call())])
    assert not mine.pending
    assert f"{segments(stem)[0]} is done and cannot be removed, remove it by hand" in caplog.text
