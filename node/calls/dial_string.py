"""Dial strings: what `bridge` and `originate` are given.

`[<for all parts>]{for all legs} [for one leg]endpoint/arguments , ... | ... :_: ...` (`switch_ivr_originate`):
`,` calls at once, `|` one after the other, `:_:` parts are tried side by side. Values may be quoted with `'`, a comma in one may
be escaped, and `^^` at the start of a list names another separator. Text is taken as it is: `${...}` is the caller's to expand.
"""

from __future__ import annotations

from functools import lru_cache

from msgspec import Struct

_PAIRS = {"{": "}", "[": "]", "<": ">"}


class BadDialString(ValueError):
    """A dial string that cannot be read: the call fails with INVALID_URL."""


class Target(Struct, frozen=True):
    """One leg to be called: `endpoint/arguments` with the variables of this leg alone."""

    endpoint: str
    "`sofia`, `user`, `error`, `group`, `loopback`, ..., lower-case."
    arguments: str
    variables: dict[str, str] = {}

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.arguments}"


Group = tuple[Target, ...]
"Legs that are called at once."


class DialString(Struct, frozen=True):
    """One part: groups that are tried one after the other, and the variables of all their legs."""

    groups: tuple[Group, ...]
    variables: dict[str, str] = {}


@lru_cache(maxsize=2048)
def parse(text: str) -> tuple[DialString, ...]:
    """The parts of a dial string, usually one. Raises BadDialString. Kept, as most calls go to few places."""
    everywhere, text = _lists(text.strip(), "<")
    return tuple(_part(piece, everywhere) for piece in _outside(text, ":_:"))


def _part(text: str, everywhere: dict[str, str]) -> DialString:
    variables = dict(everywhere)
    more, text = _lists(text.strip(), "<{")
    variables.update(more)
    groups = tuple(
        tuple(_target(leg) for leg in _outside(group, ",") if leg.strip())
        for group in _outside(text, "|")
        if group.strip()
    )
    groups = tuple(group for group in groups if group)
    if not groups:
        raise BadDialString("nobody to call")
    return DialString(groups, variables)


def _target(text: str) -> Target:
    variables, rest = _lists(text.strip(), "[{")
    endpoint, slash, arguments = rest.partition("/")
    if not slash or not endpoint:
        raise BadDialString(f"no endpoint in {text!r}")
    return Target(endpoint.strip().lower(), arguments.strip(), variables)


def _lists(text: str, openers: str) -> tuple[dict[str, str], str]:
    """The variable lists at the start of `text`, later ones over earlier ones, and what follows them."""
    variables: dict[str, str] = {}
    while text and text[0] in openers:
        end = _close(text)
        variables.update(pairs(text[1:end]))
        text = text[end + 1 :].lstrip()
    return variables, text


def _close(text: str) -> int:
    """Where the bracket that opens `text` is closed, quotes and inner pairs passed over."""
    opener, closer = text[0], _PAIRS[text[0]]
    depth, quoted, at = 0, False, 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 1
        elif character == "'":
            quoted = not quoted and _quotes(text, at)
        elif not quoted and character == opener:
            depth += 1
        elif not quoted and character == closer:
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise BadDialString(f"{opener} without {closer}")


def _quotes(text: str, at: int) -> bool:
    """An apostrophe opens a quotation only where a value starts, and if another one follows: names like O'Hara do not."""
    return (at == 0 or text[at - 1] in "=,{[<:;|") and "'" in text[at + 1 :]


def pairs(text: str) -> dict[str, str]:
    """`a=b,c='x,y'` or `^^:a=b:c=d` as a dictionary; a name without `=` stands for true, as in FreeSWITCH."""
    separator = ","
    if text.startswith("^^") and len(text) > 2:
        separator, text = text[2], text[3:]
    found: dict[str, str] = {}
    for item in _split(text, separator):
        name, equals, value = item.partition("=")
        if name.strip():
            found[name.strip()] = _plain(value.strip()) if equals else "true"
    return found


