"""A store in this process's memory: committed by the loop itself, and still heard of later."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from store.errors import StoreError
from store.interface import Outcome, Put, opened
from store.journal import MemoryJournal
from store.memory import MemoryFactory, memory_store
from store.records import Registration
from store.writer import Writer
from tests.store.faults import LIMIT, Loop
from tests.store.samples import registration

names = (f"direct-{n}" for n in itertools.count())


class Stage:
    """A writer on memory, its loop, and what it has told: user, outcome and thread."""

    def __init__(self) -> None:
        self.factory: MemoryFactory = memory_store(next(names))
        self.loop = Loop()
        self.journal = MemoryJournal(100)
        self.told: list[tuple[str, Outcome]] = []
        self.writer = Writer(
            self.factory, call_soon=self.loop.call_soon, call_later=self.loop.call_later, journal=self.journal
        )

    def put(self, record: Registration) -> None:
        self.writer.put(record, lambda outcome: self.told.append((record.sip_user, outcome)))

    def ask(self) -> list[str]:
        """The users that are registered, by the thread's account."""
        answers: list[list[Registration] | StoreError] = []
        self.writer.ask(lambda store: store.registrations(), answers.append)
        self.loop.run(lambda: answers)
        assert not isinstance(answers[0], StoreError)
        return [each.sip_user for each in answers[0]]

    def stored(self) -> list[str]:
        with opened(self.factory) as store:
            return [each.sip_user for each in store.registrations()]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.writer.start()
    stage.ask()  # its thread has come to rest
    yield stage
    stage.writer.close(LIMIT)


def test_who_puts_hears_of_it_when_he_has_come_to_an_end(stage: Stage) -> None:
    stage.put(registration("1000"))
    stage.put(registration("1001"))
    assert stage.told == []
    stage.loop.run(lambda: stage.told)
    assert stage.told == [("1000", Outcome.STORED), ("1001", Outcome.STORED)]
    assert stage.stored() == ["1000", "1001"]


def test_what_one_turn_puts_is_one_commit_and_no_thread_has_a_part_in_it(stage: Stage) -> None:
    committed_by: list[threading.Thread] = []
    stage.writer.put(registration("1000"), lambda _: committed_by.append(threading.current_thread()))
    for user in range(1001, 1010):
        stage.put(registration(str(user)))
    stage.loop.run(lambda: len(stage.told) == 9)
    assert (stage.writer.stats.commits, stage.writer.stats.items) == (1, 10)
    assert committed_by == [threading.main_thread()]


def test_what_is_put_by_who_hears_is_committed_in_the_next_turn(stage: Stage) -> None:
    stage.writer.put(registration("1000"), lambda _: stage.put(registration("1001")))
    stage.loop.run(lambda: stage.told)
    assert stage.stored() == ["1000", "1001"]


def test_it_judges_as_any_store_does(stage: Stage) -> None:
    stage.put(registration("1000", version=7))
    stage.put(registration("1000", version=6))
    stage.loop.run(lambda: len(stage.told) == 2)
    assert [outcome for _user, outcome in stage.told] == [Outcome.STORED, Outcome.STALE]


def test_a_question_finds_what_was_put_before_it(stage: Stage) -> None:
    stage.put(registration("1000"))
    assert stage.ask() == ["1000"]
    assert stage.told == [("1000", Outcome.STORED)]


def test_closing_commits_what_the_last_turn_has_put(stage: Stage) -> None:
    stage.put(registration("1000"))
    stage.writer.close(LIMIT)
    assert stage.told == [("1000", Outcome.STORED)]
    assert stage.stored() == ["1000"]


def test_what_a_predecessor_left_in_the_journal_comes_first() -> None:
    stage = Stage()
    stage.journal.append([Put(registration("1000", version=1, call_id="older"))])
    stage.writer.start()
    try:
        stage.put(registration("1000", version=2, call_id="newer"))
        stage.loop.run(lambda: stage.told)
        with opened(stage.factory) as store:
            assert [each.call_id for each in store.registrations()] == ["newer"]
        stage.loop.run(lambda: not stage.writer.behind)
        assert stage.writer.stats.replayed == 1
    finally:
        stage.writer.close(LIMIT)


def test_after_closing_nothing_is_stored_any_more(stage: Stage) -> None:
    stage.writer.close(LIMIT)
    stage.put(registration("1000"))
    stage.loop.run(lambda: stage.told)
    assert stage.told == [("1000", Outcome.AT_RISK)]
    assert stage.stored() == []
