"""The bench of single messages runs the whole node: a REGISTER and a call from end to end, without a network."""

from __future__ import annotations

from pathlib import Path

from tests.bench import parse
from tests.bench.inside import inside
from tests.bench.message import KINDS, Run, register_callee


def test_a_round_measures_every_kind_of_message(tmp_path: Path) -> None:
    with inside(tmp_path) as worker:
        run = Run(worker)
        register_callee(run)
        run.registrations(0)
        run.calls(0)
    assert run.least.keys() >= KINDS.keys()
    assert all(seconds > 0 for seconds in run.least.values())
    assert 1 <= run.puts[0] <= 3, "a call is written too often, or not at all"


def test_the_samples_are_of_the_sizes_that_are_usual() -> None:
    assert {name: len(variants[0]) for name, variants in parse.samples().items()} == {
        "register": 988,
        "invite": 939,
        "ok": 867,
        "bye": 442,
    }
