"""Messages: read lazily, kept as received.

The header block is split once into an index (name to text); a field is parsed when it is first asked for, and kept.
That is five times faster than reading everything, and what nobody asks for cannot fail. Text is `utf-8` with
`surrogateescape`, which loses no byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from node.sip.errors import (
    BadExtension,
    Malformed,
    SipError,
    TooLarge,
    TooManyHops,
    UnsupportedScheme,
    UnsupportedVersion,
    UriTooLong,
)
from node.sip.fields import CSeq, NameAddr, Via, ViaFrame, framed_via, is_plain_tag, parse_cseq, split_list
from node.sip.grammar import BLANK_LINE, FOLD, LINE_END, METHOD, NO_BODY, REQUEST_LINE, STATUS_LINE, TAG
from node.sip.names import KEYS, LISTS, SINGLE
from node.sip.uri import Uri


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a message we read before we refuse it."""

    message: int = 65535
    "Bytes of a whole message."
    fields: int = 256
    "Header fields."
    line: int = 8192
    "Characters of one header field, folding undone."
    uri: int = 2048
    "Characters of a Request-URI."
    uri_params: int = 64
    "Parameters and headers of a Request-URI, one within the other or side by side."


T = TypeVar("T")


class once(Generic[T]):
    """A property that is read when it is first asked for, and from then on is an attribute like any other."""

    def __init__(self, read: Callable[[Any], T]) -> None:
        self._read = read
        self._name = read.__name__
        self.__doc__ = read.__doc__

    def __get__(self, message: object, owner: type) -> T:
        value = self._read(message)
        setattr(message, self._name, value)
        return value

    if TYPE_CHECKING:

        def __set__(self, message: object, value: T) -> None: ...


