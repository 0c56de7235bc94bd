"""Text that came from the network, made fit for what takes UTF-8 only."""

from __future__ import annotations

from typing import Any

import msgspec

REPLACED = {0xDC80 + byte: "\ufffd" for byte in range(0x80)}
"Lone surrogates, as which the stack keeps bytes that are no UTF-8."


def encodable(value: Any) -> Any:
    """The value as dictionaries, lists and scalars, each byte that was no UTF-8 shown as U+FFFD.

    For what msgpack refused with a UnicodeEncodeError: most messages have no such byte, and pay nothing.
    """
    return _plain(msgspec.to_builtins(value))


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value.translate(REPLACED).encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
