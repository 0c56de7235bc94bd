"""Streams that are framed wrongly: TCP, TLS, WS and WSS, each on a connection of its own, which it may well lose.

Where what is sent is right all the same (cut at every byte, several messages in one piece, a message in many frames), it
must be answered.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.fuzz.agent import Agent, Tally
from tests.fuzz.corpus import handshake
from tests.fuzz.mutation import Mutator
from tests.fuzz.wires import Address, Line, StreamAgent, UdpAgent, connect, frame
from tests.support.certificates import Authority
from tests.support.node import DOMAIN, STRETCH, Node, loopback_address
from tests.support.open_node import open_node

TRANSPORTS = ("TCP", "TLS", "WS", "WSS")
PATIENCE = 12.0
UNLIMITED = {"stream-accept-rate-per-source": "100000", "stream-accept-rate": "100000"}
"All enemies have one address."


@dataclass(frozen=True, slots=True)
class Listening:
    """A node that listens on every transport."""

    node: Node
    authority: Authority

    def server(self, transport: str) -> Address:
        ports = {"TLS": 5061, "WS": 5066, "WSS": 7443}
        return self.node.sip[0], ports.get(transport, 5060)

    def agent(self, transport: str, tally: Tally, each: int, seed: int = 0) -> Agent:
        if transport == "UDP":
            return UdpAgent(self.node.sip, tally, each, seed)
        return StreamAgent(self.server(transport), transport, tally, each, seed, self.authority.trusting())


def listening_node(folder: Path) -> Listening:
    """Not started yet."""
    authority = Authority(folder / "certs")
    for name in ("agent.pem", "wss.pem"):
        (authority.folder / name).write_text(authority.issue(DOMAIN))
    settings = {
        "certs_dir": str(authority.folder),
        "internal_ssl_enable": "true",
        "internal_tls_port": "5061",
        "internal_ws_binding": ":5066",
        "internal_wss_binding": ":7443",
    }
    return Listening(open_node(folder, UNLIMITED, **settings), authority)


class Enemy:
    """Attacks in an order that the seed says."""

    def __init__(self, listening: Listening, seed: int) -> None:
        self._listening, self._random = listening, Random(seed)
        self._trust = listening.authority.trusting()
        self._mutator = Mutator([b""], seed)
        self._number = 0
        self._host = loopback_address()

    def attack(self) -> list[str]:
        """One; returns what was not answered and should have been."""
        transport = self._random.choice(TRANSPORTS)
        attacks = [
            *ANYWHERE,
            *(WEB if transport in ("WS", "WSS") else PLAIN),
            *(ROUGH if transport in ("TLS", "WSS") else ()),
        ]
        attack = self._random.choice(attacks)
        try:
            return [f"{transport} {attack.__name__}: {what}" for what in attack(self, transport)]
        except OSError:
            return []  # it was cut off, as it deserves; that others are served is asked elsewhere
        except AssertionError as closed:
            return [f"{transport} {attack.__name__}: {closed}"]

    # ---- what attacks are made of ------------------------------------------------------------------------------------

    def line(self, transport: str) -> Line:
        return connect(self._listening.server(transport), transport, self._trust, self._host)

    def options(self, transport: str, extra: str = "") -> tuple[str, bytes]:
        """Its branch, and a good request."""
        self._number += 1
        branch = f"z9hG4bKenemy{self._number}"
        return branch, (
            f"OPTIONS sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} enemy.invalid;rport;branch={branch}\r\nMax-Forwards: 70\r\n"
            f"From: <sip:enemy@{DOMAIN}>;tag=e{self._number}\r\nTo: <sip:{DOMAIN}>\r\nCall-ID: enemy-{self._number}\r\n"
            f"CSeq: 1 OPTIONS\r\n{extra}Content-Length: 0\r\n\r\n"
        ).encode()


Attack = Callable[[Enemy, str], Iterator[str]]


def _missing(line: Line, branches: list[str]) -> Iterator[str]:
    """Which of these are never answered 200."""
    wanted, until = set(branches), time.monotonic() + PATIENCE * STRETCH
    while wanted and (left := until - time.monotonic()) > 0:
        for text in line.listen(left):
            if text.startswith("SIP/2.0 200"):
                wanted -= {branch for branch in wanted if f"branch={branch};" in text}
    yield from (f"{branch} is not answered" for branch in sorted(wanted))


def _drain(line: Line) -> None:
    """Read what there is, so that the enemy is no slow reader."""
    with contextlib.suppress(OSError, AssertionError):
        line.listen(0.0)


# ---- right, in an odd way --------------------------------------------------------------------------------------------


def cut_at_every_byte(enemy: Enemy, transport: str) -> Iterator[str]:
    branch, data = enemy.options(transport)
    line = enemy.line(transport)
    with contextlib.closing(line):
        whole = frame(data) if transport in ("WS", "WSS") else data
        for at in range(len(whole)):
            line.say(whole[at : at + 1])
        yield from _missing(line, [branch])


def several_in_one_piece(enemy: Enemy, transport: str) -> Iterator[str]:
    made = [enemy.options(transport) for _ in range(enemy._random.randint(2, 20))]
    line = enemy.line(transport)
    with contextlib.closing(line):
        line.say(b"".join(frame(data) if transport in ("WS", "WSS") else data for _branch, data in made))
        yield from _missing(line, [branch for branch, _data in made])


def in_pieces_with_pings(enemy: Enemy, transport: str) -> Iterator[str]:
    branch, data = enemy.options(transport)
    line = enemy.line(transport)
    web = transport in ("WS", "WSS")
    with contextlib.closing(line):
        size = enemy._random.randint(1, 100)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for number, piece in enumerate(pieces):
            if web:
                last = 0x80 if number == len(pieces) - 1 else 0
                line.say(frame(piece, last | (0 if number else 1)) + (frame(b"hi", 0x89) if not last else b""))
            else:
                line.say((b"\r\n\r\n" if not number else b"") + piece)
        yield from _missing(line, [branch])


# ---- wrong on TCP and TLS --------------------------------------------------------------------------------------------


def lying_length(enemy: Enemy, transport: str) -> Iterator[str]:
    _branch, data = enemy.options(transport)
    lie = enemy._random.choice(
        (
            b"1",
            b"99999",
            b"-1",
            b"4294967296",
            b"9" * 400,
            b"0x10",
            b"",
            b" ",
            b"1, 1",
            b"0\r\nContent-Length: 5",
            b"12\r\n ",
        )
    )
    line = enemy.line(transport)
    with contextlib.closing(line):
        line.say(data.replace(b"Content-Length: 0", b"Content-Length: " + lie) * enemy._random.randint(1, 3))
        _drain(line)
    yield from ()


def endless_head(enemy: Enemy, transport: str) -> Iterator[str]:
    line = enemy.line(transport)
    filler = enemy._random.choice(
        (b"X-A: " + b"a" * 1000 + b"\r\n", b"\r\n ", b"\n", b"\r", b"\x00" * 100, b"Via: SIP/2.0/TCP a\r\n")
    )
    with contextlib.closing(line):
        line.say(b"OPTIONS sip:x SIP/2.0\r\n" + filler * enemy._random.choice((10, 300, 3000)))
        _drain(line)
    yield from ()


def rubbish(enemy: Enemy, transport: str) -> Iterator[str]:
    line = enemy.line(transport)
    with contextlib.closing(line):
        for _ in range(enemy._random.randint(1, 5)):
            line.say(enemy._random.randbytes(enemy._random.choice((1, 10, 500, 20_000))))
            _drain(line)
    yield from ()


def half_a_message(enemy: Enemy, transport: str) -> Iterator[str]:
    _branch, data = enemy.options(transport)
    line = enemy.line(transport)
    with contextlib.closing(line):
        whole = frame(data) if transport in ("WS", "WSS") else data
        line.say(whole[: enemy._random.randrange(len(whole))])
        if enemy._random.random() < 0.5:
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
    yield from ()


def mutants_in_a_row(enemy: Enemy, transport: str) -> Iterator[str]:
    line = enemy.line(transport)
    with contextlib.closing(line):
        stream = b"".join(enemy.options(transport)[1] for _ in range(3))
        line.say(enemy._mutator.change(stream))
        _drain(line)
    yield from ()


# ---- wrong on WS and WSS ---------------------------------------------------------------------------------------------


def odd_frames(enemy: Enemy, transport: str) -> Iterator[str]:
    """Opcodes nobody knows, reserved bits, no mask, fragments in disorder, control frames that are too long or in pieces."""
    random = enemy._random
    _branch, data = enemy.options(transport)
    odd = (
        lambda: frame(data, 0x80 | random.choice((3, 4, 5, 6, 7, 11, 12, 13, 14, 15))),
        lambda: frame(data, 0x81 | random.choice((0x10, 0x20, 0x40, 0x70))),
        lambda: frame(data, 0x81, mask=False),
        lambda: frame(data[:50], 0x00) + frame(data[50:], 0x80),
        lambda: frame(data[:50], 0x01) + frame(data, 0x81),
        lambda: frame(b"x" * 126, random.choice((0x88, 0x89, 0x8A))),
        lambda: frame(b"x", random.choice((0x08, 0x09, 0x0A))),
        lambda: frame(b"\x03", 0x88),
        lambda: frame(struct.pack("!H", random.choice((0, 999, 1004, 1005, 1006, 2999, 5000, 65535))) + b"\xff", 0x88),
        lambda: frame(b"\xff\xfe\xed\xa0\x80", 0x81),
        lambda: frame(b"", random.choice((0x81, 0x01, 0x00, 0x89))) * random.choice((1, 300)),
        lambda: frame(b"ping", 0x89) * 500,
        lambda: frame(b"OPTIONS ", 0x81, length=random.choice((1 << 16, 1 << 31, (1 << 63) - 1, (1 << 64) - 1))),
        lambda: b"\x81\xfe\x00\x05mask?hello",
        lambda: enemy._mutator.change(frame(data) + frame(data)),
        lambda: frame(enemy._mutator.change(data)),
    )
    line = enemy.line(transport)
    with contextlib.closing(line):
        for _ in range(random.randint(1, 3)):
            line.say(random.choice(odd)())
            _drain(line)
    yield from ()


def odd_handshake(enemy: Enemy, transport: str) -> Iterator[str]:
    server = enemy._listening.server(transport)
    sock: socket.socket = socket.create_connection(server, timeout=PATIENCE * STRETCH)
    if transport == "WSS":
        sock = enemy._trust.wrap_socket(sock, server_hostname=DOMAIN)
    with contextlib.closing(Line(sock)) as line:
        line.say(enemy._mutator.change(handshake()) + enemy._random.choice((b"", frame(b"hello"))))
        _drain(line)
    yield from ()


# ---- wrong below -----------------------------------------------------------------------------------------------------


def broken_records(enemy: Enemy, transport: str) -> Iterator[str]:
    """TLS records that are halves, mutants, or none at all; and connections that say nothing."""
    random = enemy._random
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = enemy._trust.wrap_bio(incoming, outgoing, server_hostname=DOMAIN)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read()
    sock = socket.create_connection(enemy._listening.server(transport), timeout=PATIENCE * STRETCH)
    with contextlib.closing(sock):
        match random.randrange(6):
            case 0:
                sock.sendall(hello[: random.randrange(len(hello))])
            case 1:
                sock.sendall(enemy._mutator.change(hello))
            case 2:
                sock.sendall(b"\x16\x03\x03\xff\xff" + random.randbytes(2000))
            case 3:
                sock.sendall(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
            case 4:
                pass
            case _:
                _shake_and_spoil(client, incoming, outgoing, sock, hello, random)
    yield from ()


def _shake_and_spoil(
    client: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    sock: socket.socket,
    hello: bytes,
    random: Random,
) -> None:
    """A good handshake; then a record of which one bit is wrong, or only its half comes."""
    sock.sendall(hello)
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            if not select.select([sock], [], [], PATIENCE * STRETCH)[0] or not (more := sock.recv(65536)):
                return
            incoming.write(more)
    client.write(b"OPTIONS sip:x SIP/2.0\r\n" * 10)
    record = bytearray(outgoing.read())
    if random.random() < 0.5:
        record[random.randrange(len(record))] ^= 1 << random.randrange(8)
    else:
        del record[random.randrange(len(record)) :]
    sock.sendall(record)


ANYWHERE: list[Attack] = [cut_at_every_byte, several_in_one_piece, in_pieces_with_pings, half_a_message]
PLAIN: list[Attack] = [lying_length, lying_length, endless_head, rubbish, mutants_in_a_row, mutants_in_a_row]
WEB: list[Attack] = [odd_frames, odd_frames, odd_frames, odd_frames, odd_handshake, odd_handshake]
ROUGH: list[Attack] = [broken_records, broken_records]
