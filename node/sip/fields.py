"""Header fields with structure: NameAddr, Via, CSeq; and lists of fields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from node.sip.errors import Malformed
from node.sip.grammar import ADDR_SPEC, CSEQ, LIST_MARK, NAME_ADDR, PARAMETER, TOKEN, VIA
from node.sip.uri import REMEMBERED, Params, Uri, drop_params, find_param, set_param

MAXIMUM_CSEQ = 2**31 - 1
"RFC 3261 8.1.1.5."

_DISPLAY_TOKENS = re.compile(rf"{TOKEN}(?: +{TOKEN})*")
_QVALUE = re.compile(r"0(?:\.[0-9]{0,9})?|1(?:\.0{0,9})?")
_LINE_ENDS = re.compile(r"[\r\n]+[ \t]*")


class NameAddr(msgspec.Struct, frozen=True, gc=False):
    """`"Alice" <sip:alice@example.org>;tag=1` (RFC 3261 20.10)."""

    uri: Uri
    display: str = ""
    "Without quotes and escapes."
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Raises Malformed. In an addr-spec without brackets all parameters are the field's (RFC 3261 20.10)."""
        text = text.strip()
        if text[-1:] == ">":
            plain = _remembered_address(text) if len(text) <= REMEMBERED else None
            if plain is not None:
                return plain
        before, mark, tag = text.rpartition(">;tag=")
        if mark and is_plain_tag(tag) and len(before) < REMEMBERED:
            plain = _remembered_address(f"{before}>")
            if plain is not None:
                return cls(plain.uri, plain.display, (("tag", tag.lstrip()),))
        return cls._parse_any(text)

    @classmethod
    def _parse_any(cls, text: str) -> NameAddr:
        match = NAME_ADDR.fullmatch(text)
        if match is not None:
            display, uri, params = match.groups()
            if params and (">" in params or "<" in params) and '"' not in params:
                raise Malformed("address", text)  # for who looks behind the last bracket the tag would be another one
            return cls(Uri.parse(uri.strip()), unquote(display) if display else "", parse_params(params))
        match = ADDR_SPEC.fullmatch(text)
        if match is None:
            raise Malformed("address", text)
        return cls(Uri.parse(match["uri"]), "", parse_params(match["params"]))

    def __str__(self) -> str:
        display = f"{_display(self.display)} " if self.display else ""
        return f"{display}<{self.uri}>{format_params(self.params)}"

    def param(self, name: str) -> str | None:
        """Value of a field parameter, quotes removed: `""` if it stands there without one, None if it is not there."""
        value = find_param(self.params, name)
        return unquote(value) if value else value

    def with_param(self, name: str, value: str | None) -> NameAddr:
        """With this parameter set, in its place if it was there (None: present without value)."""
        return replace(self, params=set_param(self.params, name, value))

    def without_params(self, *names: str) -> NameAddr:
        """Without these parameters; without any if none is named."""
        return replace(self, params=drop_params(self.params, names))

    @property
    def tag(self) -> str:
        """`` if there is none."""
        for name, value in self.params:
            if value and (name == "tag" or name.lower() == "tag"):
                return value
        return ""

    @property
    def q(self) -> float:
        """The preference of a Contact, from 0 to 1: 1 if it names none, or none that can be read (RFC 3261 20.10)."""
        value = find_param(self.params, "q") or ""
        return float(value) if _QVALUE.fullmatch(value) else 1.0


def is_plain_tag(tag: str) -> bool:
    """Is it no more than a tag, what stands behind the last `;tag=`?"""
    return tag.isalnum() or not (";" in tag or '"' in tag or "<" in tag or ">" in tag)


def _parse_address(text: str) -> NameAddr | None:
    """Display name and URI in brackets, nothing behind them; None for anything else. Raises Malformed for a bad URI."""
    match = NAME_ADDR.fullmatch(text)
    if match is None or match["params"]:
        return None
    return NameAddr(Uri.parse(match["uri"].strip()), unquote(match["display"]) if match["display"] else "")


_remembered_address = lru_cache(maxsize=8192)(_parse_address)
"The same phone is in From, To and Contact of whatever it sends; only tags change."


