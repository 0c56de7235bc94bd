"""What a client listens to, and events written once for all who do."""

from __future__ import annotations

from dataclasses import dataclass, field

from node.console import protocol
from node.console.format import SERIALISERS, Headers, gather
from node.console.names import EVENTS
from node.events import Event


class Written:
    """A stamped event, with each form it was asked for kept."""

    __slots__ = ("_forms", "_lookup", "body", "headers", "name", "subclass")

    def __init__(self, event: Event, headers: Headers) -> None:
        self.name = event.name
        self.subclass = event.subclass
        self.headers = headers
        self.body = event.body
        self._forms: dict[str, bytes] = {}
        self._lookup: dict[str, str] | None = None

    def message(self, form: str) -> bytes:
        if form not in self._forms:
            self._forms[form] = protocol.event_message(form, SERIALISERS[form](self.headers, self.body))
        return self._forms[form]

    @property
    def by_name(self) -> dict[str, str]:
        if self._lookup is None:
            self._lookup = {name.lower(): values[0] for name, values in gather(self.headers).items()}
        return self._lookup


@dataclass(slots=True)
class Subscription:
    """Which events a client asked for."""

    names: set[str] = field(default_factory=set)
    subclasses: set[str] = field(default_factory=set)
    everything: bool = False
    every_subclass: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.names)

    def takes(self, name: str, subclass: str) -> bool:
        if self.everything:
            return True
        if name not in self.names:
            return False
        return name != "CUSTOM" or not subclass or self.every_subclass or subclass in self.subclasses

    def add(self, words: list[str]) -> bool:
        """Take event names, and after CUSTOM subclasses. False when there was not one known name."""
        known = custom = False
        for word in words:
            name = word.upper()
            if custom:
                self.subclasses.add(word)
            elif name == "ALL":
                self.everything = known = True
            elif name in EVENTS:
                self.names.add(name)
                known = True
                custom = name == "CUSTOM"
        return known

    def remove(self, words: list[str]) -> bool:
        known = custom = False
        for word in words:
            name = word.upper()
            if custom:
                self.subclasses.discard(word)
                continue
            if name == "ALL":
                self.clear()
            elif name in EVENTS:
                self._expand()
                if name == "CUSTOM":
                    custom = True
                self.names.discard(name)
            else:
                continue
            known = True
        return known

    def clear(self) -> None:
        self.names.clear()
        self.subclasses.clear()
        self.everything = self.every_subclass = False

    def wants(self) -> set[str]:
        """As `node.events` counts interest: names, subclasses of CUSTOM ones, ALL."""
        if self.everything or (self.every_subclass and "CUSTOM" in self.names):
            return {"ALL"}
        return (self.names - {"CUSTOM"}) | (self.subclasses if "CUSTOM" in self.names else set())

    def _expand(self) -> None:
        if self.everything:
            self.everything, self.every_subclass = False, True
            self.names |= EVENTS
