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
"With this begin the To tags of the refusals made here: no slot is called so, and what follows on them is known by it."


class Standing(IntEnum):
    """In which order requests are served; the least first."""

    RUNNING = 0
    "Of a dialog, or the CANCEL of an INVITE that was accepted: served at once."
    REPEATED = 1
    "There is a transaction of it: what it was answered, if anything, is said again."
    CHALLENGED = 2
    "New, with credentials for a nonce of ours: the first half was paid for by the challenge."
    FRESH = 3
    "New."
    SPENT = 4
    "The ACK to a refusal made here, or a BYE after it, as some send: there is nothing behind its tag."


Usual = re.Match[bytes]
"What `usual` has found."
Key = tuple[str, str, str]
Known = Callable[[str, str, str], bool]
"Branch, sent-by, method: is there such a server transaction?"
Issued = Callable[[str], bool]
"Is this a nonce of ours that is still good?"


def usual(data: bytes) -> Usual | None:
    """The fields that matter, if they stand as nearly everybody writes them; else they are looked for one by one.

    One match of 1.3 us, for both `standing` and `refusal`.
    """
    found = _USUAL.match(data, 0, _LOOKED_AT)
    if found is None:
        return None
    start = found.end() - 2
    end = data.find(b"\r\n\r\n", start)
    if data.find(b"\nV", start, end) >= 0 or data.find(b"\nv", start, end) >= 0:
        return None  # another Via, perhaps; not the body's v=0
    return found


def standing(data: bytes, known: Known, issued: Issued, seen: Usual | None = None) -> Standing:
    """What a request is worth. Text that is no request at all is fresh: whoever parses it will find out.

    `seen`: what `usual` says of it, where somebody has asked already.
    """
    if seen is not None and b";" not in seen[_U_TO]:
        if known(*_key(*seen.group(_U_METHOD, _U_SENT_BY, _U_BRANCH))):
            return Standing.RUNNING if data.startswith(b"CANCEL ") else Standing.REPEATED
        if data.find(b'nonce="', seen.end(_U_VIA)) >= 0 and issued(_nonce(data)):
            return Standing.CHALLENGED
        return Standing.FRESH
    tag = to_tag(data)
    method = data[: data.find(b" ", 0, 32)]
    if tag:
        if tag.startswith(TAG):
            return Standing.SPENT
        # A tag that is not of our making names no dialog of ours: looking it up is not worth a call.
        return Standing.RUNNING if method == b"ACK" or _OURS.match(tag) else Standing.FRESH
    via = _VIA_VALUE.match(data, *_field(data, b"\r\nVia:", _VIA))
    if via is not None and known(*_key(method, *via.groups())):
        return Standing.RUNNING if method == b"CANCEL" else Standing.REPEATED
    if b'nonce="' in data and issued(_nonce(data)):
        return Standing.CHALLENGED
    return Standing.FRESH


def key(seen: Usual) -> Key | None:
    """Branch, sent-by and method by which its transaction is found; a CANCEL has its INVITE's.

    None if the answer may go elsewhere than where the request came from (RFC 3581): that is to be read.
    """
    if seen[_U_PARAMS] != b";rport" and not seen[_U_REST].endswith(b";rport"):
        return None
    return _key(*seen.group(_U_METHOD, _U_SENT_BY, _U_BRANCH))


def mark(seen: Usual) -> bytes:
    """Branch and CSeq: the same in all copies of a request, and in no other (RFC 3261 8.1.1.7), as `mark_of` says it."""
    return seen[_U_BRANCH] + seen[_U_CSEQ]


def mark_of(branch: str, cseq: str) -> bytes:
    """What `mark` says of a request that was read: the branch of its topmost Via, and its CSeq as it stands there."""
    return (branch + cseq).encode("utf-8", "surrogateescape")


def call_id(data: bytes, seen: Usual | None = None) -> bytes:
    """The Call-ID, by which who comes again with credentials is known (RFC 3261 8.1.3.5); empty if it has none."""
    if seen is not None:
        return seen[_U_CALL_ID]
    start, end = _field(data, *_COPIED[2])
    return data[start:end]


def running(data: bytes) -> bool:
    """Does it bear a To tag of ours? As `standing` would say, for those who know no transactions."""
    return _OURS.match(to_tag(data)) is not None


def to_tag(data: bytes) -> bytes:
    """The tag of To; empty if it has none."""
    start, end = _field(data, b"\r\nTo:", _TO)
    return _tag(data, start, end)


