"""What is said when asked for, how loud, and where."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from node import debug
from node.debug import COMPONENTS, VARIABLES, levels_at_start, nta, nua, presence, siptrace, sla


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    yield
    debug.begin(0, "CONSOLE", presence_on=False, sla_on=False, environment={})


def test_sofia_conf_gives_the_level_of_all() -> None:
    assert levels_at_start(3, {}) == dict.fromkeys(COMPONENTS, 3)


@pytest.mark.parametrize(("variable", "names"), VARIABLES.items())
def test_each_variable_sets_its_own(variable: str, names: tuple[str, ...]) -> None:
    levels = levels_at_start(1, {variable: "7"})
    assert {name for name, level in levels.items() if level == 7} == set(names)


def test_sofia_debug_is_for_those_without_a_variable() -> None:
    levels = levels_at_start(0, {"SOFIA_DEBUG": "9", "NTA_DEBUG": "2"})
    assert levels.pop("nta") == 2
    assert set(levels.values()) == {9}


@pytest.mark.parametrize(("text", "level"), [("9", 9), ("12", 9), ("0", 0), ("", 4), ("high", 4), ("-1", 4)])
def test_what_is_no_level_is_passed_over(text: str, level: int) -> None:
    assert levels_at_start(4, {"NUA_DEBUG": text})["nua"] == level


def test_each_component_has_a_variable() -> None:
    assert {name for names in VARIABLES.values() for name in names} == set(COMPONENTS)


def test_all_means_each_and_an_unknown_name_nobody() -> None:
    debug.set_level("all", 6)
    debug.set_level("nosuch", 9)
    debug.set_level("nua", 1)
    assert (nta.level, nua.level) == (6, 1)


def test_lines_go_out_at_the_tracelevel(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for name in ("CONSOLE", "ALERT", "NOTICE", "INFO", "DEBUG", "DISABLE"):
        debug.set_tracelevel(name)
        nta.say("at %s", name)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("CONSOLE", "at CONSOLE"),
        ("ALERT", "at ALERT"),
        ("NOTICE", "at NOTICE"),
        ("INFO", "at INFO"),
    ]


def test_nothing_is_made_of_what_nobody_would_see(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    heard = {}
    for name in ("CONSOLE", "INFO", "DEBUG", "DISABLE"):
        debug.set_tracelevel(name)
        heard[name] = siptrace.heard
    assert heard == {"CONSOLE": True, "INFO": True, "DEBUG": False, "DISABLE": False}


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("info", "INFO"),
        (" Err ", "ERR"),
        ("0", "CONSOLE"),
        ("7", "DEBUG"),
        ("8", ""),
        ("disable", "DISABLE"),
        ("x", ""),
    ],
)
def test_a_tracelevel_is_a_name_or_a_number(text: str, level: str) -> None:
    assert debug.tracelevel_of(text) == level


def test_the_areas_begin_as_sofia_conf_says() -> None:
    debug.begin(2, "ERR", presence_on=True, sla_on=False, environment={"NUA_DEBUG": "5"})
    assert (nta.level, nua.level, presence.level, sla.level, debug.tracelevel()) == (2, 5, 9, 0, "ERR")
