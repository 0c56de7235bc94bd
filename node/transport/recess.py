"""A recess: our time to act is over, and may yet be prolonged. Nothing is heard or said meanwhile, and nothing lost by it."""

from __future__ import annotations

from node.sip.flow import Flow

MOST = 20_000
"Messages kept of each kind; a recess lasts for a second or two."


class Recess:
    """Keeps what came and what was to be sent, in order."""

    __slots__ = ("_heard", "_said", "lost", "on")

    def __init__(self) -> None:
        self.on = False
        "Nothing is to be sent now."
        self.lost = 0
        "Messages that had no room."
        self._heard: list[tuple[bytes, Flow]] = []
        self._said: list[tuple[bytes, Flow]] = []

    def hear(self, data: bytes, flow: Flow) -> None:
        """A message that came."""
        self._keep(self._heard, data, flow)

    def say(self, data: bytes, flow: Flow) -> None:
        """A message that was to go."""
        self._keep(self._said, data, flow)

    @property
    def kept(self) -> bool:
        """Is there anything to go on with?"""
        return bool(self._said or self._heard)

    def end(self) -> tuple[list[tuple[bytes, Flow]], list[tuple[bytes, Flow]]]:
        """What was to go, and what came; each is given back once."""
        said, heard = self._said, self._heard
        self._said, self._heard = [], []
        self.on = False
        return said, heard

    def _keep(self, kept: list[tuple[bytes, Flow]], data: bytes, flow: Flow) -> None:
        if len(kept) < MOST:
            kept.append((data, flow))
        else:
            self.lost += 1
