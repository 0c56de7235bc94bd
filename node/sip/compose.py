"""Messages of our own, composed as text from kept text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from node.sip.message import Request, Response

Headers = Iterable[tuple[str, str]]


def request(
    method: str,
    uri: str,
    *,
    from_: str,
    to: str,
    call_id: str,
    cseq: int,
    max_forwards: int = 70,
    routes: Sequence[str] = (),
    contact: str | None = None,
    headers: Headers = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Request:
    """A request without Via, which the layer puts on top. `from_` and `to` are whole fields, tags included; `routes` name-addrs."""
    raise NotImplementedError


def response(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    contact: str | None = None,
    headers: Headers = (),
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """A response (RFC 3261 8.2.6.2). Record-Route is copied into those that make dialogs (12.1.1), Timestamp into 100."""
    raise NotImplementedError


def with_via(request: Request, via: str) -> Request:
    """The same request with one more Via on top."""
    raise NotImplementedError


def reason_of(status: int) -> str:
    """The reason phrase of the RFCs."""
    raise NotImplementedError
