"""What needs no XML: the `inline` dialplan, and the applications that may run while a dialplan is being walked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from node.dialplan.expand import ARRAY, array, items
from store.records import Step

Lookup = Callable[[str], str | None]
Change = Callable[[str, Lookup], dict[str, str | None]]
"From an application's expanded data to the variables it changes (None: unset)."


def steps(text: str) -> list[Step]:
    """`app:data,app:data`; `m:<delimiter>:app:data<delimiter>app:data` for data that holds commas."""
    delimiter = ","
    if text.startswith("m:") and len(text) > 3 and text[3] == ":":
        delimiter, text = text[2], text[4:]
    found = []
    for part in _split(text, delimiter):
        application, _colon, argument = part.strip().partition(":")
        if application:
            found.append(Step(application, argument))
    return found


def _split(text: str, delimiter: str) -> list[str]:
    """Parts between delimiters; what stands in single quotes is kept together, without the quotes."""
    parts = [""]
    quoted = False
    for character in text:
        if character == "'":
            quoted = not quoted
        elif character == delimiter and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def assignment(text: str) -> tuple[str, str]:
    """`name=value`, or `name,value` where there is no equals sign."""
    name, equals, value = text.partition("=")
    if not equals:
        name, _comma, value = text.partition(",")
    return name.strip(), value.strip()


def several(text: str) -> list[str]:
    """`a=b c=d`, or `^^:a=b:c=d` with a delimiter of one's own."""
    if text.startswith("^^") and len(text) > 2:
        return [part for part in text[3:].split(text[2]) if part]
    return text.split()


def _set(text: str, _lookup: Lookup) -> dict[str, str | None]:
    name, value = assignment(text)
    return {name: value or None} if name else {}


def _multiset(text: str, lookup: Lookup) -> dict[str, str | None]:
    changes: dict[str, str | None] = {}
    for part in several(text):
        changes |= _set(part, lookup)
    return changes


def _unset(text: str, _lookup: Lookup) -> dict[str, str | None]:
    return {text.strip(): None}


def _multiunset(text: str, _lookup: Lookup) -> dict[str, str | None]:
    return dict.fromkeys(several(text))


def _export(text: str, lookup: Lookup) -> dict[str, str | None]:
    """Set here, unless `nolocal:`, and named in `export_vars`, so that it goes to the other legs."""
    local = not text.startswith("nolocal:")
    name, value = assignment(text.removeprefix("nolocal:"))
    if not name:
        return {}
    kept = [known for known in (lookup("export_vars") or "").split(",") if known and known != name]
    exported = name if local else f"nolocal:{name}"
    return {name if local else f"nolocal:{name}": value or None, "export_vars": ",".join([*kept, exported])}


def _push(text: str, lookup: Lookup) -> dict[str, str | None]:
    name, value = assignment(text)
    return {name: array([*_kept(lookup(name)), value])} if name else {}


def _unshift(text: str, lookup: Lookup) -> dict[str, str | None]:
    name, value = assignment(text)
    return {name: array([value, *_kept(lookup(name))])} if name else {}


def _kept(value: str | None) -> list[str]:
    if not value or value == ARRAY:
        return []
    return items(value)


def _eval(_text: str, _lookup: Lookup) -> dict[str, str | None]:
    return {}


APPLICATIONS: Mapping[str, Change] = {
    "set": _set,
    "multiset": _multiset,
    "unset": _unset,
    "multiunset": _multiunset,
    "export": _export,
    "push": _push,
    "unshift": _unshift,
    "set_profile_var": _set,
    "eval": _eval,
    "log": _eval,
    "info": _eval,
}
"Those that FreeSWITCH allows inline and this node has; `log` and `info` have nothing to say before the call is routed."
