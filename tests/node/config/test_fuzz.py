"""Whatever a file holds, it is said what is wrong with it; nothing escapes."""

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.config import Complaint, check
from node.config.regex import BadExpression, compiled
from node.dialplan.expand import expand

CONF = Path(__file__).parents[3] / "conf"
PIECES = [
    "<",
    ">",
    "/>",
    '"',
    "&",
    "<!--",
    "-->",
    "]]>",
    "<![CDATA[",
    "\x00",
    "é",
    "$${",
    "}",
    "</profile>",
    "<!DOCTYPE a>",
]


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_tree_gives_complaints_with_places_that_exist(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    shutil.copytree(CONF, tmp_path / "conf")
    files = sorted((tmp_path / "conf").rglob("*.xml"))
    for file in chance.sample(files, 3):
        text = file.read_text()
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice([*PIECES, ""]) + text[at + chance.randint(0, 5) :]
        file.write_text(text)
    for complaint in check(tmp_path / "conf"):
        assert isinstance(complaint, Complaint)
        assert 1 <= complaint.line <= complaint.file.read_text(errors="replace").count("\n") + 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"ab01()[]{}?*+|^$\/:.<>=!PQEKx-_NXZ,", max_size=20))
def test_an_expression_compiles_or_is_refused(text: str) -> None:
    with suppress(BadExpression):
        compiled(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab${}()[]:-1\\' ", max_size=40))
def test_any_text_can_be_expanded(text: str) -> None:
    assert isinstance(expand(text, {"a": "1", "b": "${a}"}.get, lambda _name, words: words), str)
