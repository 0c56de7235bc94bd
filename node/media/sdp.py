"""Session descriptions (RFC 8866): a tolerant parser that keeps the order and what it does not know, and its inverse.

Only what everything else hangs on must be right: each line a letter and `=`, the numbers of `m=`, the address of `c=`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from node.media.errors import MalformedSdp

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
DIRECTIONS: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "sendonly",
    "recvonly": "recvonly",
    "inactive": "inactive",
}

MAXIMUM = 65_535
"Characters of a description."
MAXIMUM_MEDIA = 64
REMEMBERED = 4_000
"Characters of a description up to which its parsed form is kept for a while: within a call it is read several times."

Line = tuple[str, str]
"Type and value: `a=ptime:20` is `('a', 'ptime:20')`."

_MEDIA = re.compile(
    r"(?P<kind>[^\s/]+)\s+(?P<port>[0-9]{1,5})(?:/(?P<count>[0-9]+))?\s+(?P<protocol>\S+)(?P<formats>(?:\s+\S+)*)\s*"
)
_CONNECTION = re.compile(r"IN\s+IP[46]\s+(?P<host>[!-.0-~]+)(?:/[0-9/]*)?\s*", re.IGNORECASE)
"The host in ASCII: it is told to those who know nothing else."
_TIDY = re.compile(r"(?:[A-Za-z]=[^\r\n\0\ufeff]+\r\n)+")
"As every phone writes it; all else is read line by line, with patience."
_ORIGIN = re.compile(
    r"(?P<user>\S+)\s+(?P<session>[0-9]{1,40})\s+(?P<version>[0-9]{1,40})\s+IN\s+IP[46]\s+(?P<host>\S+)\s*",
    re.IGNORECASE,
)


class Media(Struct, frozen=True):
    """One `m=` section."""

    kind: str
    port: int
    protocol: str
    formats: tuple[str, ...]
    lines: tuple[Line, ...] = ()
    "What follows the `m=` line, in order."

    def attribute(self, name: str) -> str | None:
        return attribute(self.lines, name)

    @property
    def host(self) -> str | None:
        return connection(self.lines)

    @property
    def direction(self) -> Direction | None:
        return direction(self.lines)

    def __str__(self) -> str:
        head = " ".join((self.kind, str(self.port), self.protocol, *self.formats))
        return f"m={head}\r\n" + _text(self.lines)

    def rejected(self) -> Media:
        """The same section switched off: port zero, nothing said about it (RFC 3264 6)."""
        return replace(self, port=0, lines=())


class Description(Struct, frozen=True):
    """A session description: the lines before the first `m=`, and the media sections."""

    lines: tuple[Line, ...]
    media: tuple[Media, ...] = ()

    @property
    def origin(self) -> Origin | None:
        return Origin.parse(next((value for kind, value in self.lines if kind == "o"), ""))

    @property
    def host(self) -> str | None:
        return connection(self.lines)

    @property
    def direction(self) -> Direction | None:
        return direction(self.lines)

    def __str__(self) -> str:
        return _text(self.lines) + "".join(str(media) for media in self.media)


class Origin(Struct, frozen=True):
    """The `o=` line. The version grows by one with each change of the description (RFC 3264 8)."""

    user: str
    session: int
    version: int
    host: str

    @classmethod
    def parse(cls, text: str) -> Origin | None:
        match = _ORIGIN.fullmatch(text)
        return cls(match["user"], int(match["session"]), int(match["version"]), match["host"]) if match else None

    def __str__(self) -> str:
        return f"{self.user} {self.session} {self.version} {network(self.host)}"


def parse(text: str) -> Description:
    """Read a description. Raises MalformedSdp, naming the line."""
    if len(text) > MAXIMUM:
        raise MalformedSdp(f"longer than {MAXIMUM} characters")
    return _remembered(text) if len(text) <= REMEMBERED else _parse(text)


def _parse(text: str) -> Description:
    found = _parse_tidy(text) if _TIDY.fullmatch(text) else None
    return found if found is not None else _parse_lines(text)


_remembered = lru_cache(maxsize=512)(_parse)


def _parse_tidy(text: str) -> Description | None:
    """A description as every phone writes it; None for one with something wrong, which is read line by line."""
    head, *sections = text[:-2].split("\r\nm=")
    lines = _lines(head)
    if lines is None or head[0] == "m" or len(sections) > MAXIMUM_MEDIA:
        return None
    media = []
    for section in sections:
        first, _, below = section.partition("\r\n")
        match, under = _MEDIA.fullmatch(first.strip()), _lines_under(below)
        if match is None or under is None or int(match["port"]) > 65_535:
            return None
        kind, port, _count, protocol, formats = match.groups()
        media.append(Media(kind.lower(), int(port), protocol, tuple(formats.split()), under))
    return Description(lines, tuple(media))


def _lines(text: str) -> tuple[Line, ...] | None:
    """Lines that are all of one section; None if one of them is wrong."""
    lines = tuple([(line[0], line[2:].strip()) for line in text.split("\r\n")])
    for kind, value in lines:
        if kind == "c" and _host(value) is None:
            return None
    return lines


def _lines_under(text: str) -> tuple[Line, ...] | None:
    """Those below a `m=`: what a phone says there it says in each of its calls."""
    if not text:
        return ()
    return _remembered_lines(text) if len(text) <= REMEMBERED else _lines(text)


_remembered_lines = lru_cache(maxsize=512)(_lines)


def _parse_lines(text: str) -> Description:
    session: list[Line] = []
    sections: list[tuple[Media, list[Line]]] = []
    lines = session
    for number, line in _untidy(text):
        kind, value = line[0], line[2:].strip()
        if kind == "m":
            lines = []
            sections.append((_media(value, number, line), lines))
            continue
        if kind == "c" and _host(value) is None:
            raise MalformedSdp("no address", number, line)
        lines.append((kind, value))
    if not session:
        raise MalformedSdp("empty")
    if len(sections) > MAXIMUM_MEDIA:
        raise MalformedSdp(f"more than {MAXIMUM_MEDIA} media sections")
    return Description(tuple(session), tuple([replace(media, lines=tuple(below)) for media, below in sections]))


def _untidy(text: str) -> Iterable[tuple[int, str]]:
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip("\r\0\ufeff \t")
        if not line:
            continue
        if len(line) < 2 or line[1] != "=" or not line[0].isalpha():
            raise MalformedSdp("not a type and `=`", number, line)
        yield number, line


def _media(value: str, number: int, line: str) -> Media:
    match = _MEDIA.fullmatch(value)
    if match is None or int(match["port"]) > 65_535:
        raise MalformedSdp("not `m=<media> <port> <protocol> <formats>`", number, line)
    return Media(match["kind"].lower(), int(match["port"]), match["protocol"], tuple(match["formats"].split()))


def _text(lines: Iterable[Line]) -> str:
    return "".join([f"{kind}={value}\r\n" for kind, value in lines])


# ---- lines ---------------------------------------------------------------------------------------------------------


def attribute(lines: Iterable[Line], name: str) -> str | None:
    """The value of the first `a=name:value`; the empty string for a plain `a=name`."""
    for kind, value in lines:
        if kind == "a":
            found, _, rest = value.partition(":")
            if found.strip().lower() == name:
                return rest.strip()
    return None


def attribute_name(value: str) -> str:
    return value.partition(":")[0].strip().lower()


def connection(lines: Iterable[Line]) -> str | None:
    for kind, value in lines:
        if kind == "c" and (host := _host(value)):
            return host
    return None


@lru_cache(maxsize=1024)
def _host(value: str) -> str | None:
    """The address of a `c=` line."""
    match = _CONNECTION.fullmatch(value)
    return match["host"] if match else None


def direction(lines: Iterable[Line]) -> Direction | None:
    for kind, value in lines:
        if kind == "a" and (found := DIRECTIONS.get(value.lower())):
            return found
    return None


def network(host: str) -> str:
    """`IN IP4 192.0.2.1`, as `c=` and `o=` want it."""
    return f"IN IP6 {host}" if ":" in host else f"IN IP4 {host}"
