"""The matrix: whatever leg, state, transport, way and family, the call goes on where the other node takes over.

`make test` plays a sample in which any two values meet, `make matrix` all cells.
"""

from __future__ import annotations

import os
from functools import cache

import pytest

from tests.failover import report
from tests.failover.matrix import Cell, batches, cells, pairs, sample
from tests.failover.stage import CALLS, Result, Stage

WHOLE = os.environ.get("SOFIA_MATRIX") == "whole"
TOGETHER = 16
"Cells that share a pair of nodes."
CHOSEN = cells() if WHOLE else sample()
BATCHES = batches(CHOSEN, TOGETHER)


@cache
def result_of(number: int) -> Result | Exception:
    """A batch is played when the first of its cells is asked for."""
    try:
        return Stage(BATCHES[number]).run()
    except Exception as error:
        return error


@pytest.mark.real
@pytest.mark.peers
@pytest.mark.namespaces
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("batch", "cell"), [pytest.param(n, cell, id=str(cell)) for n, batch in enumerate(BATCHES) for cell in batch]
)
def test_a_call_outlives_the_node(batch: int, cell: Cell, scenario: report.Scenario) -> None:
    result = result_of(batch)
    if isinstance(result, Exception):
        raise AssertionError(f"its batch failed: {result!r}") from result
    outcome = result.outcomes[cell]
    scenario.began, scenario.marks = result.began, list(result.marks)
    report.record(
        calls=CALLS,
        calls_lost=outcome.lost,
        sip_gap_ms=result.sip_gap * 1000,
        two_actives=len(result.violations),
        seconds=outcome.seconds,
    )
    assert outcome.complaints == []
    assert result.violations == []


def test_the_sample_has_every_two_values_together() -> None:
    wanted = {pair for cell in cells() for pair in pairs(cell)}
    assert {pair for cell in sample() for pair in pairs(cell)} == wanted
    assert 24 <= len(sample()) <= 32
    assert len(cells()) == 192


def test_every_cell_is_in_one_batch_of_its_family() -> None:
    made = batches(cells(), TOGETHER)
    assert sorted(cell for batch in made for cell in batch) == sorted(cells())
    assert all(len({cell.family for cell in batch}) == 1 and len(batch) <= TOGETHER for batch in made)