class Message:
    """A request or a response. Reading a field may raise Malformed, at its first use."""

    _more: dict[str, list[str]] | None = None
    "Further values of fields that stand there more than once."
    _via: Via | None = None
    _frame: ViaFrame | None = None
    "Of the topmost Via, as it was sent; None if it has not been read, or is an odd one."

    body: bytes
    _head: str
    "Start line and header fields, unfolded, each line but the last one ended by CRLF."
    _bytes: bytes | None
    "As received, or once encoded."

    # ---- any field -------------------------------------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """First value of a header field, stripped; compact forms and case do not matter. None if it is not there."""
        value = self.fields.get(KEYS[name])
        return value.strip() if value is not None else None

    def headers(self, name: str) -> list[str]:
        """All values in order, list fields split at their commas."""
        key = KEYS[name]
        first = self.fields.get(key)
        if first is None:
            return []
        values = [first, *self._more.get(key, ())] if self._more else [first]
        if key not in LISTS:
            return [value.strip() for value in values]
        return [item for value in values for item in split_list(value)]

    @once
    def fields(self) -> dict[str, str]:
        """First value of each field as it stands, by its full name in lower case: for who looks for many at once.

        Lines that are no header field are passed over: `parse` refused them on arrival.
        """
        index, self._more, _ = _index(self._head.split("\r\n")[1:])
        return index

    def items(self) -> Iterator[tuple[str, str]]:
        """All header fields in order, names as received, folding undone, lists not split."""
        for line in self._head.split("\r\n")[1:]:
            name, _, value = line.partition(":")
            yield name.strip(), value.strip()

    @property
    def text(self) -> str:
        """The start line and the header fields as text, folding undone, without the empty line."""
        return self._head

    def encode(self) -> bytes:
        """The bytes: as received, or as composed."""
        if self._bytes is None:
            self._bytes = f"{self._head}\r\n\r\n".encode("utf-8", "surrogateescape") + self.body
        return self._bytes

    def __str__(self) -> str:
        return f"{self._head}\r\n\r\n{self.body.decode('utf-8', 'replace')}"

    # ---- the fields everybody needs --------------------------------------------------------------------------------

    @property
    def via(self) -> Via:
        """The topmost Via: as it was sent, until it is stamped."""
        via = self._via
        if via is None:
            text = self.fields.get("via")
            if text is None:
                raise _missing("via")
            via = self._via = Via.parse(text if "," not in text else (split_list(text) or [""])[0])
        return via

    @once
    def branch(self) -> str:
        """Of the topmost Via; `` if it has none (RFC 2543)."""
        return self.via.branch

    @property
    def sent_by(self) -> str:
        """Of the topmost Via, as it stands."""
        frame = self._frame
        return frame.sent_by if frame is not None else self.via.sent_by

    def identify(self) -> None:
        """Read what transactions and dialogs know it by: Call-ID, CSeq, and of the topmost Via what they ask for.

        As the properties would read it. Raises Malformed.
        """
        fields = self.fields
        try:
            via = fields["via"]
            self.call_id = fields["call-id"].strip()
            self.cseq = parse_cseq(fields["cseq"])
        except KeyError as missing:
            raise _missing(missing.args[0]) from None
        if "," in via:
            vias = [Via.parse(each) for each in split_list(via) or [""]]
            self._via = vias[0]  # those below it are copied into every answer, and so have to be right
            return
        framed = framed_via(via)
        if framed is None:
            self._via = Via.parse(via)
        else:
            self._frame, self.branch = framed

    @once
    def from_(self) -> NameAddr:
        text = self.fields.get("from")
        if text is None:
            raise _missing("from")
        return NameAddr.parse(text)

    @once
    def to(self) -> NameAddr:
        text = self.fields.get("to")
        if text is None:
            raise _missing("to")
        return NameAddr.parse(text)

    @once
    def from_tag(self) -> str:
        """`` if there is none (RFC 2543)."""
        text = self.fields.get("from")
        if text is None:
            raise _missing("from")
        return _tag(text)

    @once
    def to_tag(self) -> str:
        """`` if there is none: the request is outside of a dialog."""
        text = self.fields.get("to")
        if text is None:
            raise _missing("to")
        return _tag(text)

    @once
    def call_id(self) -> str:
        text = self.fields.get("call-id")
        if text is None:
            raise _missing("call-id")
        return text.strip()

    @once
    def cseq(self) -> CSeq:
        text = self.fields.get("cseq")
        if text is None:
            raise _missing("cseq")
        return parse_cseq(text)

    @once
    def contacts(self) -> list[NameAddr]:
        """Empty also for `Contact: *`, see `wildcard`."""
        text = self.fields.get("contact")
        if text is None:
            return []
        if "," not in text and self._more is None:
            text = text.strip()
            return [NameAddr.parse(text)] if text and text != "*" else []
        return [NameAddr.parse(item) for item in self.headers("contact") if item != "*"]

    @property
    def wildcard(self) -> bool:
        """Is it `Contact: *` (RFC 3261 10.2.2)?"""
        return self.header("contact") == "*"

    @property
    def max_forwards(self) -> int | None:
        text = self.fields.get("max-forwards")
        return _bounded("Max-Forwards", text, 255) if text is not None else None

    @property
    def expires(self) -> int | None:
        """The Expires field. Beyond 32 bits it means the maximum (RFC 3261 20.19)."""
        text = self.fields.get("expires")
        return _bounded("Expires", text, 10**12) if text is not None else None

    @property
    def content_type(self) -> str:
        """Type and subtype in lower case, without parameters; `` if there is none."""
        text = self.fields.get("content-type")
        return text.partition(";")[0].strip().lower() if text else ""

    @property
    def user_agent(self) -> str:
        """`` if there is none."""
        return self.fields.get("user-agent", "").strip()


