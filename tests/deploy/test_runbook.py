"""What deploy/README.md names is there: commands, params, variables, files, events, log lines."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from ha import orders
from ha.cli import _parser
from node.config import check
from node.config.profile_params import PARAMETERS
from node.config.section_readers import HA_PARAMETERS
from node.console.commands import core, show, sofia_global, sofia_profile
from node.console.server import registry
from store.sql import schema

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", PAGE, flags=re.S | re.M))
STATEMENTS = [value for value in vars(schema).values() if isinstance(value, str)]
"What makes the tables of the store, with the names of their columns."
LINES = [line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.S | re.M) for line in block.splitlines()]


@cache
def sources() -> str:
    """All the code of a node."""
    return "\n".join(
        path.read_text(encoding="utf-8") for part in ("ha", "node", "store") for path in (ROOT / part).rglob("*.py")
    )


def rows(head: str) -> list[list[str]]:
    """The rows of the tables whose first column is headed so, cell by cell."""
    found: list[list[str]] = []
    for table in re.findall(rf"^\| {head} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.M):
        found += [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert found, head
    return found


def shell_words() -> list[str]:
    return SPANS + LINES


def test_every_order_is_one_that_sofia_node_takes() -> None:
    verbs = {match for text in shell_words() for match in re.findall(r"sofia-node ([a-z]+)\b", text)}
    known = set(orders.VERBS) | {"run", "check", "store"}
    assert {"switchover", "health", "status", "promote", "demote", "check"} <= verbs
    assert verbs - known == {"leave", "return"}, "those of keepalived-hands"
    parser = _parser()
    for text in shell_words():
        if text.startswith("sofia-node ") and "--" in text:
            parser.parse_args(text.split()[1:])
    for text in re.findall(r"sofia-node store (\w+) DSN", PAGE):
        parser.parse_args(["store", text, "DSN"])


def test_the_hands_of_keepalived_know_the_words() -> None:
    script = (ROOT / "deploy" / "keepalived" / "keepalived-hands").read_text()
    for word in re.findall(r"keepalived-hands sofia-node (\w+)", PAGE):
        assert re.search(rf"^{word}\) ", script, re.M)


def test_the_console_knows_every_command() -> None:
    known = {command.name: command for command in registry()}
    commands = [span.split() for span in SPANS if span.startswith("sofia ")]
    assert len(commands) > 8
    helps = "\n".join(vars(each).get("__doc__") or "" for each in (core, show, sofia_global, sofia_profile))
    for words in commands:
        name = words[1] if words[1] in known else "sofia"
        assert name in known
        assert words[1] in known or words[1] in sources(), words
        assert words[-1] in sources() + helps, words


def test_every_variable_is_one_of_the_tree() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "conf").rglob("*.xml"))
    known = set(re.findall(r'data="(\w+)=|\$\$\{(\w+)\}', text))
    known = {name for pair in known for name in pair}
    named = {name for each in shell_words() for name in re.findall(r"(?:^|--set |\s)([a-z]+(?:_[a-z]+)+)=?", each)}
    named |= {name for name in ("domain", "election") if f"`{name}" in PAGE}
    assert {"election", "address_mode", "core_db_dsn", "node_name"} <= named
    of_the_store = {word for statement in STATEMENTS for word in re.findall(r"[a-z_]+", statement)}
    assert named - known - of_the_store == set()
    settings = {"default_password": "one-of-our-own", "election": "ordered", "address_mode": "none"}
    assert [str(each) for each in check(ROOT / "conf", settings)] == []


def test_every_param_is_one_that_is_read() -> None:
    known = set(HA_PARAMETERS) | set(PARAMETERS)
    named = {cells[0].strip("`") for cells in rows("param")}
    assert len(named) >= 4
    assert named - known == set()


def test_every_file_of_ours_is_there() -> None:
    for span in shell_words():
        for path in re.findall(r"(?:^|\s)((?:deploy|conf)/[\w./-]*\w)", span):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("cells", rows("event"), ids=lambda cells: cells[0])
def test_every_event_is_fired(cells: list[str]) -> None:
    assert f'"{cells[0].strip("`")}"' in sources()
    assert len(cells) == 3
    assert all(cells)


@pytest.mark.parametrize("cells", rows("log line"), ids=lambda cells: cells[0])
def test_every_log_line_is_written(cells: list[str]) -> None:
    assert cells[0].strip("`") in sources()
    assert len(cells) == 3
    assert all(cells)


def test_every_word_of_a_hooks_environment_is_set() -> None:
    named = set(re.findall(r"`(SOFIA_[A-Z_]+)`", PAGE)) - {"SOFIA_OPTIONS"}
    said = {word for word in re.findall(r'"(SOFIA_[A-Z_]+)"', sources()) if word not in ("SOFIA_DEBUG",)}
    assert named == said & named
    assert len(named) == 10


def test_the_scripts_are_sound() -> None:
    for path in ("keepalived/keepalived-hands", "pacemaker/sofia-node", "pacemaker/create-resources"):
        subprocess.run(["sh", "-n", str(ROOT / "deploy" / path)], check=True)
