"""Bencode: what is written is read again; what is malformed is said to be so, whatever it is."""

from __future__ import annotations

import random

import pytest

from node.media.bencode import Bencoded, NotBencode, Writable, decode, encode


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (b"", b"0:"),
        (b"spam", b"4:spam"),
        (0, b"i0e"),
        (-42, b"i-42e"),
        ([], b"le"),
        ([b"a", [1]], b"l1:ali1eee"),
        ({}, b"de"),
        ({b"cow": b"moo", b"spam": [b"a", 2]}, b"d3:cow3:moo4:spaml1:ai2eee"),
    ],
)
def test_each_kind_is_read_as_it_is_written(item: Bencoded, text: bytes) -> None:
    assert decode(text) == item
    assert encode(_named(item)) == text


def test_dictionaries_are_written_in_the_order_of_their_keys_and_read_in_any() -> None:
    assert encode({"b": 1, "a": "x"}) == b"d1:a1:x1:bi1ee"
    assert decode(b"d1:bi1e1:a1:xe") == {b"a": b"x", b"b": 1}


def test_text_goes_through_byte_by_byte() -> None:
    strange = b"a\xffb\x00\xc3\xa9"
    assert decode(encode(strange.decode("utf-8", "surrogateescape"))) == strange


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"x",
        b"i",
        b"ie",
        b"i01e",
        b"i-0e",
        b"i1",
        b"i99999999999999999999999e",
        b"5:spam",
        b"-1:x",
        b"01:x",
        b"999999999:x",
        b"l",
        b"li1e",
        b"d",
        b"di1ei2ee",
        b"d1:a",
        b"d1:ae",
        b"4:spamx",
        b"i1ei2e",
        b"l" * 1000,
        b"d1:a" * 1000,
    ],
)
def test_what_is_malformed_is_refused(text: bytes) -> None:
    with pytest.raises(NotBencode):
        decode(text)


def test_damaged_answers_are_read_or_refused_and_nothing_else() -> None:
    chance = random.Random(9)
    good = encode({"result": "ok", "sdp": "v=0\r\n", "tags": {"1": {"medias": [{"streams": [1, -2, []]}]}}})
    refused = 0
    for _ in range(3000):
        damaged = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.choice(b"0123456789:deil-x\xff")
        try:
            decode(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))]))
        except NotBencode:
            refused += 1
    assert refused > 1000


def _named(item: Bencoded) -> Writable:
    """With text for keys, as we write them."""
    match item:
        case dict():
            return {key.decode(): _named(value) for key, value in item.items()}
        case list():
            return [_named(each) for each in item]
        case _:
            return item