def refusal(
    data: bytes, remote: Address, *, reliable: bool, retry_after: int = 0, seen: Usual | None = None
) -> tuple[bytes, Address] | None:
    """A 503 to these bytes and where it goes (RFC 3261 18.2.2, RFC 3581), or None if none can be made (or they are an ACK).

    The same request gets the same answer (8.2.7). `retry_after` in seconds, spread over as many again so that those who
    were refused together do not come back together; 0: without one. `seen` as for `standing`.
    """
    if data.startswith(b"ACK "):
        return None
    if seen is not None and retry_after:
        made = _usual_refusal(seen, remote, retry_after)
        if made:
            return made, remote
    values = []
    for usual, odd in _COPIED:
        start, end = _field(data, usual, odd)
        if start == end:
            return None
        values.append(data[start:end])
    from_, to, call_id, cseq = values
    stamped = _stamp(_vias(data), remote, reliable=reliable)
    if stamped is None:
        return None
    via, there = stamped
    if any(map(_LOOSE.search, (via, *values))):
        return None
    mark = crc32(call_id)
    if not _tag(to, 0, len(to)):
        to += b";tag=%s%08x" % (TAG, mark)
    if retry_after:
        cseq += b"\r\nRetry-After: %d" % (retry_after + mark % (retry_after + 1))
    return _REFUSAL % (via, from_, to, call_id, cseq), there


# ---- inside --------------------------------------------------------------------------------------------------------


def _key(method: bytes, sent_by: bytes, branch: bytes) -> Key:
    name = "INVITE" if method == b"CANCEL" else method.decode("latin-1")
    return branch.decode("latin-1"), sent_by.decode("latin-1"), name


def _usual_refusal(seen: Usual, remote: Address, retry_after: int) -> bytes:
    """As `refusal`; empty if it is not as simple as that: To has a parameter, or Via no rport."""
    via, params, rest, from_, to, call_id, cseq = seen.group(*_U_COPIED)
    host, port = remote
    if params == b";rport":
        via = b"%s;rport=%d%s" % (via, port, rest)
    elif not params and rest.endswith(b";rport"):
        via = b"%s%s=%d" % (via, rest, port)
    else:
        return b""
    if b";" in to:
        return b""
    mark = crc32(call_id)
    after = retry_after + mark % (retry_after + 1)
    return _USUAL_REFUSAL % (via, host.encode(), from_, to, mark, call_id, cseq, after)


def _field(data: bytes, usual: bytes, odd: re.Pattern[bytes]) -> tuple[int, int]:
    """Where the value of the first such field is, its folds included; nowhere (0, 0) if there is none.

    A body that has such a line is not told from the head: then the head has none, and whatever comes of it is refused.
    """
    start = data.find(usual)
    if start >= 0:
        start += len(usual)
    else:
        match = odd.search(data)
        if match is None:
            return 0, 0
        start = match.end()
    end = data.find(b"\r\n", start)
    while end >= 0 and data[end + 2 : end + 3] in (b" ", b"\t"):
        end = data.find(b"\r\n", end + 2)
    return start, end if end >= 0 else len(data)


def _tag(data: bytes, start: int, end: int) -> bytes:
    """The tag of a From or To that stands there; empty if it has none."""
    start = max(start, data.rfind(b">", start, end))
    found = data.find(b";tag=", start, end)
    if found >= 0:
        return data[found + 5 : end].partition(b";")[0].strip()
    if data.find(b";", start, end) < 0:
        return b""
    match = _TAG.search(data, start, end)
    return match[1] if match is not None else b""


def _nonce(data: bytes) -> str:
    """The nonce of the credentials; empty if there are none. Not the `cnonce`, which some put first."""
    found = data.find(b'nonce="')
    while found > 0 and data[found - 1] in b"cC":
        found = data.find(b'nonce="', found + 1)
    return data[found + 7 : data.find(b'"', found + 7)].decode("latin-1") if found >= 0 else ""


def _vias(data: bytes) -> bytes:
    """The values of all Via fields, in their order, as they go into an answer."""
    if data.count(b"\r\nVia:") == 1 == data.count(b"\nV") and b"\nv" not in data:
        start, end = _field(data, b"\r\nVia:", _VIA)
        return data[start:end].strip()
    end = data.find(b"\r\n\r\n")
    head = data[: end + 2] if end >= 0 else data
    starts = [match.end() for match in _VIA.finditer(head)]
    return b"\r\nVia: ".join(head[start : head.find(b"\r\n", start)].strip() for start in starts)


def _stamp(vias: bytes, remote: Address, *, reliable: bool) -> tuple[bytes, Address] | None:
    """The Vias with where the request came from written into the top one, and where the answer goes."""
    host, port = remote
    there = remote
    if vias.find(b";rport;") > 0 and not any(each in vias for each in (b",", b"received", b"\r")):
        # As nearly all of them are.
        return vias.replace(b";rport;", b";rport=%d;" % port, 1) + b";received=" + host.encode(), there
    match = _TOP.match(vias)
    if match is None:
        return None
    before, named, params = match.groups()
    asked = _RPORT.search(params)
    if asked is not None:
        params = b"%s;rport=%d%s" % (params[: asked.start()], port, params[asked.end() :])
    elif not reliable:
        there = host, int(named or 5060)
        if not 0 < there[1] < 65536:
            return None  # no port: nothing can be sent there, and a socket raises what nobody expects
    if b"received" in params:
        params = _RECEIVED.sub(b"", params)
    return b"%s%s;received=%s%s" % (before, params, host.encode(), vias[match.end() :]), there


