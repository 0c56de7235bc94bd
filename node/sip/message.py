"""Messages: read lazily, kept as received."""

from __future__ import annotations

from collections.abc import Iterator

from node.sip.fields import CSeq, NameAddr, Via
from node.sip.uri import Uri


class Message:
    """A request or a response. Fields are read at first use; reading one may raise Malformed."""

    body: bytes

    def header(self, name: str) -> str | None:
        """First value of a header field, stripped; compact forms and case do not matter. None if it is not there."""
        raise NotImplementedError

    def headers(self, name: str) -> list[str]:
        """All values in order, list fields split at their commas."""
        raise NotImplementedError

    def items(self) -> Iterator[tuple[str, str]]:
        """All header fields in order, names as received, folding undone, lists not split."""
        raise NotImplementedError

    def encode(self) -> bytes:
        """The bytes: as received, or as composed."""
        raise NotImplementedError

    @property
    def via(self) -> Via:
        """The topmost Via."""
        raise NotImplementedError
    @property
    def from_(self) -> NameAddr: raise NotImplementedError
    @property
    def to(self) -> NameAddr: raise NotImplementedError
    @property
    def from_tag(self) -> str: raise NotImplementedError
    @property
    def to_tag(self) -> str: raise NotImplementedError
    @property
    def call_id(self) -> str: raise NotImplementedError
    @property
    def cseq(self) -> CSeq: raise NotImplementedError
    @property
    def contacts(self) -> list[NameAddr]:
        """Empty also for `Contact: *`, see `wildcard`."""
        raise NotImplementedError
    @property
    def wildcard(self) -> bool:
        """Is it `Contact: *`?"""
        raise NotImplementedError
    @property
    def max_forwards(self) -> int | None: raise NotImplementedError
    @property
    def expires(self) -> int | None: raise NotImplementedError
    @property
    def content_type(self) -> str:
        """Type and subtype in lower case, without parameters; `` without a body type."""
        raise NotImplementedError
    @property
    def user_agent(self) -> str: raise NotImplementedError


class Request(Message):
    method: str
    uri: str

    @property
    def target(self) -> Uri:
        """The Request-URI, parsed."""
        raise NotImplementedError


class Response(Message):
    status: int
    reason: str


def parse(data: bytes) -> Request | Response:
    """Read one message (a datagram, or one that a framer cut out). Raises Malformed, with `.request` where a refusal is possible."""
    raise NotImplementedError


def check(request: Request) -> None:
    """Raise the SipError for what RFC 3261 8.1.1 / 8.2 / 16.3 demands: mandatory fields, CSeq method, version, Max-Forwards."""
    raise NotImplementedError
