"""How the shared address changes hosts in calm: in virtual time, with what the two sides hold written down."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ha.address import REPEATS
from ha.baton import FORWARDING, KEPT, LOADING, OWN, Baton
from ha.loop import Alarm


class Clock:
    """As much of the loop as the baton needs."""

    def __init__(self) -> None:
        self.time = 100.0
        self._agenda: list[tuple[float, int, Alarm]] = []

    def now(self) -> float:
        return self.time

    def after(self, delay: float, action: Callable[[], object]) -> Alarm:
        alarm = Alarm(action)
        heapq.heappush(self._agenda, (self.time + delay, len(self._agenda), alarm))
        return alarm

    def run(self, seconds: float) -> None:
        until = self.time + seconds
        while self._agenda and self._agenda[0][0] <= until:
            self.time, _number, alarm = heapq.heappop(self._agenda)
            if alarm.action is not None:
                alarm.action()
        self.time = until


class Side:
    """One node: its baton, and what it did, in order."""

    def __init__(self, *, moves: bool = True) -> None:
        self.clock = Clock()
        self.did: list[str] = []
        self.held_back: list[bool] = []
        "Whether spare workers had to wait, each time that it was said."
        self.covered = True
        self.slots = [SimpleNamespace(revived=None), SimpleNamespace(revived=None)]
        self.duty = SimpleNamespace(on=True, done=True, slots=lambda: self.slots)
        self.quiet = False
        address: Any = SimpleNamespace(
            wanted=moves,
            take=lambda: self.did.append("take address"),
            keep_quiet=lambda: setattr(self, "quiet", True),
        )
        media: Any = SimpleNamespace(name="media")
        fleet: Any = SimpleNamespace(
            of_kind=lambda kind: media if kind == "media" else None,
            send=lambda member, message: self.did.append(f"{member.name} {message.verb}"),
            hold_back=lambda seconds: self.held_back.append(True),
            go_on=lambda: self.held_back.append(False),
        )
        self.kept: Any = SimpleNamespace(let_go=lambda: self.did.append("let go"))
        self.baton = Baton(
            self.clock,  # type: ignore[arg-type]
            address=address,
            duty=self.duty,  # type: ignore[arg-type]
            fleet=fleet,
            covered=lambda: self.covered,
            taken=lambda: self.did.append("say so"),
        )

    def loaded(self) -> None:
        for slot in self.slots:
            slot.revived = "all"


def test_a_promotion_without_a_peer_that_waits_takes_the_address_first() -> None:
    side = Side()
    side.baton.take()
    assert side.did == ["take address"]


def test_what_the_peer_keeps_for_us_is_taken_when_the_calls_are_loaded() -> None:
    side = Side()
    side.baton.expect()
    side.clock.run(0.02)
    side.baton.take()
    side.baton.look()
    side.slots[0].revived = "its calls"
    side.baton.look()
    assert side.did == []
    side.loaded()
    side.baton.look()
    side.baton.look()
    assert side.did == ["take address", "say so"]
    side.clock.run(10)
    assert side.did == ["take address", "say so"]


def test_calls_that_take_long_to_load_do_not_keep_the_address_away() -> None:
    side = Side()
    side.baton.expect()
    side.baton.take()
    side.clock.run(LOADING)
    assert side.did == ["take address", "say so"]


def test_who_stood_still_while_it_loaded_takes_no_address_before_the_lease_is_its_own_again() -> None:
    """The peer may have given up waiting, and serve with it."""
    side = Side()
    side.baton.expect()
    side.baton.take()
    side.covered = False
    side.clock.run(3)
    side.loaded()
    side.baton.look()
    assert side.did == []
    side.covered = True
    side.baton.look()
    assert side.did == ["take address", "say so"]


def test_an_offer_holds_for_one_promotion_and_for_a_moment() -> None:
    side = Side()
    side.baton.expect()
    side.clock.run(KEPT)
    side.baton.take()
    assert side.did == ["take address"]
    side.baton.expect()
    side.baton.take()
    side.loaded()
    side.baton.look()
    side.did.clear()
    side.baton.take()
    assert side.did == ["take address"]


def test_a_duty_that_ends_while_it_loads_takes_no_address() -> None:
    side = Side()
    side.baton.expect()
    side.baton.take()
    side.duty.on = False
    side.baton.look()
    side.clock.run(10)
    assert side.did == []


def test_where_somebody_else_moves_the_address_nothing_is_waited_for() -> None:
    side = Side(moves=False)
    side.baton.expect()
    side.baton.take()
    assert side.did == ["take address"]


def test_what_is_kept_goes_a_moment_after_the_peer_has_the_address() -> None:
    """Its announcement has to reach everybody; until then what still comes here is forwarded."""
    side = Side()
    side.baton.keep(side.kept)
    side.clock.run(0.1)
    side.baton.taken()
    side.clock.run(FORWARDING - 0.01)
    side.baton.taken()
    assert side.baton.keeping
    assert side.did == []
    side.clock.run(0.02)
    assert side.did == ["let go", "media release"]
    assert not side.baton.keeping
    side.baton.taken()
    side.clock.run(10)
    assert side.did == ["let go", "media release"]


def test_an_address_that_is_kept_for_the_peer_is_announced_no_more() -> None:
    """Repetitions of a promotion some seconds ago would draw everybody back."""
    side = Side()
    side.baton.keep(side.kept)
    assert side.quiet


def test_who_was_misled_while_both_have_the_address_is_corrected_soon() -> None:
    assert any(FORWARDING < repeat < FORWARDING + 0.1 for repeat in REPEATS)


def test_an_address_that_the_peer_has_before_anything_is_kept_for_it_means_nothing() -> None:
    side = Side()
    side.baton.taken()
    side.baton.keep(side.kept)
    side.clock.run(FORWARDING)
    assert side.did == []


def test_what_was_kept_twice_is_passed_on_twice() -> None:
    side = Side()
    for _ in range(2):
        side.baton.keep(side.kept)
        side.baton.taken()
        side.clock.run(FORWARDING)
        assert side.did == ["let go", "media release"]
        side.did.clear()


def test_who_wants_it_back_while_it_forwards_has_it_at_once() -> None:
    """The peer died right after it took it."""
    side = Side()
    side.baton.keep(side.kept)
    side.baton.taken()
    side.baton.take()
    assert side.did == ["let go", "media release", "take address"]
    side.clock.run(10)
    assert side.did == ["let go", "media release", "take address"]


def test_spare_workers_are_not_loaded_while_the_address_moves() -> None:
    old, new = Side(), Side()
    old.baton.keep(old.kept)
    new.baton.expect()
    new.baton.take()
    assert (old.held_back, new.held_back) == ([True], [True])
    new.loaded()
    new.baton.look()
    old.baton.taken()
    assert (old.held_back, new.held_back) == ([True], [True])
    for side in (old, new):
        side.clock.run(FORWARDING)
    assert (old.held_back, new.held_back) == ([True, False], [True, False])


def test_it_is_not_kept_for_a_peer_that_never_takes_it() -> None:
    side = Side()
    side.baton.keep(side.kept)
    side.clock.run(KEPT)
    assert side.did == ["let go", "media release"]


def test_who_is_promoted_again_lets_go_of_what_was_kept_first() -> None:
    side = Side()
    side.baton.keep(side.kept)
    side.baton.take()
    assert side.did == ["let go", "media release", "take address"]


def test_relays_on_an_address_of_their_own_go_on_until_the_phones_have_heard() -> None:
    side = Side(moves=False)
    side.baton.drop_media_later(lambda: False)
    side.clock.run(OWN - 0.1)
    assert side.did == []
    side.clock.run(0.2)
    assert side.did == ["media release"]


def test_and_for_good_where_the_node_serves_again() -> None:
    side = Side(moves=False)
    side.baton.drop_media_later(lambda: side.duty.on)
    side.clock.run(OWN + 1)
    assert side.did == []
