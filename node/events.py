"""Events as FreeSWITCH's clients know them, and the stream that carries them to whoever listens.

Nobody pays for an event nobody hears: `EventStream.wanted` is asked before an event is built.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import msgspec


class Event(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One event: its name (`CHANNEL_ANSWER`, `CUSTOM`), the subclass of a CUSTOM one, headers in order, a body."""

    name: str
    subclass: str = ""
    headers: list[tuple[str, str]] = []
    "Unescaped values; the console escapes them as the chosen format asks."
    body: str = ""
    at: int = 0
    "Microseconds since 1970."
    function: str = ""
    "What goes into Event-Calling-Function."


Listener = Callable[[Event], None]


class EventStream:
    """Fires events to its listeners. `ALL` in the wanted set stands for every name."""

    def __init__(self) -> None:
        self._listeners: list[Listener] = []
        self._wanted: frozenset[str] = frozenset()

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def want(self, names: Iterable[str]) -> None:
        """Set which events anybody hears: names, and for CUSTOM ones their subclasses."""
        self._wanted = frozenset(names)

    def wanted(self, name: str) -> bool:
        """Whether an event of this name (or CUSTOM subclass) has a listener: ask before building one."""
        wanted = self._wanted
        return bool(wanted) and (name in wanted or "ALL" in wanted)

    def fire(self, event: Event) -> None:
        if not self.wanted(event.subclass or event.name):
            return
        if not event.at:
            event.at = time.time_ns() // 1000
        for listener in self._listeners:
            listener(event)
