"""Words of a command line."""

from __future__ import annotations

import pytest

from node.console.registry import is_true, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  a   b ", ["a", "b"]),
        ("a 'b c' d", ["a", "b c", "d"]),
        ("a\\ b c", ["a b", "c"]),
        ("''", [""]),
        ("x'y z'", ["xy z"]),
    ],
)
def test_words_are_split_as_freeswitch_does(text: str, expected: list[str]):
    assert words(text) == expected


@pytest.mark.parametrize("text", ["yes", "ON", "true", "t", "enabled", "Active", "allow", "1", "-3"])
def test_these_are_true(text: str):
    assert is_true(text)


@pytest.mark.parametrize("text", ["", "no", "off", "0", "foo", "-"])
def test_everything_else_is_false(text: str):
    assert not is_true(text)
