"""The claim, what is held meanwhile, and how long the role may be held; in virtual time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

from node.sip.flow import Flow
from node.sip.message import parse
from node.standby import AGAIN, PATIENCE, Claim, Held, Succession, Tenure
from store.errors import Fenced, Unavailable
from store.interface import Put
from store.memory import Book, MemoryStore
from store.records import CallRecord

FLOW = Flow("internal", "UDP", ("127.0.0.1", 5060), ("127.0.0.1", 5070))
CLAIM = Claim(["internal#0"], "one", "internal#0", 7)


class Clock:
    """Virtual time with alarms."""

    def __init__(self) -> None:
        self.now = 0.0
        self._alarms: list[tuple[float, int, list[Callable[[], None]]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, delay: float, callback: Callable[[], None]) -> Any:
        alarm = [callback]
        heapq.heappush(self._alarms, (self.now + delay, len(self._alarms), alarm))

        class Alarm:
            def cancel(self) -> None:
                alarm.clear()

        return Alarm()

    def run(self, until: float) -> None:
        while self._alarms and self._alarms[0][0] <= until:
            self.now, _number, alarm = heapq.heappop(self._alarms)
            for callback in list(alarm):
                callback()
        self.now = until


class Writer:
    """Gives the answers it was given, one for each question."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked = 0

    def ask(self, question: Any, then: Any, deadline: float = 2.0) -> None:
        self.asked += 1
        then(self.answers.pop(0))


def succession(clock: Clock, writer: Writer) -> tuple[Succession, list[str]]:
    told: list[str] = []
    made = Succession(
        CLAIM,
        writer,
        revive=lambda records: told.append(f"revive {len(records)}"),
        done=lambda: told.append("done"),
        give_up=lambda why: told.append("give up"),
        call_later=clock.later,
        now=clock,
        complete=lambda: told.append("complete"),
    )
    return made, told


def test_a_claim_goes_on_until_the_store_has_none_left() -> None:
    calls = [CallRecord(uuid=str(number)) for number in range(3)]
    claim, told = succession(Clock(), Writer(calls, calls[:1], []))
    claim.start()
    assert told == ["revive 3", "revive 1", "complete", "done"]


def test_a_store_that_is_gone_is_asked_again() -> None:
    clock = Clock()
    claim, told = succession(clock, Writer(Unavailable("gone"), [CallRecord(uuid="1")], [], []))
    claim.start()
    assert told == []
    clock.run(AGAIN)
    assert told == ["revive 1", "complete", "done"]


def test_new_calls_do_not_wait_for_ever_and_old_ones_come_late() -> None:
    clock = Clock()
    failures = [Unavailable("gone")] * (int(PATIENCE / AGAIN) + 2)
    claim, told = succession(clock, Writer(*failures, [CallRecord(uuid="1")], [], []))
    claim.start()
    clock.run(PATIENCE + 10 * AGAIN)
    assert told == ["done", "revive 1", "complete"]


def test_what_was_claimed_and_never_heard_of_is_fetched() -> None:
    """The store did as it was asked, and its answer was lost: nobody would ever claim these again under this epoch."""
    clock = Clock()
    book = MemoryStore(Book(), clock=lambda: 0.0)
    mine = CallRecord(uuid="1", slot=CLAIM.slots[0], epoch=1, version=1, state="answered")
    over = CallRecord(uuid="2", slot=CLAIM.slots[0], epoch=1, version=1, state="ended", expires=1e12)
    book.commit([Put(mine), Put(over)])
    claim, told = succession(clock, Forgetful(book))
    claim.start()
    clock.run(2 * AGAIN)
    assert told == ["revive 1", "complete", "done"]


class Forgetful:
    """A writer whose store does what it is asked, and is not heard the first time."""

    def __init__(self, store: MemoryStore) -> None:
        self._store, self._heard = store, False

    def ask(self, question, then, deadline=2.0) -> None:  # type: ignore[no-untyped-def]
        answer = question(self._store)
        if self._heard:
            then(answer)
        else:
            self._heard = True
            then(Unavailable("no answer in time"))


def test_an_epoch_that_is_over_is_given_up() -> None:
    claim, told = succession(Clock(), Writer(Fenced("internal#0", 7)))
    claim.start()
    assert told == ["give up"]


def test_a_retransmission_takes_no_room_of_its_own() -> None:
    held = Held()
    first, second = message("a"), message("b")
    held.keep(first, FLOW)
    held.keep(second, FLOW)
    held.keep(message("a"), FLOW)
    assert len(held) == 2
    assert [each.via.branch for each, _flow in held.release()] == ["z9hG4bKa", "z9hG4bKb"]
    assert held.release() == []


def test_the_tenure_ends_when_no_newer_lease_is_heard() -> None:
    clock = Clock()
    ended: list[float] = []
    tenure = Tenure(now=clock, call_later=clock.later, ended=lambda: ended.append(clock.now))
    tenure.hear(5.0)
    clock.run(3.0)
    tenure.hear(8.0)
    clock.run(7.9)
    assert ended == []
    clock.run(9.0)
    assert ended == [8.0]


def test_a_node_for_itself_may_act_for_ever() -> None:
    clock = Clock()
    ended: list[float] = []
    for until in (0.0, math.inf):
        Tenure(now=clock, call_later=clock.later, ended=lambda: ended.append(clock.now)).hear(until)
    clock.run(1e9)
    assert ended == []


def message(branch: str) -> Any:
    return parse(
        f"INVITE sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK{branch}\r\nFrom: <sip:b@h>;tag=1\r\n"
        f"To: <sip:a@h>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n".encode()
    )
