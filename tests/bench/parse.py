"""Microseconds to read a message and to ask it for what a route needs. Run: python -m tests.bench.parse"""

from __future__ import annotations

import time

from node.sip.auth import Credentials
from node.sip.message import Request, Response, parse

SDP = (
    b"v=0\r\no=alice 2890844526 2890844526 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n"
    b"m=audio 49170 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n"
    b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
)


def register(n: int) -> bytes:
    return (
        "REGISTER sip:example.org SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---{n:016x};rport\r\n"
        "Max-Forwards: 70\r\n"
        f"Contact: <sip:{1000 + n}@192.0.2.10:5060;transport=udp;rinstance=9f8e7d6c5b4a{n:04x}>\r\n"
        f'To: <sip:{1000 + n}@example.org>\r\nFrom: "User {n}" <sip:{1000 + n}@example.org>;tag=8c7b6a{n:04x}\r\n'
        f"Call-ID: 84f1c1ae6cbe5ac9c8e88dfa3e0c{n:04x}\r\nCSeq: 2 REGISTER\r\nExpires: 3600\r\n"
        "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REGISTER, SUBSCRIBE, NOTIFY, REFER, INFO, MESSAGE, UPDATE\r\n"
        "Supported: replaces, outbound, path\r\nUser-Agent: Bench Phone 1.0 build 12345\r\n"
        f'Authorization: Digest username="{1000 + n}",realm="example.org",nonce="5f3759df{n:040x}",'
        'uri="sip:example.org",response="6629fae49393a05397450978507c4ef1",cnonce="0a4f113b0a4f113b",nc=00000001,'
        "qop=auth,algorithm=MD5\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def invite(n: int) -> bytes:
    return (
        f"INVITE sip:{1000 + n}@192.0.2.1:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-1---{n:016x};rport\r\n"
        f"Max-Forwards: 70\r\nContact: <sip:alice@192.0.2.10:5060;transport=udp>\r\nTo: <sip:{1000 + n}@192.0.2.1>\r\n"
        f'From: "Alice" <sip:alice@192.0.2.1>;tag=4a3b2c{n:04x}\r\nCall-ID: 0a1b2c3d4e5f60718293a4b5c6d7{n:04x}\r\n'
        "CSeq: 1 INVITE\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, INFO, NOTIFY, UPDATE, MESSAGE\r\n"
        "Supported: replaces, timer, 100rel\r\nUser-Agent: Bench Phone 1.0 build 12345\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n"
    ).encode() + SDP


def ok(n: int) -> bytes:
    return (
        "SIP/2.0 200 OK\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch=z9hG4bKinternal.0-0123456789abx{n:x};received=192.0.2.1\r\n"
        "Record-Route: <sip:192.0.2.20;lr>\r\n"
        f"Contact: <sip:bob@192.0.2.11:5060>\r\nTo: <sip:bob@192.0.2.1>;tag=7f6e5d{n:04x}\r\n"
        f'From: "Alice" <sip:alice@192.0.2.1>;tag=internal.0-0123456789ab{n:04x}\r\nCall-ID: 5f60718293a4b5c6d7{n:04x}\r\n'
        "CSeq: 1 INVITE\r\nAllow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, INFO, NOTIFY, UPDATE, MESSAGE\r\n"
        "Supported: replaces, timer\r\nUser-Agent: Bench Phone 1.0 build 12345\r\n"
        f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n"
    ).encode() + SDP


def bye(n: int) -> bytes:
    return (
        "BYE sip:mod_sofia@192.0.2.1:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-524287-2---{n:016x};rport\r\nMax-Forwards: 70\r\n"
        f"To: <sip:bob@192.0.2.1>;tag=internal.0-0123456789ab{n:04x}\r\n"
        f'From: "Alice" <sip:alice@192.0.2.1>;tag=4a3b2c{n:04x}\r\nCall-ID: 0a1b2c3d4e5f60718293a4b5c6d7{n:04x}\r\n'
        "CSeq: 2 BYE\r\nUser-Agent: Bench Phone 1.0 build 12345\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def read(data: bytes) -> None:
    """What a route asks: top Via, tags, Call-ID, CSeq, Max-Forwards, Contact and credentials where they stand."""
    message = parse(data)
    _ = message.via.branch, message.from_tag, message.to_tag, message.call_id, message.cseq, message.max_forwards
    if isinstance(message, Response):
        _ = message.header("Contact")
        return
    if isinstance(message, Request) and message.method == "REGISTER":
        Credentials.parse(message.header("Authorization") or "")
    _ = message.header("Contact")


def main() -> None:
    total = 0.0
    for name, make in (("REGISTER", register), ("INVITE", invite), ("200", ok), ("BYE", bye)):
        variants = [make(n) for n in range(64)]
        cost = min(_measure(variants) for _ in range(7))
        total += cost
        print(f"{name:9}{len(variants[0]):5} B {cost:6.2f} us")
    print(f"{'mean':9}        {total / 4:6.2f} us")


def _measure(variants: list[bytes], rounds: int = 20) -> float:
    start = time.process_time()
    for _ in range(rounds):
        for data in variants:
            read(data)
    return (time.process_time() - start) / (rounds * len(variants)) * 1e6


if __name__ == "__main__":
    main()
