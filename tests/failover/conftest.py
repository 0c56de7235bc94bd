"""Every test in this folder is a scenario of the failover report; what befalls its nodes is on its picture."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from tests.failover import headline, measure, report
from tests.failover.page import page
from tests.support import node as node_module
from tests.support.chronicle import Chronicle
from tests.support.node import Node
from tests.support.prober import NO_FAULT

NOT_FAILOVERS = ("report: ", "matrix: the sample", "matrix: every cell")
"Tests of the tests."
LOOK = ("active", "ready", "stopped")
GOOD = (*NO_FAULT, "switched over")
_of: dict[str, report.Scenario] = {}


@pytest.fixture(autouse=True)
def scenario(request: pytest.FixtureRequest, nodes_do_not_break: None) -> Iterator[report.Scenario]:
    """The scenario that this test is; begun before any node is."""
    with report.scenario(name_of(request.node.nodeid)) as running:
        _of[request.node.nodeid] = running
        measure.present.clear()
        node_module.listeners.append(_on_event)
        try:
            yield running
        finally:
            node_module.listeners.remove(_on_event)


@pytest.fixture(autouse=True)
def chronicle(scenario: report.Scenario) -> Iterator[Chronicle]:
    """The history of this test's nodes, judged when all of them have been stopped."""
    with Chronicle() as chronicle, chronicling(chronicle):
        yield chronicle
    judge(chronicle, scenario)


@contextmanager
def chronicling(chronicle: Chronicle) -> Iterator[None]:
    """Every node that is started meanwhile is heard, and its store looked into whenever something befalls it."""

    def on_event(node: Node, what: str) -> None:
        if what == "started":
            chronicle.hear(node)
        elif what in LOOK:
            chronicle.note(node)

    node_module.listeners.append(on_event)
    try:
        yield
    finally:
        node_module.listeners.remove(on_event)


def judge(chronicle: Chronicle, scenario: report.Scenario) -> None:
    """Draw who ruled when, and fail if two acted at once."""
    wrong = chronicle.verdict()
    now, ago = time.time(), time.monotonic()
    for reign in chronicle.reigns():
        begin, end = (max(scenario.began, ago - (now - moment)) for moment in (reign.begin, reign.end))
        words = f"epoch {reign.epoch}: {reign.answers} answers, {reign.writes} writes"
        scenario.marks.append(report.Mark(begin - scenario.began, reign.node, words, end - scenario.began))
    if chronicle.rows:
        scenario.two_actives = max(scenario.two_actives or 0, len(wrong))
        headline.count("histories with one active at a time", not wrong, 1)
    assert wrong == [], "two nodes acted at once:\n" + "\n".join(wrong[:20])


def name_of(nodeid: str) -> str:
    """`kill under load: every call is recovered` of the test's path and name."""
    path, _, name = nodeid.partition("::")
    module = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return f"{module}: {name.removeprefix('test_')}".replace("_", " ")


def _on_event(node: Node, what: str) -> None:
    report.mark(what, node.name, bad=what not in GOOD)
    if what == "started":
        measure.present.append(node)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    outcome = yield
    running = _of.get(item.nodeid)
    if running is not None and (outcome.when == "call" or outcome.outcome != "passed"):
        running.result = outcome.outcome
    return outcome


def _is_scenario(each: report.Scenario) -> bool:
    return bool(each.result) and not each.name.startswith(NOT_FAILOVERS)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    done = [each for each in report.scenarios if _is_scenario(each)]
    if not done:
        return
    promised = headline.rows()
    report.JSON.write_text(report.as_json(done, [row.figures() for row in promised]))
    report.HTML.write_text(page(done, promised))
    terminalreporter.section("failover")
    terminalreporter.write_line(headline.table(promised) + "\n")
    terminalreporter.write_line(report.table(done))
    terminalreporter.write_line(report.summary(done))
    terminalreporter.write_line(f"{report.JSON.name} and {report.HTML.name} are written")
