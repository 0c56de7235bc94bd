"""What ARCHITECTURE.md and README.md say is there, is there."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from node.config import check

ROOT = Path(__file__).parents[1]
PAGES = ("ARCHITECTURE.md", "README.md")
SPAN = re.compile(r"`([^`\n]+)`")
FENCED = re.compile(r"^```.*?^```", re.S | re.M)
PLACE = re.compile(r"(\S+\.py): (\w+(?:\.\w+)?)")
TEST = re.compile(r"(tests/\S+\.py)::(test_\w+)")
SET = re.compile(r"--set (\w+)=(\S*)")
LOOPS_AND_DRIVERS = ("asyncio", "ssl", "sqlite3", "pyodbc", "redis", "dns", "uvloop", "prompt_toolkit")
OF_NODE = ("node.config", "node.debug", "node.link", "node.log")
"All that a supervisor may load of it."


def spans(page: str) -> list[str]:
    """What stands in backticks, blocks of code left out."""
    return SPAN.findall(FENCED.sub("", (ROOT / page).read_text(encoding="utf-8")))


@cache
def names(path: Path) -> frozenset[str]:
    """What a module defines at its top, and `Class.method` for each method defined in a class of it."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                found.update(f"{name}.{each.name}" for each in body if isinstance(each, ast.FunctionDef))
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def fault(span: str) -> str:
    """What is wrong with a span that names a place, a test or a file of this repository; empty: nothing."""
    place, test = PLACE.fullmatch(span), TEST.fullmatch(span)
    if place or test:
        file, name = (place or test).groups()
        path = ROOT / file
        if not path.is_file():
            return f"{span}: there is no such file"
        return "" if name in (names(path) if place else functions(path)) else f"{span}: not defined there"
    if is_path(span) and not (ROOT / span).exists():
        return f"{span}: there is no such file or directory"
    return ""


def is_path(span: str) -> bool:
    """A path of this repository, as opposed to one of a run directory, an endpoint, or a command."""
    if " " in span or "*" in span:
        return False
    first, slash, _rest = span.partition("/")
    return bool(slash and first in {each.name for each in ROOT.iterdir()}) or span.endswith((".md", ".py", ".toml"))


@pytest.mark.parametrize("page", PAGES)
def test_every_place_named_here_is_in_the_code(page: str) -> None:
    assert [wrong for span in spans(page) if (wrong := fault(span))] == []


def test_the_walks_are_walks_through_the_code() -> None:
    assert sum(bool(PLACE.fullmatch(span)) for span in spans("ARCHITECTURE.md")) > 100
    assert sum(bool(TEST.fullmatch(span)) for span in spans("ARCHITECTURE.md")) > 20


@pytest.mark.parametrize(
    "span",
    [
        "node/nowhere.py",
        "ha/policy.py: undecided",
        "node/calls/call.py: Call.telephone",
        "node/nowhere.py: Call",
        "tests/ha/test_policy.py::test_that_is_not_there",
    ],
)
def test_what_is_not_there_is_noticed(span: str) -> None:
    assert fault(span).startswith(f"{span}: ")


def test_every_promise_has_a_test() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|.*", text, re.M)
    assert rows == [str(number) for number in range(1, 11)]
    assert all(TEST.search(row) for row in re.findall(r"^\| \d+ \|.*", text, re.M))


def test_the_tree_takes_every_variable_that_the_readme_sets() -> None:
    overrides = {name: value for name, value in SET.findall((ROOT / "README.md").read_text()) if name != "name"}
    assert {"peer_listen", "core_db_dsn", "default_password"} <= overrides.keys()
    overrides["default_password"] = "one-of-our-own"
    assert [str(complaint) for complaint in check(ROOT / "conf", overrides)] == []


def test_make_has_every_target_that_the_readme_names() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert {span.split()[1] for span in spans("README.md") if span.startswith("make ")} <= targets


def test_the_supervisor_loads_no_engine() -> None:
    """The import contracts read the source; this looks at a process."""
    show = "import sys, ha.cli; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", show], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    modules = loaded.split()
    assert "ha.supervisor" in modules
    assert not set(LOOPS_AND_DRIVERS) & set(modules)
    assert not {"store.backends", "store.writer"} & set(modules)
    assert [each for each in modules if each.startswith("node.") and not each.startswith(OF_NODE)] == []
