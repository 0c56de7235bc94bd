"""How many children there are, and how there come to be more."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

from ha.fleet import Fleet, Member
from ha.loop import Loop
from ha.process import Process
from ha.settings import ChildSettings
from node.link import Link, Ready


def test_no_worker_is_started_while_they_are_held_back_but_what_relays_audio_is() -> None:
    loop, ends = Loop(), []

    def fork(kind: str) -> Process:
        ours, theirs = Link.pair()
        ends.append(theirs)
        return Process(kind, 0, ours, loop.now(), status=0)

    owner: Any = None
    fleet = Fleet(loop, fork, ChildSettings(), owner, kinds=("media",))
    fleet.spares = 2
    fleet.hold_back(0.1)
    fleet.fill()
    assert [member.kind for member in fleet.members] == ["media"]
    fleet.go_on()
    assert [member.kind for member in fleet.members] == ["media", "worker", "worker"]
    fleet.spares = 3
    fleet.hold_back(0.05)
    fleet.fill()
    assert len(fleet.members) == 3
    until = time.monotonic() + 10
    while len(fleet.members) < 4 and time.monotonic() < until:
        loop.turn(0.02)
    assert len(fleet.members) == 4, "nobody need say that it is over"
    for member in fleet.members:
        member.process.link.close()
    for end in ends:
        end.close()
    loop.close()


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


def test_standby_workers_make_room_for_those_of_a_new_configuration_one_after_another() -> None:
    """There is always one to be promoted, and as many as there shall be."""
    loop = Loop()
    theirs: dict[int, Link] = {}

    def fork(kind: str) -> Process:
        ours, other = Link.pair()
        process = Process(kind, 0, ours, loop.now(), status=0)
        theirs[id(process)] = other
        return process

    owner: Any = SimpleNamespace(on_ready=lambda member: None, on_ended=lambda member: None)
    fleet = Fleet(loop, fork, ChildSettings(), owner, kinds=())
    fleet.spares = 3

    def loading() -> list[Member]:
        return [member for member in fleet.standby() if not member.ready]

    def load(member: Member) -> None:
        theirs[id(member.process)].send(Ready(1))
        until = time.monotonic() + 10
        while not member.ready and time.monotonic() < until:
            loop.turn(0.02)

    fleet.fill()
    for member in loading():
        load(member)
    fleet.renew(alike=True)
    for left in (2, 1, 0):
        (fresh,) = loading()
        assert sum(member.ready for member in fleet.standby()) == 3
        assert fleet.take() is not None
        load(fresh)
        assert fleet.take() is fresh or fleet.take().generation == 1  # type: ignore[union-attr]
        assert sum(member.generation == 0 for member in fleet.standby()) == left
    assert loading() == []
    fleet.renew(alike=False)
    assert fleet.take() is None, "no worker of old knows the profiles that are new"
    assert len(loading()) == 3
    for member in fleet.members:
        member.process.link.close()
    for end in theirs.values():
        end.close()
    loop.close()
