"""Messages of our own, composed as text from kept text: nothing that came in is taken apart and put together again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2s

from node.sip.errors import SipError
from node.sip.message import Request, Response

Headers = Iterable[tuple[str, str]]

REASONS = {
    100: "Trying",
    180: "Ringing",
    181: "Call Is Being Forwarded",
    182: "Queued",
    183: "Session Progress",
    199: "Early Dialog Terminated",
    200: "OK",
    202: "Accepted",
    204: "No Notification",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Moved Temporarily",
    305: "Use Proxy",
    380: "Alternative Service",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Conditional Request Failed",
    413: "Request Entity Too Large",
    414: "Request-URI Too Long",
    415: "Unsupported Media Type",
    416: "Unsupported URI Scheme",
    417: "Unknown Resource-Priority",
    420: "Bad Extension",
    421: "Extension Required",
    422: "Session Interval Too Small",
    423: "Interval Too Brief",
    424: "Bad Location Information",
    428: "Use Identity Header",
    429: "Provide Referrer Identity",
    430: "Flow Failed",
    433: "Anonymity Disallowed",
    437: "Unsupported Certificate",
    438: "Invalid Identity Header",
    439: "First Hop Lacks Outbound Support",
    440: "Max-Breadth Exceeded",
    469: "Bad Info Package",
    470: "Consent Needed",
    480: "Temporarily Unavailable",
    481: "Call/Transaction Does Not Exist",
    482: "Loop Detected",
    483: "Too Many Hops",
    484: "Address Incomplete",
    485: "Ambiguous",
    486: "Busy Here",
    487: "Request Terminated",
    488: "Not Acceptable Here",
    489: "Bad Event",
    491: "Request Pending",
    493: "Undecipherable",
    494: "Security Agreement Required",
    500: "Server Internal Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Server Time-out",
    505: "Version Not Supported",
    513: "Message Too Large",
    555: "Push Notification Service Not Supported",
    580: "Precondition Failure",
    600: "Busy Everywhere",
    603: "Decline",
    604: "Does Not Exist Anywhere",
    606: "Not Acceptable",
    607: "Unwanted",
    608: "Rejected",
}

_CLASSES = {1: "Progress", 2: "Success", 3: "Redirection", 4: "Client Error", 5: "Server Error", 6: "Global Failure"}


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
    head = f"{method} {uri} SIP/2.0\r\n"
    for route in routes:
        head += f"Route: {route}\r\n"
    head += (
        f"Max-Forwards: {max_forwards}\r\nFrom: {from_}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
    )
    return Request(method, uri, head + _rest(contact, headers, body, content_type), body)


def response(
    request: Request,
    status: int,
    reason: str | None = None,
    *,
    to_tag: str | None = None,
    contact: str | None = None,
    headers: Headers = (),
    lines: str = "",
    body: bytes = b"",
    content_type: str | None = None,
) -> Response:
    """A response (RFC 3261 8.2.6.2). Record-Route is copied into those that make dialogs (12.1.1), Timestamp into 100.

    Above 100 the To gets a tag: `to_tag`, or one that the same request would get again (8.2.7). A request that has
    one keeps it. `lines`: header fields before `headers`, ready to be sent: each ended by CRLF.
    """
    if reason is None:
        reason = REASONS.get(status) or reason_of(status)
    fields = request.fields
    to, from_ = fields.get("to", "").strip(), fields.get("from", "").strip()
    call_id, cseq = fields.get("call-id", "").strip(), fields.get("cseq", "").strip()
    if status > 100 and not request.to_tag:
        to = f"{to};tag={to_tag or _tag_of(f'{call_id} {from_} {cseq}')}"
    head = (
        f"SIP/2.0 {status} {reason}\r\n{request.vias()}From: {from_}\r\nTo: {to}\r\n"
        f"Call-ID: {call_id}\r\nCSeq: {cseq}\r\n"
    )
    if status == 100:
        timestamp = request.header("timestamp")
        if timestamp is not None:
            head += f"Timestamp: {timestamp}\r\n"
    elif status < 300 and "record-route" in fields:
        for route in request.headers("record-route"):
            head += f"Record-Route: {route}\r\n"
    return Response(status, reason, head + _rest(contact, headers, body, content_type, lines), body)


def refuse(request: Request, error: SipError) -> Response:
    """The response that a SipError stands for; to a request that lacks what it must have, with what is there."""
    there = [(name, request.header(name)) for name in ("From", "To", "Call-ID", "CSeq")]
    if all(value for _name, value in there) and _tag_can_be_told(request):
        return response(request, error.status, error.reason or None, headers=error.headers)
    reason = error.reason or reason_of(error.status)
    head = f"SIP/2.0 {error.status} {reason}\r\n{request.vias()}"
    head += "".join(f"{name}: {value}\r\n" for name, value in there if value)
    return Response(error.status, reason, head + _rest(None, error.headers, b"", None), b"")


def _tag_can_be_told(request: Request) -> bool:
    try:
        return request.to_tag is not None
    except SipError:
        return False


def _rest(contact: str | None, headers: Headers, body: bytes, content_type: str | None, lines: str = "") -> str:
    """What both kinds end with; its last line without CRLF."""
    text = f"Contact: {contact}\r\n{lines}" if contact else lines
    for name, value in headers:
        text += f"{name}: {value}\r\n"
    if content_type:
        text += f"Content-Type: {content_type}\r\n"
    return f"{text}Content-Length: {len(body)}"


def with_via(request: Request, via: str) -> Request:
    """The same request with one more Via on top."""
    start, _, fields = request.text.partition("\r\n")
    return Request(request.method, request.uri, f"{start}\r\nVia: {via}\r\n{fields}", request.body)


def stateless_tag(request: Request) -> str:
    """A To tag that a retransmission of the same request gets again (RFC 3261 8.2.7)."""
    return _tag_of(" ".join(request.origin))


def _tag_of(origin: str) -> str:
    return blake2s(origin.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def reason_of(status: int) -> str:
    """The reason phrase of the RFCs, or one that says the class."""
    return REASONS.get(status) or _CLASSES.get(status // 100, "Unknown")