class Request(Message):
    """A request."""

    def __init__(self, method: str, uri: str, head: str, body: bytes = b"", received: bytes | None = None) -> None:
        self.method = method
        self.uri = uri
        self.body = body
        self._head = head
        self._bytes = received

    @once
    def target(self) -> Uri:
        """The Request-URI, parsed."""
        return Uri.parse(self.uri)

    def stamp(self, host: str, port: int) -> None:
        """Note in the top Via where the request really came from (RFC 3261 18.2.1, RFC 3581 4). `encode` stays as received."""
        frame = self._frame
        if frame is not None:
            self.fields["via"] = frame.seen_from(host, port, self.branch)
            self._via = None  # it would be the one that was sent
            return
        via = self.via
        seen = via.seen_from(host, port)
        if seen is via:
            return
        text, below = str(seen), self.fields["via"]
        if "," in below:
            text = ", ".join([text, *split_list(below)[1:]])
        self.fields["via"] = text
        self._via = seen

    @property
    def reply_port(self) -> int | None:
        """The port to which the answers go over UDP (RFC 3261 18.2.2, RFC 3581 4); None: to where it came from."""
        frame = self._frame
        if frame is not None:
            return frame.reply_port
        via = self.via
        return None if via.param("rport") is not None else via.port or 5060

    @once
    def origin(self) -> tuple[str, str, str]:
        """Call-ID, From and CSeq, as they stand: what tells a request outside of dialogs from any other."""
        fields = self.fields
        return fields.get("call-id", "").strip(), fields.get("from", "").strip(), fields.get("cseq", "").strip()

    def vias(self) -> str:
        """The Via fields as lines for a response, the top one stamped."""
        lines = f"Via: {self.fields.get('via', '').strip()}\r\n"
        for value in self._more.get("via", ()) if self._more else ():
            lines += f"Via: {value.strip()}\r\n"
        return lines


class Response(Message):
    """A response."""

    def __init__(self, status: int, reason: str, head: str, body: bytes = b"", received: bytes | None = None) -> None:
        self.status = status
        self.reason = reason
        self.body = body
        self._head = head
        self._bytes = received


# ---- reading -------------------------------------------------------------------------------------------------------


def parse(data: bytes, limits: Limits = Limits()) -> Request | Response:
    """Read one message: a datagram, or what a framer cut out.

    Raises Malformed; its `request` is set if a refusal can be sent. Bytes behind the Content-Length are dropped.
    """
    if data[:1] in _LINE_ENDS:
        data = data.lstrip(b"\r\n")  # RFC 3261 7.5
    end = data.find(b"\r\n\r\n")
    error: Malformed | None = None
    if end >= 0:
        head = data[:end].decode("utf-8", "surrogateescape")
        body = data[end + 4 :]
    else:
        head, body, error = _untidy(data)
    if len(data) > limits.message:
        error = TooLarge("message", len(data), limits.message)
    lines = head.split("\r\n")
    joined = "".join(lines)
    tidy = "\n" not in joined and "\r" not in joined
    start = lines.pop(0)
    index, more, bad = _index(lines)
    if not tidy or bad is not None:
        # Folded lines, or some that end in LF or CR alone.
        head = FOLD.sub(" ", LINE_END.sub("\r\n", head))
        lines = head.split("\r\n")
        start = lines.pop(0)
        index, more, bad = _index(lines)
    message: Request | Response | None = None
    try:
        message = _start(start, head, body, data)
        if error is not None:
            raise error
        if bad is not None:
            raise Malformed("header field", bad)
        if len(head) > limits.line or len(lines) >= limits.fields:
            _check_limits([start, *lines], limits)
        if len(start) > _SHORT and isinstance(message, Request):
            _check_uri(message.uri, limits)
        length = index.get("content-length")
        if length is not None and length.strip() != str(len(body)):
            _fit(message, length)
    except Malformed as refusal:
        refusal.request = _salvage(message, start, head, index, more)
        raise
    message.fields = index
    message._more = more
    return message


def _untidy(data: bytes) -> tuple[str, bytes, Malformed | None]:
    """Without a CRLF CRLF: lines ended by LF alone are taken, as other stacks take them; so is a head that lacks
    its empty line, if its last field says that there is no body."""
    match = BLANK_LINE.search(data)
    if match is None:
        whole = NO_BODY.search(data) is not None
        error = None if whole else Malformed("message", "no empty line after the header fields")
        return data.decode("utf-8", "surrogateescape").rstrip("\r\n"), b"", error
    return data[: match.start()].decode("utf-8", "surrogateescape"), data[match.end() :], None


def _index(lines: list[str]) -> tuple[dict[str, str], dict[str, list[str]] | None, str | None]:
    """Name to first value, name to further values, and a line that is no header field."""
    index: dict[str, str] = {}
    try:
        for line in lines:
            name, value = line.split(":", 1)
            index[KEYS[name]] = value
    except ValueError:
        return _crowded_index(lines)  # one without a colon
    if len(index) == len(lines) and "" not in index:
        return index, None, None
    return _crowded_index(lines)


