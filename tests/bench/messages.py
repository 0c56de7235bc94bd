"""The messages that are measured: as phones write them, of the sizes that are usual."""

from __future__ import annotations

SDP = (
    "v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    "m=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)
CREDENTIALS = (
    'Digest username="1000",realm="example.org",nonce="5f3759df0000000000000000000000000000000000000000{n:04x}",'
    'uri="sip:example.org",response="6629fae49393a05397450978507c4ef1",cnonce="0a4f113b0a4f113b",nc=00000001,'
    "qop=auth,algorithm=MD5"
)
AGENT = "User-Agent: Bench Phone B-640/4.12.0 build 12345 (00:15:65:9f:8e:7d; en-GB; Europe/London)"
SEEN = "P-Access-Network-Info: IEEE-802.3u"
EVENTS = "Allow-Events: presence, message-summary, dialog, refer, talk, hold, conference"


def register(
    n: int, user: str, domain: str = "example.org", *, host: str = "192.0.2.10", phone: int = 0, credentials: str = ""
) -> bytes:
    """The REGISTER number `n` of all, by this phone."""
    return _message(
        f"REGISTER sip:{domain} SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK-524287-1---{n:016x};rport",
        "Max-Forwards: 70",
        SEEN,
        f"Contact: <sip:{user}@{host}:5060;transport=udp;rinstance=9f8e7d6c5b4a{phone:04x}>",
        f"To: <sip:{user}@{domain}>",
        f'From: "User {user}" <sip:{user}@{domain}>;tag=8c7b6a{phone:04x}',
        f"Call-ID: 84f1c1ae6cbe5ac9c8e88dfa3e0c{phone:04x}",
        f"CSeq: {n} REGISTER",
        "Expires: 3600",
        "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, MESSAGE, UPDATE",
        EVENTS,
        "Supported: replaces, outbound, path",
        AGENT,
        f"Authorization: {credentials}" if credentials else "",
    )


def invite(n: int, callee: str, domain: str = "192.0.2.1", *, cseq: int = 1, credentials: str = "") -> bytes:
    """The INVITE of the call number `n`."""
    return _message(
        f"INVITE sip:{callee}@{domain} SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-{cseq}---{n:016x};rport",
        "Max-Forwards: 70",
        SEEN,
        "Contact: <sip:1000@192.0.2.10:5060;transport=udp>",
        f"To: <sip:{callee}@{domain}>",
        f'From: "Alice" <sip:1000@{domain}>;tag=4a3b2c{n:04x}',
        f"Call-ID: 0a1b2c3d4e5f60718293a4b5c6d7{n:04x}",
        f"CSeq: {cseq} INVITE",
        "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, INFO, NOTIFY, UPDATE, MESSAGE",
        EVENTS,
        "Supported: replaces, timer, 100rel",
        AGENT,
        f"Proxy-Authorization: {credentials}" if credentials else "",
        "Content-Type: application/sdp",
        body=SDP,
    )


def accepted(via: str, from_: str, to: str, call_id: str, cseq: str, *, route: str = "") -> bytes:
    """The 200 to an INVITE."""
    return _message(
        "SIP/2.0 200 OK",
        f"Via: {via}",
        f"Record-Route: {route}" if route else "",
        "Contact: <sip:bob@192.0.2.11:5060>",
        f"To: {to}",
        f"From: {from_}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq}",
        "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, INFO, NOTIFY, UPDATE, MESSAGE",
        "Supported: replaces, timer",
        "Accept-Language: en-GB, en;q=0.8",
        AGENT,
        "Content-Type: application/sdp",
        body=SDP,
    )


def within(method: str, n: int, uri: str, from_: str, to: str, call_id: str, *, cseq: int = 2) -> bytes:
    """A request in the dialog that the call number `n` made: ACK or BYE."""
    return _message(
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-{method}---{n:016x};rport",
        "Max-Forwards: 70",
        SEEN,
        f"To: {to}",
        f"From: {from_}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        AGENT,
    )


def _message(*lines: str, body: str = "") -> bytes:
    head = "\r\n".join([line for line in lines if line])
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
