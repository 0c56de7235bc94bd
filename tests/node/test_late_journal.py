from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from node.worker import LateJournal
from store.interface import Put, Write
from store.journal import Journal, MemoryJournal
from tests.store.faults import LIMIT
from tests.store.samples import call


def test_what_came_before_the_worker_had_a_slot_is_in_its_journal(tmp_path: Path) -> None:
    late = LateJournal()
    late.append([Put(call("1"))])
    late.settle(Journal(tmp_path / "internal.0"))
    late.append([Put(call("2"))])
    assert kept(late) == ["1", "2"]


def test_what_is_being_appended_while_it_settles_is_not_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    append = MemoryJournal.append

    def slowly(journal: MemoryJournal, writes: Sequence[Write]) -> list[Write]:
        begun.set()
        go_on.wait(LIMIT)
        return append(journal, writes)

    monkeypatch.setattr(MemoryJournal, "append", slowly)
    late = LateJournal()
    appending = threading.Thread(target=late.append, args=([Put(call())],))
    appending.start()
    assert begun.wait(LIMIT)
    settling = threading.Thread(target=late.settle, args=(Journal(tmp_path / "internal.0"),))
    settling.start()
    # It waits; were it through by then, what is on its way would find nobody who takes it on.
    settling.join(0.2)
    go_on.set()
    for thread in (appending, settling):
        thread.join(LIMIT)
    assert kept(late) == ["call-1"]


def kept(journal: LateJournal) -> list[str]:
    found = []
    while (lot := journal.oldest()) is not None:
        found += [write.record.key for write in lot.writes]
        journal.forget(lot)
    return found
