from __future__ import annotations

from node.media.orphans import Orphans


def test_a_silent_leg_without_a_worker_is_given_up_after_its_time() -> None:
    orphans = Orphans(limit=100)
    looks = [orphans.look([("a", "internal#0", 5)], lambda slot: False, now) for now in (0, 50, 99, 100, 150)]
    assert looks == [[], [], [], ["a"], []]


def test_packets_keep_a_leg_alive() -> None:
    orphans = Orphans(limit=100)
    looks = [orphans.look([("a", "internal#0", packets)], lambda slot: False, 60.0 * packets) for packets in range(10)]
    assert looks == [[]] * 10


def test_a_leg_with_a_worker_is_left_alone_and_its_time_starts_anew_without() -> None:
    orphans = Orphans(limit=100)
    there = True

    def look(now: float) -> list[str]:
        return orphans.look([("a", "internal#0", 5)], lambda slot: there, now)

    assert [look(0), look(500)] == [[], []]
    there = False
    assert [look(600), look(650)] == [[], []]
    there = True
    assert look(690) == []
    there = False
    assert [look(700), look(799), look(800)] == [[], [], ["a"]]
