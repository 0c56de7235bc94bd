"""RFC 6455 and RFC 7118 without sockets: handshakes, frames, and what breaks the rules."""

from __future__ import annotations

import random
import time

import pytest

from node.sip.websocket import Opcode, WebSocket, frame, masked

# The example of RFC 6455 1.3, for SIP.
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: sip-ws.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://www.example.com\r\n"
    b"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
OPTIONS = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/WS h;branch=z9hG4bK1\r\n\r\n"
MASK = b"\x37\xfa\x21\x3d"


def sent(payload: bytes, opcode: int = Opcode.TEXT, *, final: bool = True, flags: int = 0, mask: bytes = MASK) -> bytes:
    """A frame as a client sends it."""
    size = len(payload)
    short = size if size < 126 else 126 if size < 1 << 16 else 127
    wide = b"" if size < 126 else size.to_bytes(2 if size < 1 << 16 else 8, "big")
    return bytes((final << 7 | flags | opcode, 0x80 | short)) + wide + mask + masked(payload, mask)


def opened(maximum: int = 65535) -> WebSocket:
    socket = WebSocket(maximum)
    assert socket.feed(HANDSHAKE) == []
    assert socket.opened
    socket.outgoing()
    return socket


def close_code(socket: WebSocket) -> int:
    """Of the Close frame that is the last it says."""
    out = socket.outgoing()
    assert out[-4:-2] == bytes((0x88, 2))
    return int.from_bytes(out[-2:], "big")


# ---- the handshake -------------------------------------------------------------------------------------------------


def test_the_handshake_of_the_rfc_is_answered_as_the_rfc_says():
    socket = WebSocket()
    assert socket.feed(HANDSHAKE) == []
    head, *fields = socket.outgoing().decode().split("\r\n")
    assert head == "HTTP/1.1 101 Switching Protocols"
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in fields
    assert "Sec-WebSocket-Protocol: sip" in fields
    assert fields[-2:] == ["", ""]


def test_a_handshake_in_single_bytes_and_what_follows_it():
    socket = WebSocket()
    stream = HANDSHAKE + sent(OPTIONS)
    assert [m for at in range(len(stream)) for m in socket.feed(stream[at : at + 1])] == [OPTIONS]
    assert socket.held == 0


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_words_and_names_of_the_handshake_are_taken_in_any_case(case):
    text = (
        HANDSHAKE.decode().replace("websocket\r", case("websocket") + "\r").replace("Upgrade:", case("Upgrade") + ":")
    )
    text = text.replace("Connection: Upgrade", "Connection: keep-alive, upgrade")
    socket = WebSocket()
    socket.feed(text.replace("Protocol: sip", "Protocol: xmpp, SIP").encode())
    assert socket.opened


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        ("GET /", "POST /", "405"),
        ("HTTP/1.1", "HTTP/1.0", "400"),
        ("Host: sip-ws.example.com\r\n", "", "400"),
        ("Upgrade: websocket\r\n", "", "426"),
        ("Upgrade: websocket", "Upgrade: h2c", "426"),
        ("Connection: Upgrade\r\n", "", "426"),
        ("Version: 13", "Version: 8", "426"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", "400"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "!!!", "400"),
        ("Protocol: sip", "Protocol: xmpp", "400"),
        ("Sec-WebSocket-Protocol: sip\r\n", "", "400"),
        ("Origin:", "Ori gin:", "400"),
    ],
)
def test_what_is_no_handshake_for_sip_is_refused_with_its_status(old, new, status):
    socket = WebSocket()
    assert socket.feed(HANDSHAKE.decode().replace(old, new, 1).encode()) == []
    assert socket.over
    assert socket.fault
    assert socket.outgoing().split(b" ")[1].decode() == status


