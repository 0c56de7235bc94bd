"""Letting go: who is waited for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ha.fence import LettingGo


def test_workers_of_a_profile_that_is_being_stopped_are_waited_for_too() -> None:
    """They hold its sockets until they are gone; only then may the lease be given back."""
    serving = SimpleNamespace(slot="internal#0", leaving=False)
    stopped = SimpleNamespace(slot="external#0", leaving=True)
    spare = SimpleNamespace(slot="", leaving=False)
    fleet: Any = SimpleNamespace(members=[serving, stopped, spare], dismissed=[])
    fleet.dismiss = lambda member, *_words: fleet.dismissed.append(member)
    nothing: Any = SimpleNamespace(drop=lambda: None, close_all=lambda: None, deafen_listeners=lambda: None)
    letting_go = LettingGo(fleet, nothing, nothing, reason="it is over", haste=False)
    assert fleet.dismissed == [serving, stopped]
    fleet.members.remove(serving)
    assert not letting_go.done
    fleet.members.remove(stopped)
    assert letting_go.done


class Doing:
    """A node of one worker, and what is done to it, in order."""

    def __init__(self) -> None:
        self.did: list[str] = []
        fleet: Any = SimpleNamespace(members=[SimpleNamespace(slot="internal#0", leaving=False)])
        fleet.dismiss = lambda *_words: self.did.append("workers are told")
        self.fleet = fleet
        self.address: Any = SimpleNamespace(drop=lambda: self.did.append("address goes"))
        self.sockets: Any = SimpleNamespace(
            close_all=lambda: self.did.append("sockets are closed"),
            deafen_listeners=lambda: self.did.append("nobody is let in"),
        )

    def begin(self, *, haste: bool, keep: bool = False) -> LettingGo:
        return LettingGo(self.fleet, self.sockets, self.address, reason="", haste=haste, keep=keep)


def test_where_nothing_covers_a_node_its_address_goes_first() -> None:
    doing = Doing()
    doing.begin(haste=True)
    assert doing.did == ["address goes", "workers are told", "sockets are closed"]


@pytest.mark.parametrize("keep", [False, True])
def test_with_time_for_it_the_last_words_come_before_the_address_goes_and_the_sockets_close_last(keep: bool) -> None:
    """Closed before the address is gone, the host would say to everybody that nobody listens here."""
    doing = Doing()
    letting_go = doing.begin(haste=False, keep=keep)
    assert doing.did == ["nobody is let in", "workers are told"]
    letting_go.let_go()
    assert doing.did[2:] == ["address goes", "sockets are closed"]


@pytest.mark.parametrize("keep", [False, True])
def test_a_lease_that_runs_out_meanwhile_takes_the_address_along(keep: bool) -> None:
    doing = Doing()
    letting_go = doing.begin(haste=False, keep=keep)
    letting_go.hurry()
    assert doing.did[2:] == ["address goes"]
    assert not letting_go.keep, "the peer is not told to wait for it"
