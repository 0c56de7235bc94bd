"""REFER and Replaces as they stand in messages: who is referred to, which dialog is to be replaced, what a NOTIFY says (pure).

RFC 3515 (REFER), RFC 3891 (Replaces), RFC 3892 (Referred-By), RFC 4488 (Refer-Sub).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from node.sip import compose
from node.sip.errors import Malformed, SipError
from node.sip.fields import NameAddr
from node.sip.message import Request, Response
from node.sip.uri import Uri, unescape

SIPFRAG = "message/sipfrag;version=2.0"
EXPIRES = 60
"Seconds that mod_sofia promises a referrer (RFC 3515 2.4.4)."

_STATUS = re.compile(r"SIP/2\.0 +([1-6][0-9][0-9])(?: +([^\r\n]*))?")


class BadReferTo(SipError):
    """RFC 3515 2.4.2: a REFER has exactly one Refer-To."""

    status = 400
    reason = "Bad Refer-To Header"


class BadReplaces(SipError):
    """RFC 3891 3: one Replaces, with both tags."""

    status = 400
    reason = "Bad Replaces Header"


@dataclass(frozen=True, slots=True)
class Replaces:
    """The dialog that a new one is to take the place of, as who receives it sees it (RFC 3891 6.1)."""

    call_id: str
    to_tag: str
    "The receiver's own tag."
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> Replaces:
        """`call-id;to-tag=a;from-tag=b;early-only`. Raises BadReplaces."""
        call_id, *params = [part.strip() for part in text.split(";")]
        given: dict[str, str] = {}
        for part in params:
            name, _, value = part.partition("=")
            if name.strip().lower() in given:
                raise BadReplaces(f"{name} twice")
            given[name.strip().lower()] = value.strip()
        if not call_id or "to-tag" not in given or "from-tag" not in given:
            raise BadReplaces(text)
        return cls(call_id, given["to-tag"], given["from-tag"], "early-only" in given)

    def __str__(self) -> str:
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is referred to."""

    uri: Uri
    "Without its headers part."
    replaces: Replaces | None
    full: str
    "The Refer-To as it came."


def target_of(request: Request) -> Target:
    """Who a REFER refers to. Raises BadReferTo (none, several, or nobody we could call) and BadReplaces."""
    values = [value for name, value in request.items() if name.lower() in ("refer-to", "r")]
    if len(values) != 1:
        raise BadReferTo(f"{len(values)} Refer-To fields")
    return target(values[0])


def target(text: str) -> Target:
    """A Refer-To as it stands. Raises BadReferTo and BadReplaces."""
    try:
        uri = NameAddr.parse(text).uri
    except Malformed as error:
        raise BadReferTo(str(error)) from None
    if uri.scheme not in ("sip", "sips", "tel") or not (uri.user or uri.host):
        raise BadReferTo(f"nobody to call: {text}")
    if (uri.param("method") or "INVITE").upper() != "INVITE":
        raise BadReferTo(f"only INVITE can be asked for: {text}")
    given = [part.partition("=") for part in uri.headers.split("&") if part]
    found = [unescape(value) for name, _, value in given if name.lower() == "replaces"]
    if len(found) > 1:
        raise BadReplaces("several")
    bare = Uri(uri.scheme, uri.user, uri.host, uri.port, uri.password, uri.params)
    return Target(bare.without_params("method"), Replaces.parse(found[0]) if found else None, text)


def replaces_of(request: Request) -> Replaces | None:
    """The dialog that an INVITE is to take the place of, if it names one. Raises BadReplaces."""
    values = [value for name, value in request.items() if name.lower() == "replaces"]
    if not values:
        return None
    if len(values) > 1 or request.header("Join") is not None:
        raise BadReplaces("several")  # RFC 3891 3, RFC 3911 4
    return Replaces.parse(values[0])


def refer_to(uri: Uri, replaces: Replaces) -> str:
    """A Refer-To that asks for a replacement, escaped as a URI demands."""
    bare = Uri(uri.scheme, uri.user, uri.host, uri.port, uri.password, uri.params)
    return f"<{bare}?Replaces={quote(str(replaces), safe='-_.!~*()')}>"


# ---- the implicit subscription -------------------------------------------------------------------------------------


def unsubscribed(request: Request) -> bool:
    """Does the referrer not want to hear what comes of it (RFC 4488 4)?"""
    return (request.header("Refer-Sub") or "").partition(";")[0].strip().lower() == "false"


def event(cseq: int) -> str:
    """The Event of its NOTIFYs: several REFERs may be made in one dialog (RFC 3515 2.4.6)."""
    return f"refer;id={cseq}"


def fragment(status: int, phrase: str = "") -> bytes:
    """The body of a NOTIFY: the status line of what the transfer has come to."""
    return f"SIP/2.0 {status} {phrase or compose.reason_of(status)}\r\n".encode()


UNSUBSCRIBED = "terminated;reason=timeout"
"The Subscription-State of the last NOTIFY to who ends its subscription (RFC 6665 4.2.1.4)."


def state(*, final: bool) -> str:
    """The Subscription-State of a NOTIFY."""
    return "terminated;reason=noresource" if final else f"active;expires={EXPIRES}"


def reported(message: Request | Response) -> int:
    """The status that a NOTIFY reports; 0 if it reports none."""
    match = _STATUS.match(message.body.decode("utf-8", "replace").lstrip())
    return int(match[1]) if match else 0
