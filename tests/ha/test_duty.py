"""The fence of one slot, and a store that takes its time over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ha.duty import PATIENCE, Duty, Slot
from ha.lease import RaiseFence, Reply


class Keeper:
    """Asks a store that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Callable[[Reply], None]] = []

    def ask(self, question: RaiseFence, then: Callable[[Reply], None]) -> None:
        assert question == RaiseFence("internal#0")
        self.asked.append(then)

    def answer(self, epoch: int) -> None:
        self.asked.pop(0)(Reply(number=0, epoch=epoch))


class Loop:
    def __init__(self) -> None:
        self.alarms: list[Callable[[], None]] = []

    def after(self, delay: float, action: Callable[[], None]) -> None:
        assert delay == PATIENCE
        self.alarms.append(action)

    def ring(self) -> None:
        self.alarms.pop(0)()


def made() -> tuple[Duty, Keeper, Loop, Slot]:
    keeper, loop, nobody = Keeper(), Loop(), Any
    duty = Duty(loop, nobody, nobody, keeper)  # type: ignore[arg-type]
    return duty, keeper, loop, Slot("internal#0", "internal", 1)


def test_a_fence_that_stands_in_time_gives_the_slot_its_epoch() -> None:
    duty, keeper, loop, slot = made()
    told: list[int] = []
    duty.fence(slot, lambda: told.append(slot.epoch))
    keeper.answer(2)
    loop.ring()
    assert (told, slot.owes, slot.fencing) == ([2], False, False)


def test_who_was_promoted_without_a_fence_owes_his_calls_even_if_it_is_raised_at_last() -> None:
    """A hung store raises it when it wakes: the worker that serves under the old epoch is fenced off by it, like the dead one."""
    duty, keeper, loop, slot = made()
    told: list[int] = []
    duty.fence(slot, lambda: told.append(slot.epoch))
    loop.ring()
    keeper.answer(2)
    assert (told, slot.epoch, slot.owes) == ([1], 1, True)


def test_a_late_answer_is_not_taken_for_that_to_the_next_question() -> None:
    duty, keeper, loop, slot = made()
    told: list[int] = []
    duty.fence(slot, lambda: None)
    loop.ring()
    duty.fence(slot, lambda: told.append(slot.epoch))
    keeper.answer(2)
    assert (told, slot.fencing) == ([], True)
    keeper.answer(3)
    assert (told, slot.epoch, slot.owes, slot.fencing) == ([3], 3, False, False)
