"""What the hooks around a change of role hold up, and what ends them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ha.escort import Escort
from ha.loop import Loop
from ha.policy import Holding, Order, Peer, Role, Step, View
from node.config.hooks import Hook


def view(**changes: object) -> View:
    """An active node that is to hand over."""
    told = View(Role.ACTIVE, Holding.MINE, Peer.STANDBY, Order.HAND_OVER, True, False, False, True, True)
    return told._replace(**changes)  # type: ignore[arg-type]


class Desk:
    """An escort with one hook before a demotion, that takes a moment."""

    def __init__(self) -> None:
        self.loop, self.results = Loop(), []  # type: ignore[var-annotated]
        hook = Hook(moment="before-demote", command=("/bin/sleep", "0.3"), timeout=4000)
        self.escort = Escort(
            self.loop,
            lambda: [hook],
            facts=lambda: {"SOFIA_NODE": "alpha"},
            tell=lambda _subclass, headers: self.results.append(dict(headers)["result"]),
            on_refused=lambda _why: None,
        )

    def turn(self, seconds: float = 0.05) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            self.loop.turn(0.01)
            self.escort.look()

    def may_demote(self, **changes: object) -> bool:
        seen = view(**changes)
        self.escort.see(Step.DEMOTE, seen.order)
        return self.escort.may_demote(seen, "ordered", calm=True)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.escort.close()
    desk.turn(0.1)
    desk.loop.close()


@pytest.mark.parametrize("step", [Step.ASK, Step.STAY])
def test_a_late_renewal_or_beat_does_not_end_the_hook_of_a_switchover(desk: Desk, step: Step) -> None:
    assert not desk.may_demote()
    desk.turn()
    desk.escort.see(step, Order.HAND_OVER)
    ends = time.monotonic() + 5
    while not desk.may_demote():
        assert time.monotonic() < ends
        desk.turn()
    assert desk.results == ["ok"]


def test_a_switchover_that_is_called_off_ends_its_hook(desk: Desk) -> None:
    assert not desk.may_demote()
    desk.turn()
    desk.escort.see(Step.STAY, Order.NONE)
    assert desk.results == ["ended"]


@pytest.mark.parametrize(
    ("peer", "holding", "safe", "waits"),
    [
        (Peer.STANDBY, Holding.MINE, True, True),
        (Peer.STANDBY, Holding.LATE, True, True),
        (Peer.STANDBY, Holding.MINE, False, False),
        (Peer.STANDBY, Holding.OTHERS, True, False),
        (Peer.ALONE, Holding.MINE, True, True),
        (Peer.ALONE, Holding.UNKNOWN, True, True),
        (Peer.ALONE, Holding.OTHERS, True, False),
    ],
)
def test_no_hook_is_waited_for_once_another_node_may_act(
    desk: Desk, peer: Peer, holding: Holding, safe: bool, waits: bool
) -> None:
    """A node without a peer too: there may still be another one at its store."""
    may = desk.may_demote(peer=peer, holding=holding, safe=safe, order=Order.DEMOTE)
    assert may is not waits
