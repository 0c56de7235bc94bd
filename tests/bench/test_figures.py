"""The form in which the figures come: a table to read, JSON to compare by."""

from __future__ import annotations

import json
from pathlib import Path

from tests.bench.figures import Figure, table, write

BESIDE = Figure("register", "us CPU per digest REGISTER", 80.0, "kamailio", 120.0, "both write to SQLite")
ALONE = Figure("recovered_leg", "us CPU per recovered leg", 99.12345, note="no peer")


def test_a_ratio_above_one_means_that_we_are_ahead() -> None:
    assert BESIDE.ratio == 1.5
    assert Figure("call", "us", 200.0, "sippy", 100.0).ratio == 0.5


def test_of_a_rate_more_is_better() -> None:
    assert Figure("durable", "REGISTER/s", 6000.0, "kamailio", 3000.0, rate=True).ratio == 2.0


def test_without_a_peer_there_is_no_ratio() -> None:
    assert ALONE.ratio is None
    assert ALONE.as_json() == {
        "name": "recovered_leg",
        "unit": "us CPU per recovered leg",
        "ours": 99.123,
        "peer": None,
        "peers_value": None,
        "ratio": None,
        "note": "no peer",
    }


def test_a_figure_of_nothing_has_no_ratio_either() -> None:
    assert Figure("call", "us", 0.0, "sippy", 100.0).ratio is None


def test_the_table_has_a_line_a_figure_and_its_columns_stand_below_each_other() -> None:
    assert table([BESIDE, ALONE]).splitlines() == [
        "name           ours   unit                        peer      peer's  ratio  note",
        "register       80.00  us CPU per digest REGISTER  kamailio  120.00  1.50   both write to SQLite",
        "recovered_leg  99.12  us CPU per recovered leg    -         -       -      no peer",
    ]


def test_the_table_of_no_figures_is_its_heading() -> None:
    assert table([]).split() == ["name", "ours", "unit", "peer", "peer's", "ratio", "note"]


def test_the_file_is_a_list_of_objects_in_the_order_of_measuring(tmp_path: Path) -> None:
    write([BESIDE, ALONE], tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text()) == [BESIDE.as_json(), ALONE.as_json()]
