"""How many children there are, and how there come to be more."""

from __future__ import annotations

import time
from typing import Any

from ha.fleet import Fleet
from ha.loop import Loop
from ha.process import Process
from ha.settings import ChildSettings
from node.link import Link


def test_where_no_process_can_be_had_it_is_tried_until_there_are_enough() -> None:
    """Nothing else would ask for them again: a standby would never be ready, and a slot stay empty."""
    loop, asked, ends = Loop(), [], []  # type: ignore[var-annotated]

    def fork(kind: str) -> Process:
        asked.append(kind)
        if len(asked) <= 3:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        ours, theirs = Link.pair()
        ends.append(theirs)
        return Process(kind, 0, ours, loop.now(), status=0)

    owner: Any = None
    fleet = Fleet(loop, fork, ChildSettings(), owner, kinds=("media",))
    fleet.spares = 2
    fleet.fill()
    assert fleet.members == []
    until = time.monotonic() + 10
    while len(fleet.members) < 3 and time.monotonic() < until:
        loop.turn(0.02)
    assert sorted(member.kind for member in fleet.members) == ["media", "worker", "worker"]
    assert len(asked) == 6
    for member in fleet.members:
        member.process.link.close()
    for end in ends:
        end.close()
    loop.close()
