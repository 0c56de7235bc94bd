from __future__ import annotations

import pytest

from node.calls import dial_string
from node.calls.dial_string import BadDialString, SofiaTarget, Target


def shown(text: str) -> list[list[list[str]]]:
    """Parts, groups, legs."""
    return [[[str(leg) for leg in group] for group in part.groups] for part in dial_string.parse(text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("user/1001@pbx.test", [[["user/1001@pbx.test"]]]),
        ("user/1,user/2", [[["user/1", "user/2"]]]),
        ("user/1|user/2,user/3", [[["user/1"], ["user/2", "user/3"]]]),
        ("user/1:_:user/2|user/3", [[["user/1"]], [["user/2"], ["user/3"]]]),
        ("SOFIA/internal/a@b , error/USER_BUSY", [[["sofia/internal/a@b", "error/USER_BUSY"]]]),
        ("{a=b,c='x|y'}user/1|user/2", [[["user/1"], ["user/2"]]]),
        ("[leg_timeout=5,x=1|2]user/1,[y='a,b']user/2", [[["user/1", "user/2"]]]),
    ],
)
def test_commas_bars_and_enterprise_marks_part_a_dial_string(text: str, parts: list[list[list[str]]]) -> None:
    assert shown(text) == parts


def test_variables_of_all_parts_of_all_legs_and_of_one_leg() -> None:
    parts = dial_string.parse("<e=1>{a=b}{c='x,y',d=a\\,b}[f=g]user/1,user/2:_:{h=i}user/3")
    assert parts[0].variables == {"e": "1", "a": "b", "c": "x,y", "d": "a,b"}
    assert parts[0].groups[0] == (Target("user", "1", {"f": "g"}), Target("user", "2"))
    assert parts[1].variables == {"e": "1", "h": "i"}


def test_another_separator_may_be_named() -> None:
    (part,) = dial_string.parse("{^^:sip_invite_domain=pbx.test:presence_id=1001@pbx.test:codecs=a,b}user/1")
    assert part.variables == {"sip_invite_domain": "pbx.test", "presence_id": "1001@pbx.test", "codecs": "a,b"}


def test_a_name_without_a_value_is_true_and_an_apostrophe_in_a_name_is_one() -> None:
    assert dial_string.pairs("flag,name=O'Hara,b=c") == {"flag": "true", "name": "O'Hara", "b": "c"}


@pytest.mark.parametrize("text", ["", "|", "nonsense", "{a=b", "{a=b}", "/x", "user/1,nothing"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadDialString):
        dial_string.parse(text)


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ("internal/1001@192.0.2.1:5070", SofiaTarget(profile="internal", uri="1001@192.0.2.1:5070")),
        (
            "internal/sip:1001@192.0.2.1;transport=tcp",
            SofiaTarget(profile="internal", uri="sip:1001@192.0.2.1", params=";transport=tcp"),
        ),
        ("internal/1001%pbx.test", SofiaTarget(profile="internal", user="1001", domain="pbx.test")),
        ("internal/1001", SofiaTarget(profile="internal", user="1001")),
        (
            "foo/user%192.168.1.1^101@domain",
            SofiaTarget(profile="foo", user="user", domain="192.168.1.1", to="101@domain"),
        ),
        ("gateway/carrier/4930", SofiaTarget(gateway="carrier", uri="4930")),
        ("gateway/external::carrier/4930", SofiaTarget(profile="external", gateway="carrier", uri="4930")),
        ("internal/+4930@h", SofiaTarget(profile="internal", uri="+4930@h")),
        ("internal/a b@h", SofiaTarget(profile="internal", uri="a%20b@h")),
    ],
)
def test_what_follows_sofia(arguments: str, target: SofiaTarget) -> None:
    assert dial_string.sofia(arguments) == target


@pytest.mark.parametrize("arguments", ["internal", "internal/", "gateway/carrier", ""])
def test_a_sofia_target_without_a_destination_is_refused(arguments: str) -> None:
    with pytest.raises(BadDialString):
        dial_string.sofia(arguments)
