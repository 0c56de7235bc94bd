r"""Expansion of `${...}` (`switch_channel_expand_variables`).

`${name}`, `${name:offset:length}`, `${name[index]}`, `${api(arguments)}`, `${api arguments}`, `$${global}`, nested from the
inside out; `\$`, `\\` and `\'` stand for `$`, `\` and `'`. What a name stands for is expanded again, as FreeSWITCH does, with
one difference: it can call no API then. A value may come from the network, and a caller must not be able to run commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from msgspec import Struct

DEPTH = 100
"Expansions within expansions, as FreeSWITCH allows them."
ARRAY = "ARRAY::"
BETWEEN = "|:"

NAME = re.compile(
    r"(?P<name>[^\s(:\[]+)(?:\[(?P<index>-?\d+)\])?(?::(?P<offset>-?\d+)(?::(?P<length>-?\d+))?)?\s*", re.DOTALL
)
CALL = re.compile(r"(?P<name>[^\s(:\[]+)(?:\((?P<arguments>.*)\)\s*|\s+(?P<words>.*))", re.DOTALL)
SPECIAL = re.compile(r"\$\$?\{|\\[$\\']")

Lookup = Callable[[str], str | None]
Api = Callable[[str, str], str]


def expand(text: str, lookup: Lookup, api: Api | None = None, *, globals_only: Lookup | None = None) -> str:
    """The text with each `${..}` replaced. `lookup` knows variables, `globals_only` what `$${..}` finds (else `lookup`)."""
    return _expand(text, lookup, api, globals_only or lookup, 0)


def items(value: str) -> list[str]:
    """The items of an array variable; a plain value is the only one."""
    return value[len(ARRAY) :].split(BETWEEN) if value.startswith(ARRAY) else [value]


def array(values: list[str]) -> str:
    return ARRAY + BETWEEN.join(values)


def _expand(text: str, lookup: Lookup, api: Api | None, globals_only: Lookup, depth: int) -> str:
    if "$" not in text and "\\" not in text:
        return text
    out: list[str] = []
    for mark, piece in _pieces(text):
        if not mark:
            out.append(piece)
            continue
        if "${" in piece and depth < DEPTH:
            piece = _expand(piece, lookup, api, globals_only, depth + 1)
        if mark == "$${":
            out.append(globals_only(piece) or "")
        else:
            out.append(_value(piece, lookup, api, globals_only, depth))
    return "".join(out)


@lru_cache(maxsize=1024)
def _pieces(text: str) -> tuple[tuple[str, str], ...]:
    """Plain text (marked by nothing), and what stands between braces with what opens it. Kept: texts come from few places."""
    found: list[tuple[str, str]] = []
    at = 0
    while (match := SPECIAL.search(text, at)) is not None:
        found.append(("", text[at : match.start()]))
        if match[0][0] == "\\":
            found.append(("", match[0][1]))
            at = match.end()
            continue
        end = _closing(text, match.end())
        if end < 0:
            found.append(("", match[0]))
            at = match.end()
            continue
        found.append((match[0], text[match.end() : end]))
        at = end + 1
    found.append(("", text[at:]))
    return tuple(piece for piece in found if piece != ("", ""))


def _value(inner: str, lookup: Lookup, api: Api | None, globals_only: Lookup, depth: int) -> str:
    """What stands for the text between the braces."""
    variable = _variable(inner)
    if variable is None:
        call = CALL.fullmatch(inner)
        if call is None or api is None:
            return ""
        arguments = call["arguments"] if call["arguments"] is not None else call["words"]
        return api(call["name"], arguments)
    value = lookup(variable.name)
    if value is None:
        return ""
    if variable.index is not None:
        value = _item(value, variable.index)
    if "${" in value:
        value = _expand(value, lookup, None, globals_only, depth + 1) if depth < DEPTH else ""
    if variable.offset is not None or variable.length is not None:
        value = _part(value, variable.offset, variable.length)
    return value


class _Variable(Struct, frozen=True):
    """`name[index]:offset:length`."""

    name: str
    index: int | None
    offset: int | None
    length: int | None


@lru_cache(maxsize=1024)
def _variable(inner: str) -> _Variable | None:
    """What is named between braces; None if that is no variable."""
    match = NAME.fullmatch(inner)
    if match is None:
        return None
    index, offset, length = (None if text is None else int(text) for text in match.group("index", "offset", "length"))
    return _Variable(match["name"], index, offset, length)


def _item(value: str, index: int) -> str:
    if not value.startswith(ARRAY):
        return ""
    found = items(value)
    return found[index] if 0 <= index < len(found) else ""


def _part(value: str, offset: int | None, length: int | None) -> str:
    """A negative offset counts from the end (beyond it, nothing is cut); a length of 0 or beyond the rest is ignored."""
    if offset is not None and (offset >= 0 or -offset <= len(value)):
        value = value[offset:]
    if length is not None and 0 < length < len(value):
        value = value[:length]
    return value


def _closing(text: str, at: int) -> int:
    """Index of the brace that closes the one before `at`; -1 when there is none."""
    depth = 1
    for index in range(at, len(text)):
        if text[index] == "{":
            depth += 1
        elif text[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return -1
