import pytest

from node.dialplan.inline import APPLICATIONS, steps
from store.records import Step

NOTHING: dict[str, str] = {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("answer", [Step("answer")]),
        ("answer,intercept:abc", [Step("answer"), Step("intercept", "abc")]),
        ("set:a=b, echo", [Step("set", "a=b"), Step("echo")]),
        ("m:^:set:a=b,c^echo", [Step("set", "a=b,c"), Step("echo")]),
        ("playback:'a,b',hangup:NORMAL_CLEARING", [Step("playback", "a,b"), Step("hangup", "NORMAL_CLEARING")]),
        ("", []),
    ],
)
def test_the_inline_dialplan(text: str, expected: list[Step]) -> None:
    assert steps(text) == expected


@pytest.mark.parametrize(
    ("application", "text", "changes"),
    [
        ("set", "a=b=c", {"a": "b=c"}),
        ("set", "a,b", {"a": "b"}),
        ("set", "a=", {"a": None}),
        ("multiset", "a=1 b=2", {"a": "1", "b": "2"}),
        ("multiset", "^^:a=1 x:b=2", {"a": "1 x", "b": "2"}),
        ("unset", "a", {"a": None}),
        ("multiunset", "a b", {"a": None, "b": None}),
        ("export", "a=1", {"a": "1", "export_vars": "a"}),
        ("export", "nolocal:a=1", {"nolocal:a": "1", "export_vars": "nolocal:a"}),
        ("push", "a=1", {"a": "ARRAY::1"}),
        ("eval", "whatever", {}),
    ],
)
def test_what_an_inline_application_changes(application: str, text: str, changes: dict[str, str | None]) -> None:
    assert APPLICATIONS[application](text, NOTHING.get) == changes


def test_an_export_joins_those_before_it_and_is_named_once() -> None:
    before = {"export_vars": "x,a"}
    assert APPLICATIONS["export"]("a=1", before.get)["export_vars"] == "x,a"


def test_push_and_unshift_add_at_either_end() -> None:
    before = {"a": "ARRAY::1|:2"}
    assert APPLICATIONS["push"]("a=3", before.get) == {"a": "ARRAY::1|:2|:3"}
    assert APPLICATIONS["unshift"]("a=0", before.get) == {"a": "ARRAY::0|:1|:2"}
