from __future__ import annotations

import re

import pytest

from node.sip.token import COOKIE, Names, new_tag, owner, slot, token


@pytest.mark.parametrize(
    "name", ["internal#0", "external#12", "my-profile_2#0", "sip.example.org#3", "Größe ü#1", "internal-ipv6#0"]
)
def test_a_slot_comes_back_from_its_tags_and_branches(name):
    names = Names(token(name))
    assert slot(token(name)) == name
    assert owner(names.tag()) == owner(names.branch()) == owner(new_tag(token(name))) == token(name)


def test_tokens_are_plain():
    assert token("internal#0") == "internal.0"
    assert re.fullmatch(r"[A-Za-z0-9._]+", token("a-b/c;d#0"))


@pytest.mark.parametrize(
    "text",
    ["", "1234", "z9hG4bK-524287-1---abc", "as58f4", "z9hG4bKinternal.0", "internal-0", "a.b-c", "z9hG4bK.abc-1"],
)
def test_foreign_tags_and_branches_have_no_owner(text):
    assert owner(text) is None


def test_branches_and_tags_do_not_repeat():
    names, others = Names("internal.0"), Names("internal.0")
    made = [make() for make in (names.branch, names.tag, others.branch, others.tag) for _ in range(1000)]
    assert len(set(made)) == 4000
    assert names.branch().startswith(f"{COOKIE}internal.0-")
