"""Alarms, cheap to set and to cancel: a FIFO for each constant delay, a heap for the odd ones."""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Alarm(Generic[T]):
    """One alarm that is set. `item` is None once it went off or was cancelled."""

    __slots__ = ("at", "item")


class Wheel(Generic[T]):
    def set(self, delay: float, item: T, now: float) -> Alarm[T]: raise NotImplementedError
    def cancel(self, alarm: Alarm[T]) -> None: raise NotImplementedError
    def due(self, now: float) -> T | None:
        """Take the next item whose time has come; None when there is none (any more)."""
        raise NotImplementedError
    def next_wake(self) -> float | None: raise NotImplementedError
