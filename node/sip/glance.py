"""A look at the bytes of a request, before anything is parsed: what it is worth when not all can be served.

A request that continues something goes first: half of its work is done, and refusing it would waste that half. What starts
something new can be refused for a tenth of what it costs to take it, by a 503 made of its own header lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from zlib import crc32

from node.sip.flow import Address

TAG = b"gate."
"With this begin the To tags of the refusals made here: no slot is called so, and their ACKs are known by it."


class Standing(IntEnum):
    """In which order requests are served; the least first."""

    RUNNING = 0
    "Of a dialog, or of a transaction that was accepted: served at once."
    CHALLENGED = 1
    "New, with credentials for a nonce of ours: the first half was paid for by the challenge."
    FRESH = 2
    "New."
    SPENT = 3
    "The ACK to a refusal made here: nobody waits for it."


Known = Callable[[str, str, str], bool]
"Branch, sent-by, method: is there such a server transaction?"
Issued = Callable[[str], bool]
"Is this a nonce of ours that is still good?"


def standing(data: bytes, known: Known, issued: Issued) -> Standing:
    """What a request is worth. Text that is no request at all is fresh: whoever parses it will find out."""
    head = data[: _end(data)]
    tag = _tag_of(_line(head, b"\r\nTo:", _TO))
    if tag:
        method = head[: head.find(b" ")]
        if tag.startswith(TAG):
            return Standing.SPENT if method == b"ACK" else Standing.FRESH
        # A tag that is not of our making names no dialog of ours: looking it up is not worth a call.
        return Standing.RUNNING if method == b"ACK" or _OURS.match(tag) else Standing.FRESH
    if _is_known(head, known):
        return Standing.RUNNING
    start = head.find(b'nonce="') + 7
    if start >= 7 and head[start + 48 : start + 49] == b'"' and issued(head[start : start + 48].decode("latin-1")):
        return Standing.CHALLENGED
    return Standing.FRESH


def running(data: bytes) -> bool:
    """Does it bear a To tag of ours? As `standing` would say, for those who know no transactions."""
    return _OURS.match(_tag_of(_line(data[: _end(data)], b"\r\nTo:", _TO))) is not None


def refusal(data: bytes, remote: Address, *, reliable: bool, retry_after: int = 0) -> tuple[bytes, Address] | None:
    """A 503 to these bytes and where it goes (RFC 3261 18.2.2, RFC 3581), or None if none can be made (or they are an ACK).

    The same request gets the same answer (8.2.7). `retry_after` in seconds, spread over as many again so that those who
    were refused together do not come back together; 0: without one.
    """
    head = data[: _end(data)]
    vias = _all(head, b"\r\nVia:", _VIA)
    from_, to = _line(head, b"\r\nFrom:", _FROM).strip(), _line(head, b"\r\nTo:", _TO).strip()
    call_id, cseq = _line(head, b"\r\nCall-ID:", _CALL_ID).strip(), _line(head, b"\r\nCSeq:", _CSEQ).strip()
    if not (vias and from_ and to and call_id and cseq) or head.startswith(b"ACK "):
        return None
    stamped = _stamp(vias[0], remote, reliable=reliable)
    if stamped is None:
        return None
    top, there = stamped
    mark = crc32(call_id + cseq)
    if not _tag_of(to):
        to += b";tag=%s%08x" % (TAG, mark)
    if retry_after:
        cseq += b"\r\nRetry-After: %d" % (retry_after + mark % (retry_after + 1))
    via = b"\r\nVia: ".join((top, *(each.strip() for each in vias[1:])))
    return _REFUSAL % (via, from_, to, call_id, cseq), there


# ---- inside --------------------------------------------------------------------------------------------------------


def _end(data: bytes) -> int:
    end = data.find(b"\r\n\r\n")
    return end if end >= 0 else len(data)


def _line(head: bytes, usual: bytes, odd: re.Pattern[bytes], start: int = 0) -> bytes:
    """The value of the first such field behind `start`, with its folds; empty if there is none."""
    found = head.find(usual, start)
    if found >= 0:
        found += len(usual)
    else:
        match = odd.search(head, start)
        if match is None:
            return b""
        found = match.end()
    return head[found : _fold_end(head, found)]


def _all(head: bytes, usual: bytes, odd: re.Pattern[bytes]) -> list[bytes]:
    """The values of all such fields, in their order."""
    starts = [match.end() for match in odd.finditer(head)] if b"\nv:" in head or b"\nV:" in head else []
    if not starts:
        found = head.find(usual)
        while found >= 0:
            starts.append(found + len(usual))
            found = head.find(usual, found + 1)
    return [head[start : _fold_end(head, start)] for start in starts]


def _fold_end(head: bytes, start: int) -> int:
    end = head.find(b"\r\n", start)
    while end >= 0 and head[end + 2 : end + 3] in (b" ", b"\t"):
        end = head.find(b"\r\n", end + 2)
    return end if end >= 0 else len(head)


def _tag_of(value: bytes) -> bytes:
    """The tag of a From or To; empty if it has none."""
    start = value.rfind(b">") + 1
    found = value.find(b";tag=", start)
    if found >= 0:
        return value[found + 5 :].partition(b";")[0].strip()
    if value.find(b";", start) < 0:
        return b""
    match = _TAG.search(value, start)
    return match[1] if match is not None else b""


def _is_known(head: bytes, known: Known) -> bool:
    via = _line(head, b"\r\nVia:", _VIA)
    before, semicolon, params = via.partition(b";")
    start = params.find(b"branch=")
    words = before.split()
    if not semicolon or start < 0 or len(words) != 2:
        return False
    branch = params[start + 7 :].partition(b";")[0].partition(b",")[0].strip()
    method = head[: head.find(b" ")]
    name = "INVITE" if method == b"CANCEL" else method.decode("latin-1")
    return known(branch.decode("latin-1"), words[1].decode("latin-1"), name)


def _stamp(via: bytes, remote: Address, *, reliable: bool) -> tuple[bytes, Address] | None:
    """The top Via with where the request came from written into it, and where the answer goes."""
    top, comma, rest = via.strip().partition(b",")
    before, semicolon, params = top.partition(b";")
    words = before.split()
    if len(words) != 2 or not semicolon:
        return None
    host, port = remote
    there = remote
    if b"rport" in params:
        params = _RPORT.sub(b"rport=%d" % port, params, count=1)
    elif not reliable:
        _, _, named = words[1].rpartition(b"]")[2].rpartition(b":")
        there = host, int(named) if words[1].endswith(b":" + named) and named.isdigit() else 5060
    if b"received" in params:
        params = _RECEIVED.sub(b"", params)
    return b"%s;%s;received=%s%s%s" % (before, params, host.encode(), comma, rest), there


_REFUSAL = (
    b"SIP/2.0 503 Service Unavailable\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_TO = re.compile(rb"\r?\n(?:to|t)[ \t]*:", re.IGNORECASE)
_VIA = re.compile(rb"\r?\n(?:via|v)[ \t]*:", re.IGNORECASE)
_FROM = re.compile(rb"\r?\n(?:from|f)[ \t]*:", re.IGNORECASE)
_CALL_ID = re.compile(rb"\r?\n(?:call-id|i)[ \t]*:", re.IGNORECASE)
_CSEQ = re.compile(rb"\r?\ncseq[ \t]*:", re.IGNORECASE)
_TAG = re.compile(rb";\s*tag\s*=\s*([^;,\s>\"]+)", re.IGNORECASE)
_OURS = re.compile(rb"[A-Za-z0-9._]+\.[0-9]+-[A-Za-z0-9]+$")
_RPORT = re.compile(rb"\brport\b(?:\s*=\s*\d*)?", re.IGNORECASE)
_RECEIVED = re.compile(rb";\s*received\s*=[^;]*", re.IGNORECASE)
