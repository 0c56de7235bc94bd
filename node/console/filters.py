"""The filters of one event client: which of the events it subscribed to it really gets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LIMIT = 256
"Filters a client may have, and characters of one."


class BadFilter(Exception):
    """A pattern that is none."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One header and what it must be; `-` before the value drops, `/pattern/` is a regular expression."""

    header: str
    value: str
    wanted: bool
    pattern: re.Pattern[str] | None

    @classmethod
    def parse(cls, header: str, value: str) -> Filter:
        text, wanted = value, True
        while text[:1] in ("+", "-", " ") and text:
            if text[0] != " ":
                wanted = text[0] == "+"
            text = text[1:]
        pattern = None
        if text.startswith("/"):
            body = text[1 : text.rfind("/")] if text.rfind("/") > 0 else text[1:]
            try:
                pattern = re.compile(body[:LIMIT])
            except re.error as error:
                raise BadFilter(str(error)) from error
            text = body
        return cls(header, text.lower(), wanted, pattern)

    def matches(self, value: str) -> bool:
        return bool(self.pattern.search(value)) if self.pattern else value.lower() == self.value


def passes(filters: Sequence[Filter], headers: Mapping[str, str]) -> bool:
    """No filter: everything. Otherwise one that wants it must match, and none that drops it (names in lower case)."""
    passed = not filters
    for one in filters:
        value = headers.get(one.header.lower())
        if value is None or (passed and one.wanted) or not one.matches(value):
            continue
        if not one.wanted:
            return False
        passed = True
    return passed
