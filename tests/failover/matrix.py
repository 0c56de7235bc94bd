"""The matrix of failovers: which leg, in which state, by which transport, through what, by which family of addresses.

A cell is a call whose one leg has what the cell says; its other leg is a phone on UDP that speaks to the node itself, so
that what goes wrong belongs to the cell. Pure.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

LEGS = ("caller", "callee")
STATES = ("idle", "held by A", "held by B", "re-INVITEd by A", "re-INVITEd by B", "second failover")
TRANSPORTS = ("UDP", "TCP", "TLS", "WS")
PATHS = ("direct", "Kamailio")
FAMILIES = ("IPv4", "IPv6")
SEED = 20261123


class Cell(NamedTuple):
    leg: str
    "Whose leg it is that has transport and path of this cell: the caller's (A) or the callee's (B)."
    state: str
    transport: str
    path: str
    family: str

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "_")


def cells() -> list[Cell]:
    return [Cell(*values) for values in itertools.product(LEGS, STATES, TRANSPORTS, PATHS, FAMILIES)]


def sample(least: int = 24, seed: int = SEED) -> list[Cell]:
    """Cells in which every two values of different dimensions come together at least once; not fewer than `least`."""
    left = cells()
    random.Random(seed).shuffle(left)
    open_pairs = set(itertools.chain.from_iterable(map(pairs, left)))
    chosen: list[Cell] = []
    while open_pairs or len(chosen) < least:
        best = max(left, key=lambda cell: len(open_pairs.intersection(pairs(cell))))
        left.remove(best)
        chosen.append(best)
        open_pairs.difference_update(pairs(best))
    return sorted(chosen, key=cells().index)


def pairs(cell: Cell) -> Iterator[tuple[tuple[int, str], tuple[int, str]]]:
    """Every two values of a cell, with their dimensions."""
    return itertools.combinations(enumerate(cell), 2)


def batches(chosen: list[Cell], most: int) -> list[list[Cell]]:
    """Cells that share a pair of nodes and its failovers: all of one family, so many at a time, every state in each if there are as many."""
    made = []
    for family in FAMILIES:
        mine = [cell for cell in chosen if cell.family == family]
        count = -(-len(mine) // most)
        made += [mine[number::count] for number in range(count)]
    return made