def _split(text: str, separator: str) -> list[str]:
    """Split at `separator`, except where it is quoted or escaped."""
    items: list[str] = []
    start, at, quoted = 0, 0, False
    while at < len(text):
        character = text[at]
        if character == "\\" and at + 1 < len(text):
            at += 1
        elif character == "'":
            quoted = not quoted and _quotes(text, at)
        elif character == separator and not quoted:
            items.append(text[start:at])
            start = at + 1
        at += 1
    items.append(text[start:])
    return items


def _plain(value: str) -> str:
    """A value without its quotes and escapes."""
    if len(value) >= 2 and value[0] == value[-1] == "'":
        value = value[1:-1]
    if "\\" not in value:
        return value
    out: list[str] = []
    at = 0
    while at < len(value):
        if value[at] == "\\" and at + 1 < len(value) and value[at + 1] in ",'\\|:;":
            at += 1
        out.append(value[at])
        at += 1
    return "".join(out)


def _outside(text: str, separator: str) -> list[str]:
    """Split at `separator` where it stands outside all brackets and quotes.

    `<` is no bracket here: angle brackets only open a variable list at the very start of a string.
    """
    pieces: list[str] = []
    start, at = 0, 0
    while at < len(text):
        character = text[at]
        if character == "\\":
            at += 2
        elif character in "{[" and (closer := _try_close(text, at)) is not None:
            at = closer + 1
        elif text.startswith(separator, at):
            pieces.append(text[start:at])
            at += len(separator)
            start = at
        else:
            at += 1
    pieces.append(text[start:])
    return pieces


def _try_close(text: str, at: int) -> int | None:
    try:
        return at + _close(text[at:])
    except BadDialString:
        return None


# ---- the arguments of the endpoints ------------------------------------------------------------------------------------


class SofiaTarget(Struct, frozen=True):
    """`sofia/<profile>/...` or `sofia/gateway/<name>/...` taken apart."""

    profile: str = ""
    gateway: str = ""
    uri: str = ""
    "A complete URI or `user@host`; empty for a lookup."
    user: str = ""
    domain: str = ""
    "`user%domain`, or a user alone: looked up among the registrations of the profile."
    to: str = ""
    "What follows `^`: the To header's user or URI."
    params: str = ""
    "`;transport=tcp;fs_path=...` after the address, as written."


@lru_cache(maxsize=4096)
def sofia(arguments: str) -> SofiaTarget:
    """Take apart what follows `sofia/`. Raises BadDialString. Kept, as `parse` does."""
    profile, slash, rest = arguments.partition("/")
    if not slash or not rest:
        raise BadDialString(f"no destination in sofia/{arguments}")
    gateway = ""
    if profile == "gateway":
        gateway, slash, rest = rest.partition("/")
        if not slash or not rest:
            raise BadDialString(f"no number in sofia/{arguments}")
        profile, _, gateway = gateway.rpartition("::")
    # The `^` part is cut off before anything is encoded, so that the documented `user%domain^to@domain` works.
    rest, _, to = rest.partition("^")
    address, semicolon, params = rest.partition(";")
    params = semicolon + params
    if gateway:
        return SofiaTarget(profile=profile, gateway=gateway, uri=encoded(address), to=to, params=params)
    if "@" in address or address.startswith(("sip:", "sips:")):
        return SofiaTarget(profile=profile, uri=encoded(address), to=to, params=params)
    user, _, domain = address.partition("%")
    return SofiaTarget(profile=profile, user=user, domain=domain, to=to, params=params)


_USER = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.!~*'()&=+$,;?/%:")


def encoded(address: str) -> str:
    """`user@host` with what RFC 3261 forbids in a user part percent-encoded; `%HH` is left as it is."""
    user, at, host = address.rpartition("@")
    if not at:
        return address
    scheme = ""
    for prefix in ("sip:", "sips:"):
        if user.startswith(prefix):
            scheme, user = prefix, user[len(prefix) :]
    if _USER.issuperset(user):
        return address
    safe = "".join(c if c in _USER else "".join(f"%{byte:02X}" for byte in c.encode()) for c in user)
    return f"{scheme}{safe}@{host}"


def user(arguments: str) -> tuple[str, str]:
    """`1001@example.org` or `1001` of `user/...`: user and domain."""
    name, _, domain = arguments.partition("@")
    return name, domain
