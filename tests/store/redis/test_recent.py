from __future__ import annotations

from store.interface import Put
from store.redis.recent import KEEP, MOST, TURN, Recent
from tests.store.samples import call, registration


def keys(recent: Recent) -> list[tuple[str, int]]:
    recent.owe()
    return [(write.record.key, write.record.version) for write in recent.owed(MOST)]


def test_the_last_version_of_each_is_kept_in_order() -> None:
    recent = Recent()
    recent.note([Put(call("1")), Put(call("2"))], 0.0)
    recent.note([Put(call("1", version=2)), Put(registration())], 0.1)
    assert keys(recent) == [("1", 2), ("2", 1), (registration().key, 1)]
    recent.turn(100, None, TURN)
    recent.note([Put(call("2", version=2))], TURN)
    assert keys(recent)[-1] == ("2", 2)


def test_what_all_replicas_have_is_forgotten_after_a_while() -> None:
    recent = Recent()
    recent.note([Put(call("old"))], 0.0)
    assert recent.note([Put(call("late"))], TURN)
    recent.turn(1000, 0, TURN)
    recent.note([Put(call("new"))], TURN)
    # The replica has only a part of the first generation, however long ago that was.
    recent.turn(2000, 900, KEEP + 1)
    assert len(recent) == 3
    recent.turn(3000, 1000, KEEP + 1.5)
    assert [key for key, _ in keys(recent)] == ["new"]


def test_without_replicas_it_goes_by_time() -> None:
    recent = Recent()
    recent.note([Put(call("1"))], 0.0)
    recent.turn(10, None, KEEP)
    assert len(recent) == 1
    recent.turn(20, None, KEEP + 1)
    assert len(recent) == 0


def test_there_is_an_end_to_what_is_kept() -> None:
    recent = Recent()
    for n in range(5):
        recent.note([Put(call(f"{n}-{k}")) for k in range(MOST // 3)], float(n))
        recent.turn(0, 0, float(n))
    assert len(recent) <= MOST


def test_what_is_owed_is_paid_in_pieces_and_survives_another_change() -> None:
    recent = Recent()
    recent.note([Put(call(str(n))) for n in range(5)], 0.0)
    assert recent.owe() == 5
    recent.paid(recent.owed(2))
    assert [write.record.key for write in recent.owed(10)] == ["2", "3", "4"]
    recent.turn(0, None, KEEP + 1)
    assert len(recent) == 0
    recent.note([Put(call("3", version=2))], KEEP + 2)
    # The next server comes before the last one had all of it.
    assert keys(recent) == [("2", 1), ("4", 1), ("3", 2)]
