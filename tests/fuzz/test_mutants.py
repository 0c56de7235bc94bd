"""Mutants within this process: no exception but a SipError, no message over 100 ms, memory flat. The long run is `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz.corpus import SAMPLES
from tests.fuzz.hunt import STALL, Found, hunt, hunts
from tests.fuzz.mutation import Mutator

SEED = 4475
MUTANTS = 3000
"For each target: 27,000 in all."
GROWTH = 24_576
"KiB that what is remembered of lately read URIs, Vias and descriptions may take."

HUNTS = hunts()


@pytest.mark.parametrize("name", HUNTS)
def test_no_mutant_breaks_stalls_or_fills(name, capsys):
    target, material = HUNTS[name]
    figures = hunt(name, target, material, seed=SEED, mutants=MUTANTS)
    with capsys.disabled():
        print(f"\n  {figures}", end="")
    assert figures.mutants == MUTANTS
    assert figures.slowest < STALL
    assert figures.grown < GROWTH


def test_these_are_enough():
    assert MUTANTS * len(HUNTS) >= 20_000


def test_a_seed_is_a_series():
    _target, material = HUNTS["message"]
    first, second, other = Mutator(material, 1), Mutator(material, 1), Mutator(material, 2)
    series = [first.next() for _ in range(200)]
    assert series == [second.next() for _ in range(200)]
    assert series != [other.next() for _ in range(200)]


def test_what_breaks_is_found_and_shown():
    def fragile(data: bytes) -> None:
        assert b"\xff" not in data, "no ff"

    with pytest.raises(Found, match=r"fragile, seed 7, mutant \d+:\nb'"):
        hunt("fragile", fragile, SAMPLES, seed=7, mutants=2000)


def test_what_reaches_new_lines_is_kept():
    target, material = HUNTS["message"]
    figures = hunt("message", target, material, seed=SEED, mutants=1600)
    assert figures.reached > 400
    assert figures.kept > 0
