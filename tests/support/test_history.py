"""The checker finds what is planted, and nothing in histories that are right."""

from __future__ import annotations

import random

import pytest

from tests.support.history import Event, Kind, reigns, violations

TAKEN, RELEASED, WRITE, ANSWER = Kind.TAKEN, Kind.RELEASED, Kind.WRITE, Kind.ANSWER


def story(*steps: tuple[str, Kind, int] | tuple[str, Kind]) -> list[Event]:
    """Events a second apart; writes are all for one slot."""
    return [
        Event(float(at), node, kind, *epoch, slot="internal#0" if kind is WRITE else "")
        for at, (node, kind, *epoch) in enumerate(steps)
    ]


RIGHT = story(
    ("alpha", TAKEN, 1),
    ("alpha", WRITE, 1),
    ("alpha", ANSWER),
    ("alpha", WRITE, 2),
    ("beta", TAKEN, 3),
    ("beta", WRITE, 3),
    ("beta", ANSWER),
    ("beta", RELEASED, 3),
    ("alpha", TAKEN, 4),
    ("alpha", ANSWER),
    ("alpha", WRITE, 4),
)


def test_a_history_of_one_at_a_time_is_right() -> None:
    assert violations(RIGHT) == []
    assert [(reign.node, reign.begin, reign.end, reign.answers, reign.writes) for reign in reigns(RIGHT)] == [
        ("alpha", 0.0, 4.0, 1, 2),
        ("beta", 4.0, 7.0, 1, 1),
        ("alpha", 8.0, 10.0, 1, 1),
    ]


def test_a_journal_written_late_by_the_node_that_still_rules_is_right() -> None:
    assert violations(story(("alpha", TAKEN, 1), ("alpha", WRITE, 2), ("alpha", WRITE, 1))) == []


def test_epochs_may_begin_anew_with_a_store_that_is_set_back_but_nobody_acts_beside_the_other() -> None:
    begun = (("alpha", TAKEN, 7), ("alpha", WRITE, 7), ("", Kind.SET_BACK), ("beta", TAKEN, 3), ("beta", WRITE, 4))
    assert violations(story(*begun, ("beta", ANSWER), ("alpha", TAKEN, 5), ("alpha", ANSWER))) == []
    for act in (("alpha", ANSWER), ("alpha", WRITE, 7)):
        assert len(violations(story(*begun, act))) == 1


@pytest.mark.parametrize(
    ("steps", "complaint"),
    [
        (
            (("alpha", TAKEN, 1), ("beta", TAKEN, 2), ("alpha", ANSWER)),
            "2.000 alpha sends a 2xx, after: 1.000 beta takes the lease under epoch 2",
        ),
        (
            (("alpha", TAKEN, 1), ("beta", TAKEN, 2), ("alpha", WRITE, 1)),
            "2.000 alpha has a write accepted under epoch 1 for internal#0, after: 1.000 beta takes the lease under epoch 2",
        ),
        (
            (("alpha", TAKEN, 1), ("alpha", RELEASED, 1), ("alpha", ANSWER)),
            "2.000 alpha sends a 2xx, after it has given the lease back",
        ),
        (
            (("alpha", TAKEN, 1), ("beta", ANSWER)),
            "1.000 beta sends a 2xx, after: 0.000 alpha takes the lease under epoch 1",
        ),
        ((("beta", ANSWER),), "0.000 beta sends a 2xx, and nobody has taken the lease"),
        (
            (("alpha", TAKEN, 2), ("beta", TAKEN, 1)),
            "1.000 beta takes the lease under epoch 1, after: 0.000 alpha takes the lease under epoch 2",
        ),
        (
            (("alpha", TAKEN, 1), ("beta", TAKEN, 2), ("beta", WRITE, 1)),
            "2.000 beta has a write accepted under epoch 1 for internal#0, but the epoch is alpha's",
        ),
        (
            (("alpha", TAKEN, 1), ("alpha", WRITE, 5), ("beta", TAKEN, 6), ("beta", WRITE, 4)),
            "3.000 beta has a write accepted under epoch 4 for internal#0, after: 1.000 alpha has a write accepted "
            "under epoch 5 for internal#0",
        ),
    ],
    ids=[
        "an answer of who was replaced",
        "a write of who was replaced",
        "an answer after the lease was given back",
        "an answer of who never had the lease",
        "an answer before any lease",
        "epochs that fall",
        "somebody else's epoch",
        "an epoch below the other's",
    ],
)
def test_what_is_wrong_is_told(steps: tuple[tuple[str, Kind, int], ...], complaint: str) -> None:
    assert complaint in violations(story(*steps))


@pytest.mark.parametrize("seed", range(50))
def test_one_act_of_the_deposed_among_thousands_is_found(seed: int) -> None:
    """A right history of many reigns, into which one answer or write of the one who no longer rules is put."""
    chance = random.Random(seed)
    events: list[Event] = []
    now, epoch, node = 0.0, 0, "alpha"
    for _ in range(20):
        node = "beta" if node == "alpha" else "alpha"
        epoch += chance.choice([1, 1, 3])
        events.append(Event(now, node, TAKEN, epoch))
        for _ in range(50):
            now += chance.expovariate(100)
            kind = chance.choice([WRITE, ANSWER])
            events.append(
                Event(now, node, kind, epoch if kind is WRITE else 0, slot="internal#0" if kind is WRITE else "")
            )
    assert violations(events) == []
    place = chance.randrange(60, len(events))
    ruler = next(event for event in reversed(events[:place]) if event.kind is TAKEN)
    other = "alpha" if ruler.node == "beta" else "beta"
    old = max(event.epoch for event in events[:place] if event.node == other)
    kind = chance.choice([WRITE, ANSWER])
    stray = Event(
        events[place].at, other, kind, old if kind is WRITE else 0, slot="internal#0" if kind is WRITE else ""
    )
    found = violations([*events[:place], stray, *events[place:]])
    assert len(found) >= 1
    assert all(str(stray) in text for text in found)
