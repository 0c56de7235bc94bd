"""One field at a time, as the PROTOS suites do: each element of an INVITE, with each of a list of oddities in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.fuzz.mutation import EDGES

TEMPLATE = (
    "«method|INVITE» «scheme|sip»:«user|9196»@«host|sofia.test»:«port|5060»;transport=«transport|udp» «protocol|SIP»/«version|2.0»\r\n"
    "Via: «via protocol|SIP/2.0»/«via transport|UDP» «via host|{host}»:«via port|{port}»;rport«via rport|»;branch=«branch|z9hG4bKa{n}»\r\n"
    "Via: «second via|SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKb{n}»\r\n"
    "Max-Forwards: «max-forwards|70»\r\n"
    "«from name|From»: «from display|\"Ada\"» <«from scheme|sip»:«from user|1000»@«from host|sofia.test»>;«from tag name|tag»=«from tag|f{n}»\r\n"
    "To: «to display|\"Echo\"» <sip:«to user|9196»@«to host|sofia.test»>«to params|»\r\n"
    "Call-ID: «call-id|anomaly-{n}»\r\n"
    "CSeq: «cseq number|{n}» «cseq method|INVITE»\r\n"
    "Contact: <sip:«contact user|1000»@«contact host|{host}»:«contact port|{port}»;«contact param|ob»>;expires=«contact expires|60»;q=«contact q|0.5»\r\n"
    "Record-Route: <«record-route|sip:{host}:{port};lr»>\r\n"
    "Allow: «allow|INVITE, ACK, BYE»\r\n"
    "Supported: «supported|replaces, path»\r\n"
    "Require«require|: path»\r\n"
    "Session-Expires: «session-expires|1800»;refresher=«refresher|uac»\r\n"
    "Min-SE: «min-se|90»\r\n"
    "Expires: «expires|120»\r\n"
    "Date: «date|Mon, 23 Nov 2026 09:30:00 GMT»\r\n"
    "User-Agent: «user-agent|Anomalous 1.0»\r\n"
    "Subject: «subject|nothing»\r\n"
    "Accept: «accept|application/sdp»\r\n"
    "P-Asserted-Identity: «p-asserted-identity|<sip:1000@sofia.test>»\r\n"
    "Remote-Party-ID: «remote-party-id|<sip:1000@sofia.test>;party=calling;screen=yes;privacy=off»\r\n"
    "Privacy: «privacy|none»\r\n"
    "Diversion: «diversion|<sip:2@sofia.test>;reason=unconditional;counter=1»\r\n"
    "History-Info: «history-info|<sip:3@sofia.test>;index=1»\r\n"
    "Proxy-Authorization: «authorization|Digest username=\"1000\", realm=\"sofia.test\", nonce=\"0\", uri=\"sip:x\", response=\"0\"»\r\n"
    "«x-name|X-Own»: «x-value|yes»\r\n"
    "Content-Type: «content-type|application/sdp»\r\n"
    "Content-Disposition: «content-disposition|session»\r\n"
    "Content-Length: «content-length|{size}»\r\n"
    "\r\n"
    "v=«v|0»\r\n"
    "o=«o user|ada» «o session|1» «o version|1» IN «o type|IP4» «o address|{host}»\r\n"
    "s=«s|-»\r\n"
    "c=IN «c type|IP4» «c address|{host}»\r\n"
    "b=«b|AS:64»\r\n"
    "t=«t|0 0»\r\n"
    "m=«m kind|audio» «m port|40000» «m protocol|RTP/AVP» «m format|0» 8 101\r\n"
    "a=rtpmap:«rtpmap number|0» «rtpmap name|PCMU»/«rtpmap rate|8000»\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
    "a=fmtp:101 «fmtp|0-15»\r\n"
    "a=ptime:«ptime|20»\r\n"
    "a=rtcp:«rtcp|40001»\r\n"
    "a=«direction|sendrecv»\r\n"
    "«line|a»=«attribute|x-own:1»\r\n"
)  # fmt: skip
PIECES = re.split("«([^|»]+)\\|([^»]*)»", TEMPLATE)
ELEMENTS = PIECES[1::3]

DELIMITERS = [b":", b";", b",", b"=", b"@", b"<", b">", b'"', b"\\", b"/", b"?", b"&", b"[", b"(", b"%", b"\r", b"\n"]
ODDITIES: dict[str, bytes] = {
    **{f"overflow {2**n}": b"A" * 2**n for n in range(5, 16)},
    **{f"digits {2**n}": b"9" * 2**n for n in range(5, 14, 2)},
    "format strings": b"%s%n%x%d%p" * 8,
    "many format strings": b"%n" * 2048,
    "path": b"../../../../etc/passwd\x00",
    "bad utf-8": b"\xc3\x28",
    "overlong utf-8": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "end of utf-8": b"a\xf0\x9f",
    "all high bytes": bytes(range(128, 256)),
    "right to left": "\u202egnol".encode(),
    "NUL": b"\x00",
    "NUL within": b"a\x00b",
    "controls": bytes(range(1, 32)),
    "DEL": b"\x7f",
    "nothing": b"",
    "blank": b" ",
    "tab": b"\t",
    "many blanks": b" " * 512,
    "fold": b"a\r\n b",
    "empty line": b"\r\n\r\n",
    "smuggled field": b"a\r\nX-Smuggled: yes",
    "escapes": b"%00%0d%0a%ff%",
    "quote": b'"never closed',
    "backslash": b'"\\',
    "two": b"a b",
    "list": b"a, b,, c,",
    **{f"number {n}": edge for n, edge in enumerate(EDGES[:14])},
    **{f"{delimiter!r} x {times}": delimiter * times for delimiter in DELIMITERS for times in (1, 256)},
}


def cases(host: str, port: int) -> Iterator[tuple[str, bytes]]:
    """What is odd about it, and the INVITE: for who listens there."""
    number = 0
    for element in ELEMENTS:
        for oddity, value in ODDITIES.items():
            number += 1
            yield f"{element}: {oddity}", compose(element, value, host, port, number)


def compose(element: str, value: bytes, host: str, port: int, number: int) -> bytes:
    """The INVITE with this value in place of that element; the length of its body is told rightly, unless it is the oddity."""
    head, _mark, body = _filled(element, value).partition(b"\x01")
    known = {b"{host}": host.encode(), b"{port}": str(port).encode(), b"{n}": str(number).encode()}
    for name, text in known.items():
        head, body = head.replace(name, text), body.replace(name, text)
    return head.replace(b"{size}", str(len(body)).encode()) + body


def _filled(element: str, value: bytes) -> bytes:
    parts = []
    for at in range(0, len(PIECES) - 1, 3):
        parts.append(PIECES[at].replace("\r\n\r\nv=", "\r\n\r\n\x01v=").encode())
        parts.append(value if PIECES[at + 1] == element else PIECES[at + 2].encode())
    return b"".join([*parts, PIECES[-1].encode()])
