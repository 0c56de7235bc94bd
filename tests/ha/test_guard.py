"""The watchdogs of profiles that cannot be probed."""

from __future__ import annotations

import time
from types import SimpleNamespace

from ha.duty import Post, Slot
from ha.guard import Guard
from ha.loop import Loop
from ha.settings import ChildSettings
from node.config.profile import ProfileSettings


def guarded(address: tuple[str, int], seconds: float) -> list[str]:
    """Whom the guard kills, within that time, of a profile whose address nobody answers at."""
    killed: list[str] = []
    settings = ProfileSettings(name="internal", watchdog_event_timeout=300)
    member = SimpleNamespace(ready=True, pulse=SimpleNamespace(limit=0.0))
    post = Post(settings, [Slot("internal#0", "internal", member=member)], "RUNNING", address=address)  # type: ignore[arg-type]
    loop = Loop()
    duty = SimpleNamespace(posts={"internal": post})
    fleet = SimpleNamespace(kill=lambda _member, why: killed.append(why))
    guard = Guard(loop, duty, fleet, ChildSettings(), lambda _why: None)  # type: ignore[arg-type]
    guard.arm()
    ends = time.monotonic() + seconds
    while not killed and time.monotonic() < ends:
        loop.turn(0.05)
    return killed


def test_a_profile_that_answers_no_probe_gets_other_workers():
    assert guarded(("127.0.0.1", 9), 10.0)


def test_a_profile_without_any_socket_is_not_taken_for_dead():
    assert not guarded(("", 0), 1.0)
