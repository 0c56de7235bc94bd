"""Every test in this folder is a scenario of the failover report; what befalls its nodes is on its picture."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.failover import report
from tests.failover.page import page
from tests.support import node as node_module
from tests.support.node import Node

NOT_FAILOVERS = ("report: ", "history: ")
"Tests of the tests."
BAD = ("killed", "stopped", "frozen")
_of: dict[str, report.Scenario] = {}


@pytest.fixture(autouse=True)
def scenario(request: pytest.FixtureRequest, nodes_do_not_break: None) -> Iterator[report.Scenario]:
    """The scenario that this test is; begun before any node is."""
    with report.scenario(name_of(request.node.nodeid)) as running:
        _of[request.node.nodeid] = running
        node_module.listeners.append(_on_event)
        try:
            yield running
        finally:
            node_module.listeners.remove(_on_event)


def name_of(nodeid: str) -> str:
    """`kill under load: every call is recovered` of the test's path and name."""
    path, _, name = nodeid.partition("::")
    module = path.rpartition("/")[2].removeprefix("test_").removesuffix(".py")
    return f"{module}: {name.removeprefix('test_')}".replace("_", " ")


def _on_event(node: Node, what: str) -> None:
    report.mark(what, node.name, bad=what in BAD)


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
    report.JSON.write_text(report.as_json(done))
    report.HTML.write_text(page(done))
    terminalreporter.section("failover")
    terminalreporter.write_line(report.table(done))
    terminalreporter.write_line(report.summary(done))
    terminalreporter.write_line(f"{report.JSON.name} and {report.HTML.name} are written")