class Via(msgspec.Struct, frozen=True, gc=False):
    """RFC 3261 20.42. `host` of an IPv6 reference keeps its brackets."""

    transport: str
    "In capitals."
    host: str
    port: int | None = None
    params: Params = ()
    protocol: str = "SIP/2.0"

    @classmethod
    def parse(cls, text: str) -> Via:
        """One Via. Raises Malformed."""
        framed = framed_via(text)
        if framed is None:
            return cls._parse_any(text)
        frame, branch = framed
        params = (*frame.first, ("branch", branch), *frame.last)
        return cls(frame.transport, frame.host, frame.port, params, frame.protocol)

    @classmethod
    def _parse_any(cls, text: str) -> Via:
        front, semicolon, params = text.partition(";")
        transport, host, port, protocol = _parse_sent(front)
        return cls(transport, host, port, parse_params(semicolon + params), protocol)

    def __str__(self) -> str:
        return f"{self.protocol}/{self.transport} {self.sent_by}{format_params(self.params)}"

    def seen_from(self, host: str, port: int) -> Via:
        """With `received` and `rport` as a server adds them (RFC 3261 18.2.1, RFC 3581 4); itself if there is nothing to add."""
        params: list[tuple[str, str | None]] = []
        noted = False
        for item in self.params:
            name = item[0]
            if name == "branch":
                params.append(item)
                continue
            name = name.lower()
            if name == "rport":
                noted = True
                params.append((item[0], str(port)))
            elif name == "received":
                noted = True
            else:
                params.append(item)
        if not noted and (self.host[1:-1] if self.host[:1] == "[" else self.host) == host:
            return self
        params.append(("received", host))
        return Via(self.transport, self.host, self.port, tuple(params), self.protocol)

    def param(self, name: str) -> str | None:
        """Value of a parameter: `""` if it stands there without one, None if it is not there."""
        return find_param(self.params, name)

    @property
    def branch(self) -> str:
        """`` if there is none (RFC 2543)."""
        for name, value in self.params:
            if name == "branch" or name.lower() == "branch":
                return value or ""
        return ""

    @property
    def received(self) -> str:
        """Without the brackets some put around an IPv6 address (RFC 5118 4.5)."""
        return (find_param(self.params, "received") or "").strip("[]")

    @property
    def rport(self) -> int | None:
        """The port of `;rport=`; None without one. Whether rport was asked for: `param("rport") is not None`."""
        return number(find_param(self.params, "rport") or "", 65535)

    @property
    def sent_by(self) -> str:
        """`host` or `host:port`, as it stands."""
        return self.host if self.port is None else f"{self.host}:{self.port}"


class CSeq(msgspec.Struct, frozen=True, gc=False):
    """RFC 3261 20.16."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Raises Malformed."""
        return parse_cseq(text)

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


def _parse_sent(text: str) -> tuple[str, str, int | None, str]:
    """Transport, host, port and protocol of a Via."""
    match = VIA.fullmatch(text.strip())
    if match is None:
        raise Malformed("Via", text)
    version, transport, host, port = match.groups()
    number = int(port) if port else None
    if number is not None and not 0 < number < 65536:
        raise Malformed("Via", text)
    return transport.upper(), host, number, f"SIP/{version}"


class ViaFrame:
    """A Via without its branch, which alone differs from one request of a peer to the next: so all else is known already."""

    __slots__ = (
        "_pieces",
        "_received",
        "_seen_from",
        "alone",
        "first",
        "host",
        "last",
        "port",
        "protocol",
        "reply_port",
        "sent_by",
        "transport",
    )

    def __init__(self, before: str, after: str) -> None:
        """Of what stands before `;branch=`, and what behind its value. Raises Malformed."""
        front, semicolon, params = before.partition(";")
        self.transport, self.host, self.port, self.protocol = _parse_sent(front)
        self.first = parse_params(semicolon + params)
        "Parameters before the branch."
        self.last = parse_params(after)
        self.alone = all(name.lower() != "branch" for name, _ in self.first)
        "Is the branch behind it the first one, which counts?"
        bare = Via(self.transport, self.host, self.port, self.first + self.last, self.protocol)
        self.sent_by = bare.sent_by
        self.reply_port = None if bare.param("rport") is not None else self.port or 5060
        "To which the answers go over UDP; None: to where the request came from."
        self._received = f"{before};branch=", after
        self._pieces = self._received
        self._seen_from: tuple[str, int] | None = None

    def seen_from(self, host: str, port: int, branch: str) -> str:
        """The Via with this branch, as `Via.seen_from` has it. Where the last one came from, the next one will come from."""
        if self._seen_from != (host, port):
            mark = ("branch", "")
            sent = Via(self.transport, self.host, self.port, (*self.first, mark, *self.last), self.protocol)
            seen = sent.seen_from(host, port)
            at = seen.params.index(mark)
            front = f"{seen.protocol}/{seen.transport} {seen.sent_by}{format_params(seen.params[:at])};branch="
            self._pieces = self._received if seen is sent else (front, format_params(seen.params[at + 1 :]))
            self._seen_from = host, port
        before, after = self._pieces
        return f"{before}{branch}{after}"


