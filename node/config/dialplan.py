"""The XML dialplan as written: contexts, extensions, conditions, actions. `node.dialplan.route` walks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from node.config.regex import Expression
from node.config.times import TimeTest

Break = Literal["on-false", "on-true", "always", "never"]


@dataclass(frozen=True, slots=True)
class Action:
    """An application with its data, run when its condition passes (or, an anti-action, when it fails)."""

    application: str
    data: str = ""
    inline: bool = False
    "Takes effect while the dialplan is being walked."
    loop: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """What is asked of a call: a field against an expression, times of the day, or nothing (then it passes)."""

    field: str | None = None
    expression: Expression | None = None
    times: tuple[TimeTest, ...] = ()
    tz_offset: str = ""
    "Hours east of Greenwich that `times` are meant in; empty: as the call or the host says."


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One `<condition>`: its own test, or several joined by `regex=`."""

    test: Test = Test()
    regex: Literal["", "all", "any", "xor"] = ""
    tests: tuple[Test, ...] = ()
    "The `<regex>` children; asked instead of `test` when `regex` is set."
    on: Break = "on-false"
    "Attribute `break`."
    require_nested: bool = True
    actions: tuple[Action, ...] = ()
    anti_actions: tuple[Action, ...] = ()
    nested: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """One `<extension>`."""

    name: str = ""
    goes_on: bool = False
    "Attribute `continue`."
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One `<context>` with its extensions in the order of the document."""

    name: str
    extensions: tuple[Extension, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DialplanSection:
    """All contexts by name."""

    contexts: Mapping[str, Context] = field(default_factory=lambda: MappingProxyType({}))