def _crowded_index(lines: list[str]) -> tuple[dict[str, str], dict[str, list[str]] | None, str | None]:
    """The same where a field stands more than once, or a line is no header field."""
    index: dict[str, str] = {}
    more: dict[str, list[str]] = {}
    bad: str | None = None
    for line in lines:
        name, colon, value = line.partition(":")
        key = KEYS[name]
        if not colon or not key:
            bad = line
        elif key not in index:
            index[key] = value
        else:
            more.setdefault(key, []).append(value)
    return index, more or None, bad


def _start(line: str, head: str, body: bytes, received: bytes) -> Request | Response:
    if line.startswith("SIP/2.0 "):
        status = line[8:11]
        if status.isascii() and status.isdigit() and line[11:12] in ("", " ") and "100" <= status <= "699":
            return Response(int(status), line[12:], head, body, received)
    elif line.count(" ") == 2:
        method, uri, version = line.split(" ")
        if version == "SIP/2.0" and uri and (method in METHODS or METHOD.fullmatch(method)):
            return Request(method, uri, head, body, received)
    return _odd_start(line, head, body, received)


def _odd_start(line: str, head: str, body: bytes, received: bytes) -> Request | Response:
    """More than one space, another version, or not SIP at all."""
    request = REQUEST_LINE.fullmatch(line)
    if request is not None:
        if request["version"] != "2.0":
            raise UnsupportedVersion(request["version"])
        return Request(request["method"], request["uri"], head, body, received)
    answer = STATUS_LINE.fullmatch(line)
    if answer is not None and answer["version"] == "2.0":
        return Response(int(answer["status"]), answer["reason"] or "", head, body, received)
    raise Malformed("status line" if line[:4].upper() == "SIP/" else "request line", line)


def _check_limits(lines: list[str], limits: Limits) -> None:
    if len(lines) > limits.fields:
        raise TooLarge("number of header fields", len(lines), limits.fields)
    longest = max(map(len, lines))
    if longest > limits.line:
        raise TooLarge("header field", longest, limits.line)


def _check_uri(uri: str, limits: Limits) -> None:
    if len(uri) > limits.uri:
        raise UriTooLong("Request-URI", len(uri), limits.uri)
    # Escaped ones too: a header of a URI may be a URI with parameters and headers of its own.
    params = sum(map(uri.lower().count, (";", "?", "&", "%3b", "%3f", "%26")))
    if params > limits.uri_params:
        raise UriTooLong("number of URI parameters", params, limits.uri_params)


def _fit(message: Message, length: str) -> None:
    """Cut the body to Content-Length (RFC 3261 18.3)."""
    text = length.strip()
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        raise Malformed("Content-Length", text)
    size = int(text)
    if size > len(message.body):
        raise Malformed("Content-Length", f"{size}, but the body has {len(message.body)}")
    if size < len(message.body):
        message.body = message.body[:size]


def _salvage(
    message: Request | Response | None, line: str, head: str, index: dict[str, str], more: dict[str, list[str]] | None
) -> Request | None:
    """What a refusal can be composed from, if From, To, Call-ID, CSeq and Via can be told. Never for ACK (RFC 3261 17)."""
    if isinstance(message, Response) or line[:4].upper() == "SIP/" or not index.keys() >= _ANSWERABLE:
        return None
    method = line.partition(" ")[0]
    request = message or Request(method, line.partition(" ")[2].rpartition(" ")[0], head)
    request.fields = index
    request._more = more
    try:
        acknowledgement = request.cseq.method == "ACK"
        _ = request.via
    except SipError:
        return None
    return None if acknowledgement or method == "ACK" else request


