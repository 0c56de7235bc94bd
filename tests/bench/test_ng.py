"""What rtpengine is told, byte by byte."""

from __future__ import annotations

from tests.bench.ng import encode


def test_a_question_is_bencoded_with_its_keys_in_order() -> None:
    question = {"sdp": "v=0\r\n", "command": "offer", "flags": ["trust-address"]}
    assert encode(question) == b"d7:command5:offer5:flagsl13:trust-addresse3:sdp5:v=0\r\ne"


def test_lengths_are_of_bytes_not_of_characters() -> None:
    assert encode("é") == b"2:\xc3\xa9"
