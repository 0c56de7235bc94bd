"""What a newer release has put into a record, and this one does not know: kept beside what it knows, and written back (pure).

Only records that hold such a thing cost anything: the decoders refuse them, and they are read once more, field by field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec

FIELD = "beyond"
"The field of a struct that holds what is not known of it. What has no such field loses it."

S = TypeVar("S", bound=msgspec.Struct)


def convert(values: Mapping[str, Any], kind: type[S]) -> S:
    """A struct from plain values, unknown fields in its `beyond`. Raises `msgspec.ValidationError`."""
    return msgspec.convert(_sifted(values, kind), kind)


def spread(values: dict[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The inverse: plain values with what was not known among the others again. Changes what it is given."""
    for name, of in _parts(kind).items():
        inner = values.get(name)
        for one in inner if isinstance(inner, list) else [inner]:
            if isinstance(one, dict):
                spread(one, of)
    for name, value in (values.pop(FIELD, None) or {}).items():
        values.setdefault(name, value)
    return values


def _sifted(values: Mapping[str, Any], kind: type[msgspec.Struct]) -> dict[str, Any]:
    known = _known(kind)
    found = {name: value for name, value in values.items() if name in known}
    unknown = {name: value for name, value in values.items() if name not in known}
    for name, of in _parts(kind).items():
        inner = found.get(name)
        if isinstance(inner, dict):
            found[name] = _sifted(inner, of)
        elif isinstance(inner, list):
            found[name] = [_sifted(one, of) if isinstance(one, dict) else one for one in inner]
    if unknown and FIELD in known:
        found[FIELD] = unknown | (found.get(FIELD) or {})
    return found


@cache
def _known(kind: type[msgspec.Struct]) -> frozenset[str]:
    return frozenset(kind.__struct_fields__)


@cache
def _parts(kind: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct]]:
    """The fields that hold structs, or lists of them, which rest as maps."""
    return {field.name: of for field in msgspec.structs.fields(kind) if (of := _struct_in(field.type)) is not None}


def _struct_in(hint: Any) -> type[msgspec.Struct] | None:
    """The struct in `Struct`, `Struct | None` or `list[Struct]`."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return None if hint.__struct_config__.array_like else hint
    return next((found for each in get_args(hint) if (found := _struct_in(each)) is not None), None)
