"""What mutants are made of."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.torture import messages

SDP = (
    "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=-\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n"
    "m=audio 54400 RTP/AVP 0 8 9 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:9 G722/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=rtcp:54401 IN IP4 203.0.113.1\r\na=sendrecv\r\n"
)
VIDEO = (
    "v=0\r\no=ada 3890 3891 IN IP6 2001:db8::5\r\ns=two streams\r\nb=AS:512\r\nt=0 0\r\na=group:BUNDLE a v\r\n"
    "m=audio 49170 RTP/SAVP 111 0\r\nc=IN IP6 2001:db8::5\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 useinbandfec=1\r\n"
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\na=mid:a\r\na=sendonly\r\n"
    "m=video 49174 RTP/AVP 96\r\nc=IN IP6 2001:db8::5/127\r\na=rtpmap:96 H264/90000\r\na=mid:v\r\na=inactive\r\n"
)
HELD = "v=0\no=- 1 2 IN IP4 0.0.0.0\ns=-\nc=IN IP4 0.0.0.0\nt=0 0\nm=audio 9 RTP/AVP 18 4\na=candidate:1 1 UDP 1 192.0.2.1 9 typ host\n"
DESCRIPTIONS = [SDP, VIDEO, HELD]

CREDENTIALS = [
    'Digest username="1000",realm="sofia.test",nonce="5f3759df5f3759df5f3759df",uri="sip:sofia.test",response="6629fae49393a05397450978507c4ef1"',
    'Digest username="a \\"b\\" c", realm="r", nonce="n", uri="sip:x", response="00", algorithm=SHA-256-sess, qop=auth-int, '
    'nc=00000001, cnonce="0a4f113b", opaque="xyz"',
    'digest realm="a,b" , nonce = "n" ,qop="auth,auth-int",algorithm=MD5,stale=TRUE',
    "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
]

_HEAD = (
    "{start}\r\nVia: SIP/2.0/UDP 198.51.100.7:5062;rport;branch=z9hG4bK{n}\r\nMax-Forwards: 70\r\n"
    'From: "Ada, of London" <sip:1000@sofia.test;user=phone>;tag=f{n}\r\nTo: <sip:9196@sofia.test>{tag}\r\n'
    'Call-ID: fuzz-{n}@198.51.100.7\r\nCSeq: {n} {method}\r\nContact: <sip:1000@198.51.100.7:5062;transport=udp;ob>;+sip.instance="<urn:uuid:1>"\r\n'
    "{extra}Content-Length: {size}\r\n\r\n{body}"
)
_EXTRAS = {
    "INVITE": 'Supported: 100rel, timer, replaces\r\nAllow: INVITE, ACK, BYE\r\nSession-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nP-Asserted-Identity: "Ada" <sip:1000@sofia.test>, <tel:+4312345>\r\n'
    "Record-Route: <sip:edge.sofia.test;lr>, <sip:core.sofia.test;lr=on>\r\nDiversion: <sip:1@x>;reason=no-answer;counter=1\r\nX-Own: yes\r\nContent-Type: application/sdp\r\n",
    "UPDATE": "Session-Expires: 90;refresher=uas\r\nContent-Type: application/sdp\r\n",
    "REFER": "Refer-To: <sip:1001@sofia.test?Replaces=abc%40x%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\nReferred-By: <sip:1000@sofia.test>\r\n",
    "NOTIFY": "Event: refer;id=2\r\nSubscription-State: active;expires=60\r\nContent-Type: message/sipfrag;version=2.0\r\n",
    "SUBSCRIBE": "Event: presence\r\nAccept: application/pidf+xml\r\nExpires: 3600\r\n",
    "PRACK": "RAck: 776656 1 INVITE\r\n",
    "MESSAGE": "Content-Type: text/plain;charset=UTF-8\r\n",
    "INFO": "Content-Type: application/dtmf-relay\r\n",
    "REGISTER": f"Expires: 3600\r\nPath: <sip:edge.sofia.test;lr>\r\nSupported: path, outbound\r\nAuthorization: {CREDENTIALS[0]}\r\n",
    "BYE": 'Reason: Q.850;cause=16;text="Normal call clearing"\r\n',
    "CANCEL": "",
    "ACK": "",
    "OPTIONS": "Require: path\r\nAccept: application/sdp\r\n",
    "PUBLISH": "Event: presence\r\nSIP-If-Match: 12\r\n",
}
_BODIES = {
    "INVITE": SDP,
    "UPDATE": VIDEO,
    "NOTIFY": "SIP/2.0 200 OK\r\n",
    "MESSAGE": "Grüße\r\n",
    "INFO": "Signal=5\r\nDuration=160\r\n",
}


def _samples() -> Iterator[bytes]:
    for number, (method, extra) in enumerate(_EXTRAS.items(), 1):
        body = _BODIES.get(method, "")
        inside = (
            ";tag=internal.0-00112233" if method in ("ACK", "BYE", "UPDATE", "REFER", "NOTIFY", "PRACK", "INFO") else ""
        )
        start = f"{method} sip:9196@sofia.test:5060;transport=udp SIP/2.0"
        yield _message(start, method, number, extra, body, inside)
    for status, method, body in (
        (100, "INVITE", ""), (183, "INVITE", SDP), (200, "INVITE", VIDEO), (200, "BYE", ""), (302, "INVITE", ""), (401, "REGISTER", ""), (487, "INVITE", ""),
    ):  # fmt: skip
        extra = "Record-Route: <sip:edge.sofia.test;lr>\r\nRequire: 100rel\r\nRSeq: 776656\r\n"
        extra += 'WWW-Authenticate: Digest realm="r", nonce="n", algorithm=MD5, qop="auth"\r\nRetry-After: 18 (in a meeting);duration=60\r\n'
        yield _message(f"SIP/2.0 {status} Some Reason", method, status, extra, body, ";tag=t9")


def _message(start: str, method: str, number: int, extra: str, body: str, tag: str) -> bytes:
    size = len(body.encode())
    return _HEAD.format(start=start, method=method, n=number, extra=extra, body=body, size=size, tag=tag).encode()


SAMPLES = list(_samples())
"A message of each method, and responses, with most of the fields that anything here reads."
MESSAGES = SAMPLES + list(messages("ours").values())


def handshake() -> bytes:
    return (
        b"GET / HTTP/1.1\r\nHost: sofia.test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )


def frame(payload: bytes, first: int = 0x81) -> bytes:
    """One masked frame of a client."""
    mask = bytes((17, 34, 51, 68))
    size = len(payload)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


FRAMES = [
    handshake() + frame(SAMPLES[0]) + frame(b"", 0x89) + frame(SAMPLES[12]),
    handshake() + frame(b"OPTIONS", 0x01) + frame(b" sip:x", 0x00) + frame(b"ping", 0x89) + frame(b"y SIP/2.0\r\n\r\n", 0x80) + frame(b"\x03\xe8bye", 0x88),
    handshake() + frame(b"\r\n\r\n") + frame(b"\xff\xfe", 0x82),
]  # fmt: skip
