"""Floods: one address of the loopback network, or a crowd of them, that sends what it should not, as fast as it is told to.

    python -m tests.support.flood KIND SOURCE SERVER PORT SECONDS RATE

Prints how many it sent. It is a process of its own, so that the phones that are measured do not wait for it.
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator

from tests.support.node import ROOT

HEAD = (
    "{method} sip:{to}@sofia.test SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{mark}\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:flood@sofia.test>;tag={mark}\r\nTo: <sip:{to}@sofia.test>\r\nCall-ID: {mark}@flood\r\n"
    "CSeq: 1 {method}\r\nContact: <sip:flood@{host}:{port}>\r\nContent-Type: application/sdp\r\n"
    "Content-Length: {length}\r\n\r\n{body}"
)
SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
REQUESTS = ("REGISTER", "OPTIONS", "INVITE")
KINDS = (*REQUESTS, "garbage", "slow-tcp", "half-tls", "connects", "crowd-tcp")
CROWD = 200
"Addresses that a crowd has."


@contextlib.contextmanager
def flood(
    kind: str, source: str, server: tuple[str, int], *, rate: int, seconds: float
) -> Iterator[subprocess.Popen[str]]:
    """The flood, running; it is over when its time is, or when the block is left."""
    words = [
        sys.executable,
        "-m",
        "tests.support.flood",
        kind,
        source,
        server[0],
        str(server[1]),
        str(seconds),
        str(rate),
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
        yield process
    finally:
        process.kill()
        process.wait()


def main(kind: str, source: str, server: tuple[str, int], seconds: float, rate: int) -> None:
    print("begins", flush=True)
    until = time.monotonic() + seconds
    if kind in ("slow-tcp", "half-tls"):
        sent = connections(source, server, until, rate, b"\x16\x03\x01\x02\x00\x01\x00" if kind == "half-tls" else b"")
    elif kind == "connects":
        sent = visits(lambda _number: source, server, until, rate, 0)
    elif kind == "crowd-tcp":
        sent = visits(lambda number: f"127.66.{number % CROWD}.1", server, until, rate, 4)
    else:
        sent = datagrams(messages(kind, source), source, server, until, rate)
    print(sent, flush=True)


def messages(kind: str, source: str) -> Callable[[int], bytes]:
    dice = random.Random(1)
    if kind == "garbage":
        prefixes = (b"", b"INVITE ", b"SIP/2.0 200 OK\r\n", b"REGISTER sip:x SIP/2.0\r\nVia: ", b"\r\n\r\n\x00")
        return lambda number: prefixes[number % len(prefixes)] + dice.randbytes(20 + number % 600)
    body = SDP if kind == "INVITE" else ""

    def request(number: int) -> bytes:
        mark = f"{number:x}f{dice.getrandbits(32):x}"
        text = HEAD.format(method=kind, to="1000", host=source, port=5060, mark=mark, length=len(body), body=body)
        return text.encode()

    return request


def datagrams(make: Callable[[int], bytes], source: str, server: tuple[str, int], until: float, rate: int) -> int:
    """So many a second, in bursts of ten milliseconds; what comes back is not read."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((source, 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        began, sent = time.monotonic(), 0
        while (now := time.monotonic()) < until:
            while sent < (now - began) * rate:
                sock.sendto(make(sent), server)
                sent += 1
            time.sleep(0.01)
        return sent


def connections(source: str, server: tuple[str, int], until: float, rate: int, first: bytes) -> int:
    """Connections that begin something and do not end it: half a message, byte by byte, or half a handshake."""
    slow = messages("OPTIONS", source)(0)
    held: list[tuple[socket.socket, list[int]]] = []
    opened = 0
    began = time.monotonic()
    while (now := time.monotonic()) < until:
        while opened < (now - began) * rate:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.bind((source, 0))
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect(server)
            held.append((sock, [0]))
            opened += 1
        for sock, at in held[-500:]:
            with contextlib.suppress(OSError):
                sock.send(first or slow[at[0] : at[0] + 1])
                at[0] += 1
        time.sleep(0.05)
    return opened


def visits(source: Callable[[int], str], server: tuple[str, int], until: float, rate: int, requests: int) -> int:
    """Connections that are made, bring so many requests at once, and are left for others a moment later."""
    make = [messages(kind, "127.0.0.66") for kind in ("REGISTER", "OPTIONS")]
    held: deque[socket.socket] = deque()
    opened = 0
    began = time.monotonic()
    while (now := time.monotonic()) < until:
        while opened < (now - began) * rate:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.bind((source(opened), 0))
            with contextlib.suppress(OSError):
                sock.connect(server)
                sock.sendall(b"".join(make[number % 2](opened * 8 + number) for number in range(requests)))
            held.append(sock)
            opened += 1
            if len(held) > rate // 2:
                held.popleft().close()
        time.sleep(0.01)
    return opened


if __name__ == "__main__":
    _, kind, source, host, port, seconds, rate = sys.argv
    main(kind, source, (host, int(port)), float(seconds), int(rate))
