"""What an operator wants done before and after a change of role (`<hooks>` of ha.conf). Ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Moment = Literal["before-promote", "after-promote", "before-demote", "after-demote"]
MOMENTS: tuple[Moment, ...] = ("before-promote", "after-promote", "before-demote", "after-demote")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """One command and its moment."""

    moment: Moment
    command: tuple[str, ...]
    "A program by its whole path, and its words; no shell."
    timeout: int
    "Milliseconds; then it is killed with all that it has started."
    on_failure: Literal["abort", "continue"] = "continue"
    "Before a promotion: whether the node stays passive when the hook fails or takes too long."
