"""What a peer sent and we must refuse.

SipError                     400
 ├─ Malformed                400   a start line, header field or body that cannot be read
 ├─ TooLarge                 513   message longer than we take
 ├─ UriTooLong               414   a Request-URI longer or deeper than we take
 ├─ UnsupportedVersion       505
 ├─ UnsupportedScheme        416
 ├─ BadExtension             420   Require names what we do not know
 ├─ MethodNotAllowed         405
 ├─ NotAcceptable            406
 ├─ UnsupportedMedia         415
 ├─ TooManyHops              483
 ├─ LoopDetected             482   also the merged request
 ├─ NoSuchTransaction        481   no dialog or transaction to match
 ├─ OutOfOrder               500   CSeq below the last one of the dialog
 ├─ Unresolvable             503   nowhere to send to
 └─ Unanswerable             ---   so broken that not even a 400 can be composed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.sip.message import Request


class SipError(Exception):
    """What a peer sent and we must refuse, with the status to refuse it with."""

    status = 400
    reason = ""
    "Reason phrase where the standard one says too little."

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Header fields that the refusal must carry."""
        return []


class Malformed(SipError):
    """A part that cannot be read. `request` is set by `parse` where a 400 can still be composed from what was readable."""

    status = 400

    def __init__(self, what: str, text: str = "") -> None:
        super().__init__(f"bad {what}: {text[:80]!r}" if text else f"bad {what}")
        self.what = what
        self.text = text
        self.reason = f"Bad {what}"
        self.request: Request | None = None


class TooLarge(Malformed):
    status = 513

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, f"{size} > {limit}")
        self.reason = "Message Too Large"


class UriTooLong(Malformed):
    status = 414

    def __init__(self, what: str, size: int, limit: int) -> None:
        super().__init__(what, f"{size} > {limit}")
        self.reason = ""


class UnsupportedVersion(Malformed):
    status = 505

    def __init__(self, text: str = "") -> None:
        super().__init__("SIP version", text)
        self.reason = ""


class UnsupportedScheme(SipError):
    status = 416


class BadExtension(SipError):
    status = 420

    def __init__(self, tags: list[str]) -> None:
        super().__init__(f"unsupported extension {', '.join(tags)}")
        self.tags = tags

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Unsupported", ", ".join(self.tags))]


class NotAcceptable(SipError):
    """The peer takes no answer that we could give (RFC 3261 21.4.7)."""

    status = 406


class UnsupportedMedia(SipError):
    status = 415

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Accept", "application/sdp")]


class MethodNotAllowed(SipError):
    status = 405


class TooManyHops(SipError):
    status = 483


class LoopDetected(SipError):
    status = 482


class NoSuchTransaction(SipError):
    status = 481


class OutOfOrder(SipError):
    """A request in a dialog with a CSeq below the last one (RFC 3261 12.2.2)."""

    status = 500

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Retry-After", "1")]


class Unresolvable(SipError):
    status = 503


class Unanswerable(SipError):
    """So broken that not even a refusal can be composed: counted and dropped."""