def test_a_browser_that_only_looks_is_told_what_is_spoken_here():
    socket = WebSocket()
    socket.feed(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    out = socket.outgoing()
    assert out.startswith(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n")
    assert out.endswith(b"\r\n\r\nSIP over WebSocket is spoken here.\n")


def test_a_head_without_end_is_given_up_at_8_kib():
    socket = WebSocket()
    socket.feed(b"GET / HTTP/1.1\r\nX: " + b"x" * 8000)
    assert not socket.over
    socket.feed(b"x" * 400)
    assert socket.outgoing().startswith(b"HTTP/1.1 431 ")
    assert socket.over


def test_what_does_not_even_begin_as_a_handshake_is_refused_at_once():
    socket = WebSocket()
    socket.feed(b"\x16\x03\x01\x02")
    assert socket.over


# ---- messages ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("size", [1, 125, 126, 127, 65534, 65535])
def test_a_message_of_any_length_arrives(opcode, size):
    body = b"x" * size
    assert opened().feed(sent(body, opcode)) == [body]


@pytest.mark.parametrize("size", [1, 125, 126, 65535, 65536])
def test_what_we_wrap_has_the_shortest_length_and_no_mask(size):
    wrapped = opened().wrap(b"x" * size)
    head = len(wrapped) - size
    assert head == (2 if size < 126 else 4 if size < 65536 else 10)
    assert wrapped[0] == 0x81
    assert not wrapped[1] & 0x80


def test_what_is_not_utf8_goes_as_binary():
    assert opened().wrap("Grüße".encode())[0] == 0x81
    assert opened().wrap(b"\xff")[0] == 0x82


def test_a_message_in_fragments_with_a_ping_between():
    socket = opened()
    stream = sent(OPTIONS[:10], final=False) + sent(b"are you there", Opcode.PING)
    stream += sent(OPTIONS[10:20], Opcode.CONTINUATION, final=False) + sent(b"", Opcode.CONTINUATION, final=False)
    stream += sent(OPTIONS[20:], Opcode.CONTINUATION)
    assert [m for at in range(0, len(stream), 7) for m in socket.feed(stream[at : at + 7])] == [OPTIONS]
    assert socket.outgoing() == frame(Opcode.PONG, b"are you there")


def test_a_fragment_alone_counts_as_held():
    socket = opened()
    socket.feed(sent(b"", final=False))
    assert socket.held == 1
    socket.feed(sent(b"", Opcode.CONTINUATION))
    assert socket.held == 0


def test_keepalives_of_either_kind_are_answered_in_kind():
    socket = opened()
    assert socket.feed(sent(b"\r\n\r\n") + sent(b"\r\n") + sent(b"") + sent(b"x", Opcode.PONG)) == []
    assert socket.outgoing() == frame(Opcode.TEXT, b"\r\n")
    assert socket.ping() == b"\x89\x00"


def test_a_close_is_answered_with_its_code_and_is_the_end():
    socket = opened()
    assert socket.feed(sent((1000).to_bytes(2, "big") + b"bye", Opcode.CLOSE) + sent(OPTIONS)) == []
    assert (socket.over, socket.fault) == (True, "")
    assert close_code(socket) == 1000
    assert socket.feed(sent(OPTIONS)) == []


def test_a_server_that_goes_says_so():
    assert opened().farewell() == b"\x88\x02\x03\xe9"
    assert WebSocket().farewell() == b""


BROKEN = [
    ("not masked", frame(Opcode.TEXT, b"x"), 1002),
    ("reserved bit", sent(b"x", flags=0x40), 1002),
    ("unknown opcode", sent(b"x", 3), 1002),
    ("unknown control", sent(b"x", 11), 1002),
    ("long control", sent(b"x" * 126, Opcode.PING), 1002),
    ("control in pieces", sent(b"x", Opcode.PING, final=False), 1002),
    ("length not short 16", b"\x81\xfe\x00\x05" + MASK + b"xxxxx", 1002),
    ("length not short 64", b"\x81\xff" + (5).to_bytes(8, "big") + MASK + b"xxxxx", 1002),
    ("length with sign", b"\x81\xff" + b"\xff" * 8, 1002),
    ("goes on without beginning", sent(b"x", Opcode.CONTINUATION), 1002),
    ("begins twice", sent(b"x", final=False) + sent(b"x"), 1002),
    ("close of one byte", sent(b"x", Opcode.CLOSE), 1002),
    ("close with a forbidden code", sent((1006).to_bytes(2, "big"), Opcode.CLOSE), 1002),
    ("close with a bad reason", sent((1000).to_bytes(2, "big") + b"\xff", Opcode.CLOSE), 1002),
    ("text not utf-8", sent(b"\xc3\x28"), 1007),
    ("text not utf-8 over fragments", sent(b"\xc3", final=False) + sent(b"\x28", Opcode.CONTINUATION), 1007),
    ("too long", sent(b"x" * 65536), 1009),
    ("too long by its head", b"\x82\xff" + (1 << 40).to_bytes(8, "big"), 1009),
    ("too long in pieces", sent(b"x" * 40000, 2, final=False) + sent(b"x" * 40000, 0, final=False), 1009),
]


@pytest.mark.parametrize(("stream", "code"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
def test_what_breaks_the_rules_ends_it_with_the_code_of_the_rfc(stream, code):
    socket = opened()
    assert socket.feed(stream) == []
    assert socket.over
    assert socket.fault
    assert close_code(socket) == code


def test_a_character_may_be_cut_by_fragments():
    text = "Grüße".encode()
    assert opened().feed(sent(text[:3], final=False) + sent(text[3:], Opcode.CONTINUATION)) == [text]


def test_many_small_frames_take_time_by_their_number_only():
    socket = opened()
    stream = sent(b"x" * 10, Opcode.PONG) * 20000
    began = time.perf_counter()
    for at in range(0, len(stream), 65536):
        socket.feed(stream[at : at + 65536])
    assert time.perf_counter() - began < 10
    assert socket.held == 0


# ---- fuzz ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_any_bytes_are_read_or_end_it(seed):
    """No exception, nothing held beyond the limit, and the same whatever the pieces."""
    chance = random.Random(seed)
    for _ in range(50):
        stream = bytearray(b"".join(_piece(chance) for _ in range(chance.randint(1, 8))))
        for _ in range(chance.randint(0, 4)):
            stream[chance.randrange(len(stream))] = chance.randrange(256)
        whole, pieces = opened(4096), opened(4096)
        found = whole.feed(bytes(stream))
        cut = []
        while stream:
            size = chance.randint(1, 200)
            cut += pieces.feed(bytes(stream[:size]))
            del stream[:size]
            assert pieces.held <= 4096 + 200 + 14
        assert found == cut
        assert (whole.over, whole.outgoing()) == (pieces.over, pieces.outgoing())


def _piece(chance: random.Random) -> bytes:
    payload = bytes(chance.choices(b"abc\r\n\xc3\xbc", k=chance.choice((0, 1, 5, 125, 126, 700))))
    opcode = chance.choice((0, 1, 1, 1, 2, 2, 8, 9, 10, 15))
    return sent(payload, opcode, final=chance.random() < 0.8, mask=chance.randbytes(4))


@pytest.mark.parametrize("seed", range(20))
def test_any_handshake_is_answered_once_or_waited_for(seed):
    chance = random.Random(seed)
    for _ in range(50):
        damaged = bytearray(HANDSHAKE)
        for _ in range(chance.randint(1, 5)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        socket = WebSocket()
        assert socket.feed(bytes(damaged)) == []
        out = socket.outgoing()
        assert out.count(b"HTTP/1.1 ") == (1 if socket.opened or socket.over else 0)
