from __future__ import annotations

import random
import time

import pytest

from node.sip.errors import Malformed, TooLarge
from node.sip.framing import Ping, StreamFramer

ONE = b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 4\r\n\r\nbody"
TWO = b"SIP/2.0 200 OK\r\nl:0\r\n\r\n"
BARE = b"BYE sip:a SIP/2.0\r\nSubject: x\r\n\r\n"


def test_messages_are_cut_out_of_one_piece():
    assert StreamFramer().feed(ONE + TWO + BARE + ONE) == [ONE, TWO, BARE, ONE]


def test_messages_are_put_together_from_single_bytes():
    framer = StreamFramer()
    stream = ONE + b"\r\n\r\n" + TWO + ONE
    found = [item for at in range(len(stream)) for item in framer.feed(stream[at : at + 1])]
    assert found == [ONE, Ping.PONG, Ping.PING, TWO, ONE]  # the ping came in halves


def test_pings_and_pongs():
    framer = StreamFramer()
    assert framer.feed(b"\r\n\r\n") == [Ping.PING]
    assert framer.feed(b"\r\n") == [Ping.PONG]
    assert framer.feed(b"\r\n\r\n" + ONE) == [Ping.PING, ONE]


@pytest.mark.parametrize("field", [b"CONTENT-LENGTH : 4", b"L: 4", b"content-length:\r\n 4"])
def test_every_spelling_of_content_length_counts(field):
    message = b"OPTIONS sip:a SIP/2.0\r\n" + field + b"\r\n\r\nbody"
    assert StreamFramer().feed(message + TWO) == [message, TWO]


def test_lines_ended_by_lf_alone_are_taken():
    message = b"OPTIONS sip:a SIP/2.0\nContent-Length: 2\n\nab"
    assert StreamFramer().feed(message + TWO) == [message, TWO]


@pytest.mark.parametrize("length", [b"x", b"-1", b"4, 4", b"99999999999", b"4\r\nl: 5"])
def test_a_stream_that_cannot_be_cut_is_refused_with_the_request_to_answer(length):
    with pytest.raises(Malformed) as refused:
        StreamFramer().feed(ONE.replace(b"Length: 4", b"Length: " + length))
    assert refused.value.request is not None
    assert refused.value.request.call_id == "1"


def test_what_was_complete_before_the_trouble_comes_first():
    framer = StreamFramer()
    assert framer.feed(ONE + ONE.replace(b"Length: 4", b"Length: x")) == [ONE]
    assert framer.broken
    with pytest.raises(Malformed):
        framer.feed(b"")


@pytest.mark.parametrize(
    "stream",
    [b"x" * 2000, b"OPTIONS sip:a SIP/2.0\r\n" + b"X: y\r\n" * 400, ONE.replace(b"Length: 4", b"Length: 2000")],
)
def test_more_than_the_maximum_is_refused(stream):
    with pytest.raises(TooLarge) as refused:
        StreamFramer(1000).feed(stream)
    assert refused.value.status == 513


def test_small_pieces_of_a_long_message_cost_no_more_than_their_length():
    message = b"MESSAGE sip:a SIP/2.0\r\n" + b"X: " + b"y" * 30000 + b"\r\nContent-Length: 30000\r\n\r\n" + b"z" * 30000
    framer = StreamFramer()
    start = time.process_time()
    found = [item for at in range(0, len(message), 4) for item in framer.feed(message[at : at + 4])]
    assert found == [message]
    assert time.process_time() - start < 2


PIECES = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"Content-Length: 2",
    b"Content-Length: 2",
    b"content-length :2",
    b"l: 2",
    b"L:4",
    b"Content-Length:\r\n 2",
    b"Content-Length: +2",
    b"Content-Lengthy: 9",
    b"Content-Length: 2\r3",
    b"To: x",
    b"INVITE a",
    b"xx",
]


@pytest.mark.parametrize("seed", range(20))
def test_a_stream_is_cut_the_same_where_no_length_is_written_plainly(seed: int):
    """What is written as usual is read without the expressions; both must see the same messages, and the same troubles."""
    chance = random.Random(seed)
    for _ in range(200):
        stream = b"".join(chance.choice(PIECES) for _ in range(chance.randrange(2, 16)))
        slow = StreamFramer()
        slow._plain_length = lambda _end: -1  # type: ignore[method-assign]
        assert cut(StreamFramer(), stream) == cut(slow, stream), stream


def cut(framer: StreamFramer, stream: bytes) -> list[object]:
    """The messages, and what ended them."""
    found: list[object] = []
    try:
        found += framer.feed(stream)
        found += framer.feed(b"")
    except Malformed as trouble:
        found.append(str(trouble))
    return found
