"""What waits before the store: when the thread is called, and what it is given."""

from __future__ import annotations

import threading
import time
from typing import Any

from store.interface import Outcome, Put
from store.pending import Entry, Lot, Question, Queue
from store.settings import WriterSettings
from tests.store.samples import call, registration
from tests.support.node import STRETCH

WITHIN = 5.0 * STRETCH
LONG = 2 * WITHIN
"Seconds of a window that a test does not wait for."


def queue(*, window: float = 0.0, batch: int = 64) -> Queue:
    return Queue(WriterSettings(window=window, wide_window=window, batch=batch))


def entry(contact: str, *, waited_for: bool = True) -> Entry:
    def hear(outcome: Outcome) -> None: ...

    return Entry(Put(registration(contact=contact)), hear if waited_for else None, 0.0)


def entry_of_call() -> Entry:
    return Entry(Put(call()), lambda outcome: None, 0.0)


def question() -> Question[Any]:
    return Question(lambda store: None, lambda answer: None, 1.0)


class Taker:
    """The thread, asleep until there is something to be taken."""

    def __init__(self, of: Queue) -> None:
        self.lot: Lot | None = None
        self._thread = threading.Thread(target=self._take, args=(of,), daemon=True)
        self._thread.start()

    def _take(self, of: Queue) -> None:
        self.lot = of.take(None)

    @property
    def sleeps(self) -> bool:
        self._thread.join(0.02)
        return self._thread.is_alive()

    def taken(self) -> Lot | None:
        self._thread.join(WITHIN)
        assert not self._thread.is_alive(), "it was not called"
        return self.lot


def taken_entries(taker: Taker) -> list[Entry]:
    lot = taker.taken()
    assert isinstance(lot, list)
    return lot


def test_the_first_write_after_a_rest_is_taken_at_once() -> None:
    waiting, first = queue(window=LONG), entry("a")
    taker = Taker(waiting)
    assert taker.sleeps
    waiting.add(first)
    assert taker.taken() == [first]


def test_what_comes_within_the_window_is_taken_together_and_a_full_batch_before_its_end() -> None:
    waiting, entries = queue(window=LONG, batch=3), [entry(name) for name in "abcd"]
    waiting.add(entries[0])
    assert waiting.take(None) == entries[:1]
    taker = Taker(waiting)
    for each in entries[1:3]:
        waiting.add(each)
        assert taker.sleeps
    waiting.add(entries[3])
    assert taker.taken() == entries[1:]


def crowded(*, batch: int = 64) -> Queue:
    """Three have come within a window, which is a crowd; the wide one has begun."""
    waiting = Queue(WriterSettings(window=0.5 * STRETCH, wide_window=LONG, crowd=1, batch=batch))
    waiting.add(entry("first"))
    waiting.take(None)
    for name in "abc":
        waiting.add(entry(name))
    return waiting


def test_in_a_crowd_of_registrations_the_window_is_wide() -> None:
    waiting = crowded(batch=4)
    taker = Taker(waiting)
    time.sleep(0.7 * STRETCH)
    assert taker.sleeps
    waiting.add(entry("d"))
    assert [each.key for each in taken_entries(taker)] == [entry(name).key for name in "abcd"]


def test_who_calls_or_asks_does_not_wait_for_the_crowd() -> None:
    for hurry in (lambda waiting: waiting.add(entry_of_call()), lambda waiting: waiting.ask(question())):
        waiting = crowded()
        taker = Taker(waiting)
        time.sleep(0.7 * STRETCH)
        assert taker.sleeps
        hurry(waiting)
        assert len(taken_entries(taker)) >= 3
    waiting = crowded()
    followed = entry_of_call()
    followed.then = None
    waiting.add(followed)
    taker = Taker(waiting)
    time.sleep(0.7 * STRETCH)
    assert taker.sleeps, "nobody waits for this one"
    answered = entry_of_call()
    answered.write.record.version = 2
    waiting.add(answered)
    assert len(taken_entries(taker)) == 4, "it takes the place of the one before"
    waiting = crowded()
    waiting.add(entry_of_call())
    assert len(taken_entries(Taker(waiting))) == 4, "who was there already does not either"


def test_few_registrations_do_not_wait_for_more() -> None:
    waiting = Queue(WriterSettings(window=0.05, wide_window=LONG, crowd=3))
    waiting.add(entry("first"))
    waiting.take(None)
    waiting.add(entry("a"))
    waiting.add(entry("b"))
    assert len(taken_entries(Taker(waiting))) == 2


def test_a_question_does_not_wait_for_the_window() -> None:
    waiting, entries, asked = queue(window=LONG), [entry("a"), entry("b")], question()
    waiting.add(entries[0])
    assert waiting.take(None) == entries[:1]
    taker = Taker(waiting)
    waiting.add(entries[1])
    assert taker.sleeps
    waiting.ask(asked)
    assert taker.taken() == entries[1:], "in order: what was written before it first"
    assert waiting.take(None) is asked


