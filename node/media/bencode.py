"""Bencode, the way rtpengine's control protocol writes things down (pure): byte strings, whole numbers, lists, dictionaries."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

Bencoded = bytes | int | list["Bencoded"] | dict[bytes, "Bencoded"]
"What is read."
Writable = bytes | str | int | Sequence["Writable"] | Mapping[str, "Writable"]
"What can be written: text is UTF-8; what came out of it by surrogateescape goes back in."

DEPTH = 32
"Lists and dictionaries within one another."
_NUMBER = re.compile(rb"i(0|-?[1-9][0-9]{0,18})e")
_LENGTH = re.compile(rb"(0|[1-9][0-9]{0,7}):")


class NotBencode(ValueError):
    """What cannot be read, with the place where it went wrong."""


def encode(item: Writable) -> bytes:
    """Dictionaries are sorted by their keys."""
    parts: list[bytes] = []
    _write(item, parts)
    return b"".join(parts)


def _write(item: Writable, parts: list[bytes]) -> None:
    match item:
        case str():
            text = item.encode("utf-8", "surrogateescape")
            parts.append(b"%d:%s" % (len(text), text))
        case bytes():
            parts.append(b"%d:%s" % (len(item), item))
        case int():
            parts.append(b"i%de" % item)
        case Mapping():
            parts.append(b"d")
            for key in sorted(item):
                _write(key, parts)
                _write(item[key], parts)
            parts.append(b"e")
        case _:
            parts.append(b"l")
            for each in item:
                _write(each, parts)
            parts.append(b"e")


def decode(text: bytes) -> Bencoded:
    """Read one item that fills the text. Raises NotBencode. The keys of a dictionary may come in any order."""
    item, end = _read(text, 0, DEPTH)
    if end != len(text):
        raise NotBencode(f"something follows at {end}")
    return item


def _read(text: bytes, at: int, depth: int) -> tuple[Bencoded, int]:
    kind = text[at : at + 1]
    if kind == b"i":
        number = _NUMBER.match(text, at)
        if number is None:
            raise NotBencode(f"no number at {at}")
        return int(number[1]), number.end()
    if kind in (b"l", b"d"):
        if not depth:
            raise NotBencode(f"too deep at {at}")
        return _read_list(text, at + 1, depth - 1) if kind == b"l" else _read_dictionary(text, at + 1, depth - 1)
    return _read_string(text, at)


def _read_string(text: bytes, at: int) -> tuple[bytes, int]:
    length = _LENGTH.match(text, at)
    if length is None:
        raise NotBencode(f"nothing that can be read at {at}")
    end = length.end() + int(length[1])
    if end > len(text):
        raise NotBencode(f"the string at {at} is cut off")
    return text[length.end() : end], end


def _read_list(text: bytes, at: int, depth: int) -> tuple[list[Bencoded], int]:
    items: list[Bencoded] = []
    while text[at : at + 1] != b"e":
        item, at = _read(text, at, depth)
        items.append(item)
    return items, at + 1


def _read_dictionary(text: bytes, at: int, depth: int) -> tuple[dict[bytes, Bencoded], int]:
    items: dict[bytes, Bencoded] = {}
    while text[at : at + 1] != b"e":
        key, at = _read_string(text, at)
        items[key], at = _read(text, at, depth)
    return items, at + 1
