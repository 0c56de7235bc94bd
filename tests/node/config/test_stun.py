"""The STUN binding as bytes, by the vectors of RFC 5769."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import stun
from tests.support.stun import refusal, response

TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")
IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9fa"
    "a5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c"
)


@pytest.mark.parametrize(("answer", "address"), [(IPV4, "192.0.2.1"), (IPV6, "2001:db8:1234:5678:11:2233:4455:6677")])
def test_the_answers_of_rfc_5769_are_read(answer: bytes, address: str) -> None:
    assert stun.mapped(answer, TRANSACTION) == address


def test_a_request_has_the_cookie_and_its_own_id() -> None:
    assert stun.request(TRANSACTION) == bytes.fromhex("000100002112a442") + TRANSACTION


def test_an_answer_to_another_request_is_none() -> None:
    assert stun.mapped(IPV4, b"y" * 12) == ""


def test_what_is_cut_off_anywhere_is_no_answer() -> None:
    for length in range(len(IPV4)):
        assert stun.mapped(IPV4[:length], TRANSACTION) == ""


@given(st.binary(max_size=120), st.integers(0, 200))
def test_whatever_follows_the_head_breaks_nothing(rest: bytes, length: int) -> None:
    answer = b"\x01\x01" + length.to_bytes(2, "big") + IPV4[4:20] + rest
    found = stun.mapped(answer, TRANSACTION)
    assert found == "" or ip_address(found)


def test_a_server_of_the_older_kind_is_understood() -> None:
    body = bytes.fromhex("0001000800011234c0000207")
    assert stun.mapped(b"\x01\x01\x00\x0c" + IPV4[4:20] + body, TRANSACTION) == "192.0.2.7"


def test_an_error_is_told() -> None:
    with pytest.raises(stun.Refused, match="401 No"):
        stun.mapped(refusal(stun.request(TRANSACTION), 401, "No"), TRANSACTION)


def test_our_own_servers_answers_are_such_as_others_give() -> None:
    assert stun.mapped(response(stun.request(TRANSACTION), "2001:db8::7"), TRANSACTION) == "2001:db8::7"


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun.example.org", ("stun.example.org", 3478)),
        ("192.0.2.1:3479", ("192.0.2.1", 3479)),
        ("[2001:db8::1]:19302", ("2001:db8::1", 19302)),
        ("[2001:db8::1]", ("2001:db8::1", 3478)),
        ("2001:db8::1", ("2001:db8::1", 3478)),
    ],
)
def test_a_server_may_have_a_port(text: str, server: tuple[str, int]) -> None:
    assert stun.server(text) == server


@pytest.mark.parametrize("text", ["", ":3478", "x:0", "x:70000", "x:y", "[::1", "[::1]x"])
def test_what_names_no_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must name a server"):
        stun.server(text)
