"""Several claims of one worker at a time, and a store that comes back late; in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from node.duty import Duty
from node.link import Promote
from node.standby import PATIENCE
from store.records import CallRecord, DialogRecord, LegRecord
from tests.fuzz.theatre import Theatre


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    theatre = Theatre()
    try:
        yield theatre
    finally:
        theatre.close()


def test_the_audio_of_calls_that_wait_for_their_turn_outlasts_another_claim(theatre: Theatre) -> None:
    """`sofia recover` while the claim of the promotion is under way: it ends first, and knows nothing of those."""
    answers: list[Callable[[Any], None]] = []
    theatre.books.ask = lambda question, then, deadline=2.0: answers.append(then)  # type: ignore[method-assign]
    swept: list[str] = []
    theatre.duty.switchboard.sweep_media = lambda: swept.append("now")  # type: ignore[method-assign]
    for _ in range(2):
        theatre.duty.recover([], 0, lambda _ok, _count: None)
    first, second = answers
    second([])
    assert swept == []
    first([])
    assert swept == ["now"]


@pytest.mark.parametrize("then", ["a look for what another slot has left", "a look for its own calls", "nothing"])
def test_the_audio_of_calls_whose_worker_could_not_be_fenced_off_flows_until_they_are_claimed(
    theatre: Theatre, then: str
) -> None:
    """The store did not answer in time: the successor serves under the epoch of the dead one, and its calls come later."""
    swept: list[str] = []
    first = theatre.duty
    owing = Promote(slot=first.slot, epoch=5, claims=[], sockets=[], owed=True)
    theatre.duty = Duty(first._own, owing)
    try:
        theatre.duty.switchboard.sweep_media = lambda: swept.append("now")  # type: ignore[method-assign]
        theatre.duty.begin(owing, [])
        if then != "nothing":
            theatre.duty._adopt_slot("internal#7" if "another" in then else first.slot, lambda: None)
        theatre.clock.turn(theatre.clock.time() + 1.0)
        assert swept == []
        theatre.duty.recover([], 6, lambda _ok, _count: None)
        theatre.clock.turn(theatre.clock.time() + 1.0)
        assert swept == ["now"]
    finally:
        theatre.duty.close()
        theatre.duty = first


def test_a_recovery_that_the_store_delays_is_over_when_its_calls_are_here_and_so_is_the_next(theatre: Theatre) -> None:
    def turn(seconds: float) -> None:
        theatre.clock.turn(theatre.clock.time() + seconds)

    theatre.books.gone = True
    theatre.duty.recover([], 0, lambda _ok, _count: None)
    turn(PATIENCE + 1.0)
    assert not theatre.duty.switchboard.recovery()["ended"]
    leg = LegRecord(
        uuid="l1",
        direction="inbound",
        profile="internal",
        state="answered",
        dialog=DialogRecord(call_id="c1", local_tag="internal.0-aa", remote_tag="b"),
    )
    theatre.books.put(CallRecord(uuid="u1", state="answered", legs=[leg], slot="internal#0", epoch=0, version=1))
    theatre.books.gone = False
    turn(1.0)
    status = theatre.duty.switchboard.recovery()
    assert status["calls"] == 1
    assert status["ended"]
    theatre.duty._adopt_slot("internal#7", lambda: None)
    turn(1.0)
    assert theatre.duty.switchboard.recovery() == status, "a look for records that are not there is no recovery"
    theatre.duty.recover([], 0, lambda _ok, _count: None)
    turn(1.0)
    status = theatre.duty.switchboard.recovery()
    assert status["calls"] == 0
    assert status["ended"]


def test_who_waits_for_the_records_of_a_slot_is_served_though_another_one_breaks(theatre: Theatre) -> None:
    served: list[str] = []

    def breaks() -> None:
        raise RuntimeError("a bug")

    theatre.duty._adopt_slot("internal#7", breaks)
    theatre.duty._adopt_slot("internal#7", lambda: served.append("now"))
    theatre.clock.turn(theatre.clock.time() + 1.0)
    assert served == ["now"]
