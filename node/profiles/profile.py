"""What a profile counts while it runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Profile:
    """The counters of one profile in one worker: `sofia status profile` adds them up over the workers."""

    name: str
    calls_in: int = 0
    failed_calls_in: int = 0
    calls_out: int = 0
    failed_calls_out: int = 0
    registers: int = 0
    challenged: int = 0
    denied: int = 0
    requests: int = 0
    refused: int = 0
    "Requests answered by nobody but the reception: unknown methods, dialogs, extensions."

    def reset(self) -> None:
        """A rescan begins anew."""
        self.calls_in = self.failed_calls_in = self.calls_out = self.failed_calls_out = 0
