"""Letting go: who is waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ha.fence import LettingGo


def test_workers_of_a_profile_that_is_being_stopped_are_waited_for_too() -> None:
    """They hold its sockets until they are gone; only then may the lease be given back."""
    serving = SimpleNamespace(slot="internal#0", leaving=False)
    stopped = SimpleNamespace(slot="external#0", leaving=True)
    spare = SimpleNamespace(slot="", leaving=False)
    fleet: Any = SimpleNamespace(members=[serving, stopped, spare], dismissed=[])
    fleet.dismiss = lambda member, *_words: fleet.dismissed.append(member)
    nothing: Any = SimpleNamespace(drop=lambda: None, close_all=lambda: None)
    letting_go = LettingGo(fleet, nothing, nothing, reason="it is over", haste=False)
    assert fleet.dismissed == [serving, stopped]
    fleet.members.remove(serving)
    assert not letting_go.done
    fleet.members.remove(stopped)
    assert letting_go.done
