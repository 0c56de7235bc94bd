"""What a profile counts while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Profile:
    """The counters of one profile in one worker, beside those of its calls, which the switchboard keeps."""

    name: str
    requests: int = 0
    registers: int = 0
    challenged: int = 0
    denied: int = 0
    "Refused for what they are or know: access lists, wrong credentials."
    refused: int = 0
    "Refused for what they ask: unknown methods, dialogs, extensions."
