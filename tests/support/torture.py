"""The torture messages: ours, the RFCs' where they lie beside the checkout, and what each must yield."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from node.media import negotiation, sdp
from node.sip.fields import Via
from node.sip.message import Message
from node.sip.uri import unescape
from tests.support.node import ROOT

OURS = ROOT / "tests" / "data" / "torture"
THEIRS = ROOT.parent / "shared" / "data" / "torture"
"The raw messages of the RFCs, which are not ours to pass on."


@dataclass(frozen=True, slots=True)
class Case:
    """One message and what is expected of it."""

    name: str
    whose: str
    data: bytes
    judged: str
    "`good`, or the status it is refused with."
    answer: str
    "What a node answers over UDP: statuses it may choose from, `none`, or `any`."
    stream: str
    "The same over TCP, of all that is in it; `closed` if nothing can follow."
    read: dict[str, str]

    def __str__(self) -> str:
        return f"{self.name}-{self.whose}"

    @property
    def is_response(self) -> bool:
        return self.data.startswith(b"SIP/2.0 ")


def expectations() -> dict[str, dict[str, Any]]:
    with (OURS / "expectations.toml").open("rb") as file:
        return tomllib.load(file)


def messages(whose: str) -> dict[str, bytes]:
    """Name to bytes; empty for the RFCs' where they are not at hand."""
    if whose == "ours":
        paths = sorted(OURS.glob("*.dat"))
    else:
        paths = sorted(THEIRS.glob("rfc4475/*.dat")) + sorted(THEIRS.glob("rfc5118/*"))
    return {path.name.removesuffix(".dat"): path.read_bytes() for path in paths}


def cases() -> list[Case]:
    """Of both sets, those that are there."""
    return list(_cases("ours")) + list(_cases("theirs"))


def _cases(whose: str) -> Iterator[Case]:
    expected = expectations()
    for name, data in messages(whose).items():
        entry = expected[name]
        stream = entry.get("stream", entry["answer"])
        yield Case(name, whose, data, entry["judged"], entry["answer"], stream, entry.get(whose, {}))


# ---- reading by a path ---------------------------------------------------------------------------------------------


def look(message: Message, path: str) -> str:
    """What stands at a path, as text; `-` for what is not there. Raises the SipError of what cannot be read.

    `header NAME`, `headers NAME`, `count NAME`, `body size`, `sdp PATH`; else attributes and indexes with dots between,
    `param:NAME` for parameters, `vias` for all Vias; in front `unescaped`, behind `size`.
    """
    verb, _, rest = path.partition(" ")
    if verb == "unescaped":
        return unescape(look(message, rest))
    if path.endswith(" size"):
        return str(len(message.body if path == "body size" else look(message, path.removesuffix(" size"))))
    found: object
    if verb in _VERBS and rest:
        found = _VERBS[verb](message, rest)
    else:
        found = _walk(message, path)
    return "-" if found is None else str(found)


def _walk(found: Any, path: str) -> object:
    for step in path.split("."):
        _name, colon, argument = step.partition(":")
        if colon:
            return found.param(argument)
        if step == "vias":
            found = [Via.parse(text) for text in found.headers("via")]
        elif step.isdigit():
            found = found[int(step)]
        else:
            found = getattr(found, "from_" if step == "from" else step)
    return found


def _sdp(message: Message, path: str) -> object:
    text = message.body.decode("utf-8", "surrogateescape")
    if path == "audio":
        audio = negotiation.audio_of(text)
        return f"{audio.host} {audio.port}"
    return _walk(sdp.parse(text), path)


_VERBS: dict[str, Callable[[Message, str], object]] = {
    "header": lambda message, name: message.header(name),
    "headers": lambda message, name: ", ".join(message.headers(name)),
    "count": lambda message, name: len(message.headers(name)),
    "sdp": _sdp,
}