_remembered_frame = lru_cache(maxsize=4096)(ViaFrame)


def framed_via(text: str) -> tuple[ViaFrame, str] | None:
    """One Via as nearly everybody writes it, and its branch; None for any other. Raises Malformed."""
    before, mark, rest = text.partition(";branch=")
    branch, semicolon, after = rest.partition(";")
    if mark and len(before) + len(after) <= REMEMBERED and '"' not in text and branch.isprintable():
        frame = _remembered_frame(before, semicolon + after)
        return (frame, branch.strip()) if frame.alone else None
    return None


@lru_cache(maxsize=4096)
def parse_cseq(text: str) -> CSeq:
    """From memory: most are `1 INVITE` and the like. Raises Malformed."""
    match = CSEQ.fullmatch(text.strip())
    if match is None or int(match["number"]) > MAXIMUM_CSEQ:
        raise Malformed("CSeq", text)
    return CSeq(int(match["number"]), match["method"])


def parse_name_addr(text: str) -> NameAddr:
    """Raises Malformed."""
    return NameAddr.parse(text)


# ---- lists, parameters, quoting ------------------------------------------------------------------------------------


def split_list(text: str) -> list[str]:
    """The items of a comma separated field, commas in quotes and angle brackets respected; empty ones dropped."""
    if "," not in text:
        item = text.strip()
        return [item] if item else []
    if '"' not in text and "<" not in text:
        return [item for item in map(str.strip, text.split(",")) if item]
    items = [text[start:end].strip() for start, end in _spans(text)]
    return [item for item in items if item]


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the items begin and end; a quote or bracket that is never closed reaches to the end of the text."""
    start = 0
    inside = ""
    for match in LIST_MARK.finditer(text):
        mark = match[0]
        if inside == '"':
            inside = "" if mark == '"' else inside
        elif inside == "<":
            inside = "" if mark == ">" else inside
        elif mark in ('"', "<"):
            inside = mark
        elif mark == ",":
            yield start, match.start()
            start = match.end()
    yield start, len(text)


def parse_params(text: str | None) -> Params:
    """`;a=1;b="x;y";lr` of a header field. Values keep their quotes. Raises Malformed."""
    if not text:
        return ()
    if '"' not in text:
        return _parse_plain(text)
    found: list[tuple[str, str | None]] = []
    at = 0
    while at < len(text):
        match = PARAMETER.match(text, at)
        if match is None:
            raise Malformed("parameter", text[at:])
        found.append((match["name"], match["value"]))
        at = match.end()
    return tuple(found)


def _parse_plain(text: str) -> Params:
    """Without quotes. White space around names and values is rare, and looked for once."""
    pairs = [part.partition("=") for part in text.split(";")]
    if " " in text or not text.isprintable():
        pairs = [(name.strip(), equals, value.strip()) for name, equals, value in pairs]
    return tuple([(name, value if equals else None) for name, equals, value in pairs if name or equals])


def format_params(params: Params) -> str:
    """The inverse of `parse_params`."""
    return "".join([f";{name}" if value is None else f";{name}={value}" for name, value in params])


def number(text: str, most: int) -> int | None:
    """A decimal number up to `most`; None for anything else, whatever else `int` would take or stumble over."""
    if not (text.isascii() and text.isdigit()) or len(text) > 20:
        return None
    value = int(text)
    return value if value <= most else None


def quote(text: str) -> str:
    """As a quoted-string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def unquote(text: str) -> str:
    """Inside of a quoted-string, escapes resolved; anything else without the white space around it."""
    text = text.strip()
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    inner = text[1:-1]
    return re.sub(r"\\(.)", r"\1", inner, flags=re.DOTALL) if "\\" in inner else inner


def _display(text: str) -> str:
    return text if _DISPLAY_TOKENS.fullmatch(text) else quote(_LINE_ENDS.sub(" ", text))
