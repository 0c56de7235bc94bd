"""The preprocessed text as a tree of elements, each of which knows its place.

A part that is not well-formed is said with its reason, then the file it lies in is left out and the rest is read, so
that one pass finds everything. Two things that XML forbids are let through because FreeSWITCH's own parser does:
`--` inside comments, and a bare `&` (with a warning).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from node.config.complaints import Complaints, Place
from node.config.preprocess import Preprocessed

COMMENT_OR_CDATA = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>", re.DOTALL)
SWITCHED_OFF = "-PRE-PROCESS"
"How operators switch a preprocessor line off: they give the tag another name."
REPAIRS = 1000
"Broken places mended or left out before the reader gives up."


@dataclass(slots=True)
class Element:
    """One XML element."""

    name: str
    attributes: dict[str, str]
    place: Place
    children: list[Element] = field(default_factory=list)
    text: str = ""
    "Its character data, ends stripped."

    def all(self, name: str) -> Iterator[Element]:
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element | None:
        return next(self.all(name), None)

    def get(self, attribute: str, default: str = "") -> str:
        return self.attributes.get(attribute, default)


class _Broken(Exception):
    """Where the text is not well-formed: `row` counts from 0 in the preprocessed text."""

    def __init__(self, row: int, column: int, reason: str) -> None:
        super().__init__(reason)
        self.row = row
        self.column = column
        self.reason = reason


def parse(text: Preprocessed, complaints: Complaints) -> Element | None:
    """The root element; None when not even that can be read. Says what is broken."""
    lines = _without_comments(text.lines)
    for _ in range(REPAIRS):
        try:
            return _Builder(lines, text.places).build()
        except _Broken as broken:
            if not _mend(lines, text.places, broken, complaints):
                return None
    return None


def _without_comments(lines: list[str]) -> list[str]:
    def blank(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith("<![") else "\n" * match[0].count("\n")

    return COMMENT_OR_CDATA.sub(blank, "\n".join(lines)).split("\n")


def _mend(lines: list[str], places: list[Place], broken: _Broken, complaints: Complaints) -> bool:
    """Say it, then take the trouble out of the text. False when nothing would be left."""
    row = min(broken.row, len(lines) - 1)
    place = places[row]
    line = lines[row]
    ampersand = line.find("&", max(broken.column - 1, 0))
    if broken.reason in ("not well-formed (invalid token)", "undefined entity") and 0 <= ampersand <= broken.column:
        complaints.warning(place, "a bare & is taken as it stands; XML wants &amp;")
        lines[row] = line[:ampersand] + "&amp;" + line[ampersand + 1 :]
        return True
    reason = broken.reason
    if "token" in reason and line[broken.column : broken.column + 1] == "<":
        row, reason = _unfinished(lines, row, broken.column)
        place = places[row]
    complaints.error(place, reason)
    if place.file == places[0].file:
        return False
    for index, other in enumerate(places):
        if other.file == place.file:
            lines[index] = ""
    return True


def _unfinished(lines: list[str], row: int, column: int) -> tuple[int, str]:
    """A `<` where none may be: the tag before it is not finished, or it stands inside a value."""
    start = row
    before = lines[row][:column]
    while "<" not in before and start > 0:
        start -= 1
        before = lines[start] + "\n" + before
    quotes = before[before.rfind("<") :].count('"')
    if quotes % 2 == 0:
        return start, "not well-formed: this tag is not finished"
    if start < row:
        return start, "not well-formed: a quote is not closed"
    return row, "not well-formed: a < inside a value must be written &lt;"


class _Builder:
    """Builds the tree from expat's events; checks that each file closes what it opens."""

    def __init__(self, lines: list[str], places: list[Place]) -> None:
        self._text = "\n".join(lines)
        self._places = places
        self._stack: list[tuple[Element, int]] = []
        self._root: Element | None = None
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype

    def build(self) -> Element:
        try:
            self._parser.Parse(self._text, True)
        except expat.ExpatError as error:
            raise self._broken(error) from error
        assert self._root is not None, "expat refuses a text without an element"
        return self._root

    @property
    def _row(self) -> int:
        return min(self._parser.CurrentLineNumber - 1, len(self._places) - 1)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        element = Element(name, attributes, self._places[self._row])
        if self._stack:
            if not name.upper().endswith(SWITCHED_OFF):
                self._stack[-1][0].children.append(element)
        else:
            self._root = element
        self._stack.append((element, self._row))

    def _end(self, _name: str) -> None:
        element, row = self._stack.pop()
        element.text = element.text.strip()
        if self._places[self._row].file != element.place.file:
            raise self._unbalanced(element, row)

    def _characters(self, text: str) -> None:
        self._stack[-1][0].text += text

    def _doctype(self, *_ignored: object) -> None:
        raise _Broken(self._row, 0, "a DOCTYPE is not allowed here")

    def _broken(self, error: expat.ExpatError) -> _Broken:
        row = min(error.lineno - 1, len(self._places) - 1)
        reason = expat.ErrorString(error.code)
        if not self._stack:
            return _Broken(row, error.offset, reason)
        element, opened = self._stack[-1]
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_TAG_MISMATCH]:
            if self._places[row].file != element.place.file:
                return self._unbalanced(element, opened)
            return _Broken(row, 0, f"<{element.name}>, opened at line {element.place.line}, is closed by another tag")
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_NO_ELEMENTS]:
            return _Broken(opened, 0, f"<{element.name}> is never closed")
        return _Broken(row, error.offset, reason)

    def _unbalanced(self, element: Element, opened: int) -> _Broken:
        """A tag closed by another file's: whichever of the two is the included one is not balanced in itself."""
        row = self._row
        if any(place.file == element.place.file for place in self._places[row + 1 :]):
            return _Broken(row, 0, "a tag is closed here that this file does not open")
        return _Broken(opened, 0, f"<{element.name}> is never closed")
