"""What the report says of scenarios, and that its page stands alone."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree

import pytest

from tests.failover import headline, report
from tests.failover.conftest import name_of
from tests.failover.headline import Goal, Row
from tests.failover.page import page, picture
from tests.failover.report import Mark, Scenario


def test_a_scenario_has_the_figures_that_are_recorded_while_it_runs(scenario: Scenario) -> None:
    report.record(calls=7, calls_lost=1, sip_gap_ms=412.3456, two_actives=0)
    report.mark("killed", "alpha")
    assert scenario.name == "report: a scenario has the figures that are recorded while it runs"
    assert (scenario.calls, scenario.calls_lost, scenario.sip_gap_ms, scenario.two_actives) == (7, 1, 412.35, 0)
    assert [(mark.lane, mark.text) for mark in scenario.marks] == [("alpha", "killed")]
    with pytest.raises(AssertionError, match="the report has"):
        report.record(gap=1)


def test_the_file_has_the_promised_keys() -> None:
    keys = ["name", "result", "calls", "calls_lost", "ringing", "ringing_lost", "sip_gap_ms", "audio_gap_ms"]
    (row,) = json.loads(report.as_json([Scenario("one", "passed")]))["scenarios"]
    assert list(row) == [*keys, "two_actives", "seconds"]


def test_a_figure_is_suggested_only_where_none_is_recorded_and_the_worst_of_them_counts(scenario: Scenario) -> None:
    report.record(sip_gap_ms=7.0)
    for value in (30.0, 50.0, 40.0):
        report.suggest(sip_gap_ms=value, audio_gap_ms=value)
    assert (scenario.sip_gap_ms, scenario.audio_gap_ms) == (7.0, 50.0)


SLOW = Goal("slow", "1.6 s", p50=500, p99=1000)
KEPT = Goal("kept", "none", share=99)


@pytest.mark.parametrize(
    ("row", "met"),
    [
        (Row(SLOW, (400.0,) * 29), None),
        (Row(SLOW, (400.0,) * 30), True),
        (Row(SLOW, (400.0,) * 29 + (1001.0,)), False),
        (Row(SLOW, (501.0,) * 30), False),
        (Row(KEPT, kept=99, of=100), True),
        (Row(KEPT, kept=98, of=100), False),
        (Row(KEPT, kept=1, of=1), None),
        (Row(Goal("told only", "-"), (1.0,) * 30), None),
    ],
)
def test_a_promise_is_judged_by_enough_runs(row: Row, met: bool | None) -> None:
    assert row.met is met
    assert row.figures()["met"] is met


def test_what_is_promised_stands_in_file_page_and_text_beside_freeswitch() -> None:
    rows = [Row(SLOW, (400.0, 600.0)), Row(KEPT, kept=2, of=3)]
    (slow, kept) = json.loads(report.as_json([], [row.figures() for row in rows]))["headline"]
    assert (slow["runs"], slow["p50_ms"], slow["p99_ms"], slow["freeswitch"]) == (2, 600.0, 600.0, "1.6 s")
    assert (kept["runs"], kept["kept_percent"], kept["goal_kept_percent"]) == (3, 66.67, 99)
    for told in (headline.table(rows), page([], rows)):
        assert all(word in told for word in ("p50 600, p99 600 ms", "p50 ≤ 500 ms, p99 ≤ 1000 ms", "66.67 %", "1.6 s"))


def test_a_picture_is_well_formed_and_shows_each_mark() -> None:
    marks = [Mark(0.5, "alpha", "killed <1>", bad=True), Mark(1.0, "beta", "active", until=4.0)]
    drawing = ElementTree.fromstring(picture(Scenario("a & b", "passed", seconds=5.0, marks=marks)))
    assert [each.text for each in drawing.iter("title")] == ["0.500 s: killed <1>", "1.000–4.000 s: active"]
    assert {"alpha", "beta", "killed <1>", "0 s", "5 s"} <= {each.text for each in drawing.iter("text")}


def test_the_page_takes_nothing_from_elsewhere() -> None:
    text = page([Scenario("one", "passed", marks=[Mark(0.5, "alpha", "killed")]), Scenario("two", "failed")])
    assert "prefers-color-scheme: dark" in text
    assert not any(word in text for word in ("http:", "https:", "src=", "url(", "@import"))


def test_quantiles_are_by_nearest_rank() -> None:
    assert [report.quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99)] == [1.0, 3.0, 4.0]


def test_a_test_gives_its_scenario_a_name_one_can_read() -> None:
    assert name_of("tests/failover/test_node_killed.py::test_a_call_lives[udp-4]") == "node killed: a call lives[udp-4]"