_REFUSAL = (
    b"SIP/2.0 503 Service Unavailable\r\nVia: %s\r\nFrom: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %s\r\n"
    b"Content-Length: 0\r\n\r\n"
)
_USUAL_REFUSAL = (
    b"SIP/2.0 503 Service Unavailable\r\nVia: %s;received=%s\r\nFrom: %s\r\n"
    b"To: %s;tag=gate.%08x\r\nCall-ID: %s\r\nCSeq: %s\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"
)
_USUAL = re.compile(
    # One Via before the others, with its branch; and none of these is folded. What cannot match is given up in one pass:
    # nothing inside of an atomic group is tried a second way, or a flood of odd messages would buy time.
    rb"(\w+) [^\r\n]+\r\n(?>(?:(?![Vv])[^\r\n\t ][^\r\n]*\r\n)*)"
    rb"Via: (SIP/2\.0/[A-Z]+ ([\w.:\-\[\]]+))((?>(?:;(?!branch=|received)[^;,\s\"]+)*))(;branch=([^;,\s\"]+)[^,\s\"]*)\r\n"
    rb"(?>(?:(?!From: |[Vv])[^\r\n\t ][^\r\n]*\r\n)*)From: ([^\r\n]+)\r\n"
    rb"(?>(?:(?!To: |[Vv])[^\r\n\t ][^\r\n]*\r\n)*)To: ([^\r\n]+)\r\n"
    rb"(?>(?:(?!Call-ID: |[Vv])[^\r\n\t ][^\r\n]*\r\n)*)Call-ID: ([^\r\n]+)\r\n"
    rb"(?>(?:(?!CSeq: |[Vv])[^\r\n\t ][^\r\n]*\r\n)*)CSeq: ([^\r\n]+)\r\n(?![ \t])"
)
_U_METHOD, _U_VIA, _U_SENT_BY, _U_PARAMS, _U_REST, _U_BRANCH, _U_FROM, _U_TO, _U_CALL_ID, _U_CSEQ = range(1, 11)
_U_COPIED = _U_VIA, _U_PARAMS, _U_REST, _U_FROM, _U_TO, _U_CALL_ID, _U_CSEQ
_LOOKED_AT = 2048
"Bytes within which all that is usual stands."
_TO = re.compile(rb"\r?\n(?:to|t)[ \t]*:", re.IGNORECASE)
_VIA = re.compile(rb"\r?\n(?:via|v)[ \t]*:", re.IGNORECASE)
_LOOSE = re.compile(rb"\r(?!\n(?:[ \t]|Via: ))|(?<!\r)\n")
"A line end within a value that is no fold: copied, it would begin a field of the peer's choice."
_COPIED = (
    (b"\r\nFrom: ", re.compile(rb"\r?\n(?:from|f)[ \t]*:[ \t]*", re.IGNORECASE)),
    (b"\r\nTo: ", re.compile(rb"\r?\n(?:to|t)[ \t]*:[ \t]*", re.IGNORECASE)),
    (b"\r\nCall-ID: ", re.compile(rb"\r?\n(?:call-id|i)[ \t]*:[ \t]*", re.IGNORECASE)),
    (b"\r\nCSeq: ", re.compile(rb"\r?\ncseq[ \t]*:[ \t]*", re.IGNORECASE)),
)
_HOST = rb"[^;,\s\[\]:]+|\[[^\]\s]*\]"
_VIA_VALUE = re.compile(rb"\s*SIP/2\.0/\w+\s+((?:" + _HOST + rb")(?::\d{1,5})?)\s*;(?:[^,\r\n]*;)?branch=([^;,\s]+)")
_TOP = re.compile(rb"(SIP\s*/\s*2\.0\s*/\s*\w+\s+(?:" + _HOST + rb")(?::(\d{1,5}))?)([^,\r\n]*)", re.IGNORECASE)
_TAG = re.compile(rb";\s*tag\s*=\s*([^;,\s>\"]+)", re.IGNORECASE)
_OURS = re.compile(rb"[A-Za-z0-9._]+\.[0-9]+-[A-Za-z0-9]+$")
_RPORT = re.compile(rb";\s*rport(?:\s*=\s*\d*)?(?=\s*(?:;|$))", re.IGNORECASE)
_RECEIVED = re.compile(rb";\s*received\s*=[^;]*", re.IGNORECASE)
