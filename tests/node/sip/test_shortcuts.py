"""What nearly everybody writes is read by a short way; it must come to the same as the long one, whatever stands there."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest

from node.sip.errors import SipError
from node.sip.fields import NameAddr, Via
from node.sip.message import Request, parse

ADDRESSES = (
    '"Alice <b>" <sip:alice@example.org;transport=tcp>;tag=88sja8x;q=0.5',
    "<sip:1000@192.0.2.1:5060>;tag=4a3b2c",
    'Bob <sip:bob@[2001:db8::1]:5062;lr?a=b> ;tag="x;y>";expires=60',
    "sip:carol@example.org;tag=7",
)
VIAS = (
    "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK1;rport",
    "SIP/2.0/UDP 192.0.2.10;rport;branch=z9hG4bK1",
    "SIP / 2.0 / TCP [2001:db8::9]:5061; branch = z9hG4bK2 ;RPORT;received=192.0.2.3",
)


def mutants(usual: tuple[str, ...], seed: int, count: int = 1500) -> list[str]:
    random = Random(seed)
    made = []
    for _ in range(count):
        text = list(random.choice(usual))
        for _ in range(random.randint(0, 4)):
            at = random.randrange(len(text))
            text[at : at + random.randint(0, 1)] = random.choice(
                [*'<>";:,=@?\\ \tx', "", ";tag=", ";rport", ";branch="]
            )
        made.append("".join(text))
    return made


def outcome(reader: Callable[[], object]) -> object:
    try:
        return reader()
    except SipError:
        return "refused"


@pytest.mark.parametrize("seed", range(8))
def test_an_address_from_memory_is_the_one_read_anew(seed: int) -> None:
    for text in mutants(ADDRESSES, seed):
        long_way = outcome(lambda text=text: NameAddr._parse_any(text.strip()))  # type: ignore[misc]
        for _again in range(2):
            assert outcome(lambda text=text: NameAddr.parse(text)) == long_way, text  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(8))
def test_a_via_from_memory_is_the_one_read_anew(seed: int) -> None:
    for text in mutants(VIAS, seed):
        long_way = outcome(lambda text=text: Via._parse_any(text))  # type: ignore[misc]
        for _again in range(2):
            assert outcome(lambda text=text: Via.parse(text)) == long_way, text  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(8))
def test_a_tag_alone_is_the_tag_of_the_whole_address(seed: int) -> None:
    for text in mutants(ADDRESSES, seed):
        whole = outcome(lambda text=text: NameAddr.parse(text).tag)  # type: ignore[misc]
        if whole != "refused":
            message = parse(f"OPTIONS sip:a SIP/2.0\r\nTo: {text}\r\n\r\n".encode())
            assert outcome(lambda message=message: message.to_tag) == whole, text  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(8))
def test_a_via_says_once_where_its_message_was_seen_to_come_from(seed: int) -> None:
    for text in mutants(VIAS, seed):
        via = outcome(lambda text=text: Via.parse(text))  # type: ignore[misc]
        if isinstance(via, Via):
            seen = via.seen_from("198.51.100.7", 5099)
            assert [name.lower() for name, _ in seen.params].count("received") == 1, text
            assert seen.received == "198.51.100.7"
            assert (seen.rport == 5099) == (via.param("rport") is not None), text
            assert (seen.branch, seen.sent_by) == (via.branch, via.sent_by), text


@pytest.mark.parametrize("seed", range(8))
def test_what_is_known_of_a_via_is_what_it_says(seed: int) -> None:
    """Branch, sent-by, the way of the answers, and how it is written into them: the frame that is remembered says the same."""
    for text in mutants(VIAS, seed):
        via = outcome(lambda text=text: Via.parse(text) if "," not in text else "refused")  # type: ignore[misc]
        if not isinstance(via, Via):
            continue
        for host, port in [("198.51.100.7", 5099), ("192.0.2.10", 5060), ("198.51.100.7", 5099)]:
            head = f"OPTIONS sip:a SIP/2.0\r\nVia: {text}\r\nFrom: <sip:b>;tag=1\r\nTo: <sip:a>\r\n"
            message = parse(f"{head}Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n".encode())
            assert isinstance(message, Request)
            message.identify()
            assert (message.branch, message.sent_by) == (via.branch, via.sent_by), text
            assert message.reply_port == (None if via.param("rport") is not None else via.port or 5060), text
            message.stamp(host, port)
            assert message.via == via.seen_from(host, port), text
            assert message.vias() in (f"Via: {via.seen_from(host, port)}\r\n", f"Via: {text.strip()}\r\n"), text


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_what_only_python_takes_for_the_end_of_a_line_ends_no_field(end: str) -> None:
    text = f"OPTIONS sip:a SIP/2.0\r\nSubject: one{end}Contact: <sip:two@b>\r\nExpires: 7\r\n\r\n"
    message = parse(text.encode())
    assert message.header("Subject") == f"one{end}Contact: <sip:two@b>"
    assert message.header("Contact") is None
    assert message.expires == 7
    assert message.text == text[:-4]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\r\n", "\n\r\n"])
def test_a_line_may_end_in_either_half_and_an_empty_one_is_no_field(end: str) -> None:
    middle = f"OPTIONS sip:a SIP/2.0\r\nSubject: one{end}Expires: 7\r\n\r\n"
    if end in ("\n", "\r"):
        assert parse(middle.encode()).expires == 7
    else:
        with pytest.raises(SipError):
            parse(middle.encode())