METHODS = frozenset(
    {
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "REGISTER",
        "OPTIONS",
        "INFO",
        "UPDATE",
        "PRACK",
        "SUBSCRIBE",
        "NOTIFY",
        "REFER",
        "MESSAGE",
        "PUBLISH",
    }
)
_MOST = 2**32 - 1
_SHORT = 64
"Characters of a request line that need no look: whatever it is, it is not deep."
_LINE_ENDS = (b"\r", b"\n")
_OURS = ("sip", "sips")
_MAKES_DIALOGS = frozenset({"INVITE", "UPDATE", "SUBSCRIBE", "NOTIFY", "REFER"})
"Or changes where the requests of one go (RFC 3261 12.2)."
_ANYWAY = frozenset({"REGISTER", "OPTIONS", "ACK", "CANCEL"})
"What is served although it may go no further."
_ANSWERABLE = frozenset({"via", "from", "to", "call-id", "cseq"})


def _missing(key: str) -> Malformed:
    return Malformed(SINGLE.get(key, "Via"), "missing")


def _tag(text: str) -> str:
    """The tag of a From or To, without parsing the whole."""
    before, mark, tag = text.partition(">;tag=")
    if mark and ">" not in before and is_plain_tag(tag) and (tag := tag.strip()):
        return tag  # as nearly everybody writes it
    bracket = text.find(">") + 1
    if bracket == len(text) > 0:
        return ""
    if text.find('"', bracket) >= 0:
        return NameAddr.parse(text).tag  # a quoted parameter, or a display name with brackets in it
    after = text.rfind(">") + 1
    match = TAG.search(text, after)
    return match[1].rstrip() if match else ""


@lru_cache(maxsize=1024)
def _bounded(name: str, text: str, maximum: int) -> int:
    """A number of any length, beyond twelve digits something as large. `70` and `3600` are usual. Raises Malformed."""
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        raise Malformed(name, text)
    number = int(text.lstrip("0")[:12] or "0")
    if number > maximum:
        raise Malformed(name, text)
    return min(number, _MOST)


# ---- judging -------------------------------------------------------------------------------------------------------


def check(request: Request, extensions: frozenset[str] | None = None) -> None:
    """Raise the SipError for what RFC 3261 8.1.1, 8.2 and 16.3 demand of a request.

    `extensions`: the option tags that may stand in Require; None leaves Require to the user.
    """
    method, fields = request.method, request.fields
    request.identify()
    to, from_ = fields.get("to"), fields.get("from")
    if to is None or from_ is None:
        raise _missing("to" if to is None else "from")
    if request.cseq.method != method:
        raise Malformed("CSeq", f"{request.cseq.method} in {method}")
    if request._more is not None:
        for key, name in SINGLE.items():
            if key in request._more:
                raise Malformed(name, "more than one")
    if method in _MAKES_DIALOGS:
        _ = request.target
        _check_target(request)
    request.to_tag = tag = _tag(to)
    if tag:
        _ = request.from_tag
        return
    request.to, request.from_ = NameAddr.parse(to), NameAddr.parse(from_)
    if method == "REGISTER" and request.to.uri.scheme not in _OURS:
        raise Malformed("To", str(request.to.uri))  # RFC 3261 10.2
    request.target = target = Uri.parse(request.uri)
    if target.scheme not in ("sip", "sips", "tel"):
        raise UnsupportedScheme(request.uri)
    if "max-forwards" in fields and request.max_forwards == 0 and method not in _ANYWAY:
        raise TooManyHops("Max-Forwards is 0")
    if extensions is not None and method not in ("ACK", "CANCEL"):
        unknown = [tag for tag in request.headers("require") if tag.lower() not in extensions]
        if unknown:
            raise BadExtension(unknown)


def check_response(response: Response) -> None:
    """Raise Malformed for what nobody should have to do with (RFC 3261 8.1.3, 18.1.2): drop it.

    The transaction's fields; and in answers that make a dialog all that the dialog is made of, so that nobody stumbles
    over it in the middle of a call.
    """
    response.identify()
    _ = response.from_tag, response.to_tag
    if response.cseq.method == "INVITE" and 100 < response.status < 400:
        _ = response.to, response.from_
        _check_target(response)
    elif response.cseq.method == "UPDATE" and 200 <= response.status < 300:
        _ = response.contacts


def _check_target(message: Message) -> None:
    """Where the requests of the dialog will go: Contact, and the route set."""
    _ = message.contacts
    for route in message.headers("record-route"):
        NameAddr.parse(route)