def test_a_call_that_nobody_slept_for_does_not_end_the_next_sleep() -> None:
    waiting, asked = queue(), question()
    waiting.ask(asked)
    assert waiting.take(None) is asked
    began = time.monotonic()
    assert waiting.take(0.1) == []
    assert time.monotonic() - began > 0.09
    taker = Taker(waiting)
    assert taker.sleeps


def test_closing_wakes_and_what_waits_is_taken_first() -> None:
    waiting, last = queue(window=LONG), entry("a")
    waiting.add(entry("b"))
    waiting.take(None)
    taker = Taker(waiting)
    waiting.add(last)
    assert taker.sleeps
    waiting.close()
    assert taker.taken() == [last]
    assert waiting.take(None) is None


def test_of_writes_that_nobody_waits_for_the_last_one_is_kept() -> None:
    waiting, older, newer = queue(), entry("a", waited_for=False), entry("a")
    newer.write.record.version = older.write.record.version + 1
    waiting.add(older)
    assert waiting.add(newer) is older
    assert waiting.take(None) == [older]
    assert older.write is newer.write
    assert older.then is newer.then


def test_a_rest_ends_when_somebody_asks_and_not_when_somebody_writes() -> None:
    waiting, asked = queue(), question()
    waiting.divert()
    rests = threading.Thread(target=waiting.rest, args=(LONG,), daemon=True)
    rests.start()
    waiting.add(entry("a"))
    rests.join(0.05)
    assert rests.is_alive()
    assert not waiting.asked
    waiting.ask(asked)
    rests.join(WITHIN)
    assert not rests.is_alive()
    assert waiting.asked
    assert waiting.take_questions() == [asked]
    assert not waiting.asked


# ---- past the store ------------------------------------------------------------------------------------------------


def test_diverted_the_writes_are_the_scribes_and_questions_stay() -> None:
    waiting, first, second = queue(), entry("a"), entry("b")
    asked = question()
    waiting.add(first)
    waiting.ask(asked)
    waiting.add(second)
    waiting.divert()
    assert waiting.take(0.0) == []
    assert waiting.take_diverted() == [first, second]
    assert waiting.take_diverted() == []
    assert waiting.take_questions() == [asked]
    assert len(waiting) == 0


def test_the_thread_that_sleeps_hears_that_it_is_diverted() -> None:
    waiting = queue()
    taker = Taker(waiting)
    assert taker.sleeps
    waiting.divert()
    assert taker.taken() == []


def test_the_thread_does_not_sleep_for_ever_if_it_was_diverted_just_before() -> None:
    waiting = queue()
    waiting.divert()
    assert Taker(waiting).taken() == []


def test_a_question_waits_until_the_writes_before_it_are_on_their_way_to_the_store_again() -> None:
    waiting, first, asked = queue(), entry("a"), question()
    waiting.divert()
    waiting.add(first)
    waiting.ask(asked)
    assert waiting.take(None) == []
    waiting.rejoin()
    assert waiting.take(None) == [first]
    assert waiting.take(None) is asked


def test_what_is_taken_and_not_begun_is_taken_away_and_comes_first() -> None:
    waiting, first, second = queue(), entry("a"), entry("b")
    waiting.add(first)
    lot = waiting.take(None)
    assert lot == [first]
    waiting.add(second)
    waiting.divert()
    assert lot == []
    assert not waiting.begin()
    assert waiting.take_diverted() == [first, second]


def test_what_is_being_committed_is_both_the_threads_and_the_scribes() -> None:
    waiting, first, second = queue(), entry("a"), entry("b")
    waiting.add(first)
    lot = waiting.take(None)
    assert waiting.begin()
    waiting.add(second)
    waiting.divert()
    waiting.divert()
    assert lot == [first]
    assert waiting.take_diverted() == [first, second]
    # It failed: a second try would come after what is in the journal behind it.
    waiting.failed()
    assert not waiting.begin()


def test_what_is_committed_is_not_diverted_any_more() -> None:
    waiting = queue()
    waiting.add(entry("a"))
    waiting.take(None)
    assert waiting.begin()
    waiting.settled()
    waiting.divert()
    assert waiting.take_diverted() == []


def test_the_scribe_is_called_for_each_write_that_is_his() -> None:
    waiting, first = queue(), entry("a")
    waiting.divert()
    waiting.await_diverted()
    done = threading.Event()
    scribe = threading.Thread(target=lambda: (waiting.await_diverted(), done.set()), daemon=True)
    scribe.start()
    assert not done.wait(0.02)
    waiting.add(first)
    assert done.wait(WITHIN)


def test_closed_and_diverted_there_is_nothing_more_for_the_thread() -> None:
    waiting, first = queue(), entry("a")
    waiting.add(first)
    waiting.divert()
    waiting.close()
    assert waiting.take(None) is None
    assert waiting.take_diverted() == [first]
