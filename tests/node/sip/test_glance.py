"""What a request is worth is told from its bytes, and so is the 503 that refuses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.sip.glance import Standing, key, mark, mark_of, refusal, running, standing, to_tag, usual
from node.sip.message import Request, Response, parse

REQUEST = (
    b"%s sip:1001@pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7:5070;rport;branch=z9hG4bKabc\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef;received=198.51.100.1\r\nMax-Forwards: 70\r\n"
    b"From: <sip:1000@pbx.test>;tag=7\r\nTo: %s\r\nCall-ID: a@b\r\nCSeq: 3 %s\r\n%sContent-Length: 0\r\n\r\n"
)
FROM = ("203.0.113.9", 40000)
NONCE = "a1" * 26
TORTURE = Path(__file__).parents[2] / "data" / "torture"
CREDENTIALS = b'Authorization: Digest username="1000", cnonce="zz", nonce="%s"\r\n' % NONCE.encode()


def message(method: bytes = b"INVITE", to: bytes = b"<sip:1001@pbx.test>", extra: bytes = b"") -> bytes:
    return REQUEST % (method, to, method, extra)


def judged(data: bytes, known: tuple[str, str, str] | None = None) -> Standing:
    """The same, whether it is looked at in one go or field by field."""
    slowly = standing(data, lambda *key: key == known, lambda nonce: nonce == NONCE)
    assert standing(data, lambda *key: key == known, lambda nonce: nonce == NONCE, usual(data)) is slowly
    return slowly


@pytest.mark.parametrize("method", [b"REGISTER", b"INVITE", b"OPTIONS", b"SUBSCRIBE", b"MESSAGE", b"BYE", b"CANCEL"])
def test_what_starts_something_new_is_fresh(method: bytes) -> None:
    assert judged(message(method)) is Standing.FRESH


@pytest.mark.parametrize("method", [b"INVITE", b"BYE", b"ACK", b"UPDATE", b"NOTIFY"])
def test_what_bears_a_tag_of_ours_is_running(method: bytes) -> None:
    data = message(method, b"<sip:1001@pbx.test>;tag=internal.0-00112233445566")
    assert judged(data) is Standing.RUNNING
    assert running(data)


@pytest.mark.parametrize(
    "to",
    [
        b"<sip:1001@pbx.test>;tag=never",
        b"<sip:1001@pbx.test;tag=internal.0-00112233>",
        b'"x;tag=internal.0-00112233" <sip:1001@pbx.test>',
    ],
)
def test_what_bears_no_tag_of_ours_is_no_better_than_new(to: bytes) -> None:
    assert judged(message(b"BYE", to)) is Standing.FRESH
    assert not running(message(b"BYE", to))


@pytest.mark.parametrize(
    "field",
    [b"To:<sip:a@b>;tag=internal.0-1f", b"t : <sip:a@b> ;\r\n tag = internal.0-1f", b"TO: sip:a@b;TAG=internal.0-1f"],
)
def test_the_tag_is_found_however_to_is_written(field: bytes) -> None:
    assert to_tag(b"BYE sip:x SIP/2.0\r\nVia: x\r\n" + field + b"\r\nCSeq: 1 BYE\r\n\r\n") == b"internal.0-1f"


def test_credentials_for_a_nonce_of_ours_go_before_new_ones() -> None:
    assert judged(message(extra=CREDENTIALS)) is Standing.CHALLENGED
    assert judged(message(extra=CREDENTIALS.replace(b"a1a1", b"b2b2"))) is Standing.FRESH


def test_a_retransmission_of_what_was_accepted_is_told_from_new_ones() -> None:
    assert judged(message(), ("z9hG4bKabc", "192.0.2.7:5070", "INVITE")) is Standing.REPEATED
    assert judged(message(b"CANCEL"), ("z9hG4bKabc", "192.0.2.7:5070", "INVITE")) is Standing.RUNNING
    assert judged(message(b"REGISTER"), ("z9hG4bKabc", "192.0.2.7:5070", "INVITE")) is Standing.FRESH


def test_a_refusal_is_a_response_that_its_sender_recognises() -> None:
    made = refusal(message(), FROM, reliable=False, retry_after=3)
    assert made is not None
    data, there = made
    answer = parse(data)
    assert isinstance(answer, Response)
    assert (answer.status, answer.call_id, str(answer.cseq)) == (503, "a@b", "3 INVITE")
    assert (answer.via.branch, answer.via.received, answer.via.param("rport")) == ("z9hG4bKabc", FROM[0], "40000")
    assert b"\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef;received=198.51.100.1\r\n" in data
    assert 3 <= int(answer.header("Retry-After") or 0) <= 6
    assert there == FROM
    assert refusal(message(), FROM, reliable=False, retry_after=3) == made, "the same request gets the same answer"


def test_the_ack_to_a_refusal_is_known_by_its_tag() -> None:
    made = refusal(message(), FROM, reliable=False)
    assert made is not None
    to = made[0].partition(b"\r\nTo: ")[2].partition(b"\r\n")[0]
    assert judged(message(b"ACK", to)) is Standing.SPENT
    assert refusal(message(b"ACK", to), FROM, reliable=False) is None


def test_a_refusal_goes_to_the_port_of_the_via_without_rport() -> None:
    data = message().replace(b";rport", b"")
    made = refusal(data, FROM, reliable=False)
    assert made is not None
    assert made[1] == (FROM[0], 5070)
    made = refusal(data.replace(b"192.0.2.7:5070", b"[2001:db8::7]"), FROM, reliable=False)
    assert made is not None
    assert made[1] == (FROM[0], 5060)
    made = refusal(data, FROM, reliable=True)
    assert made is not None
    assert made[1] == FROM


def test_a_branch_with_rport_in_it_is_left_as_it_is() -> None:
    data = message().replace(b"branch=z9hG4bKabc", b"branch=z9hG4bK-rport-7")
    for name in (data, data.replace(b";rport;branch=z9hG4bK-rport-7", b";branch=z9hG4bK-rport-7;RPort = ")):
        made = refusal(name, FROM, reliable=False)
        assert made is not None
        via = parse(made[0]).via
        assert (via.branch, via.param("rport"), made[1]) == ("z9hG4bK-rport-7", "40000", FROM)


@pytest.mark.parametrize("port", [b"0", b"65536", b"99999"])
def test_what_is_to_be_answered_at_no_port_gets_no_answer(port: bytes) -> None:
    data = message().replace(b":5070;rport", b":" + port)
    assert refusal(data, FROM, reliable=False) is None
    assert refusal(data, FROM, reliable=False, retry_after=3, seen=usual(data)) is None
    assert refusal(data, FROM, reliable=True) is not None  # by its connection


def test_compact_and_crowded_fields_are_copied_too() -> None:
    data = (
        b"OPTIONS sip:a@b SIP/2.0\r\nv: SIP/2.0/UDP h;branch=z9hG4bK1;rport, SIP/2.0/UDP j;branch=z9hG4bK2\r\n"
        b"v: SIP/2.0/UDP k;branch=z9hG4bK3\r\nf: sip:a@b;tag=1\r\nt: sip:c@d\r\ni: 77\r\nCSEQ: 5 OPTIONS\r\n\r\n"
    )
    made = refusal(data, FROM, reliable=False)
    assert made is not None
    answer = parse(made[0])
    assert answer.via.branch == "z9hG4bK1"
    assert [via.partition("branch=")[2].partition(";")[0] for via in answer.headers("Via")] == [
        "z9hG4bK1",
        "z9hG4bK2",
        "z9hG4bK3",
    ]


SINGLE = message().replace(b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef;received=198.51.100.1\r\n", b"")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        (b";rport;branch=z9hG4bKabc", b";branch=z9hG4bKabc;rport"),
        (b";rport;branch=z9hG4bKabc", b";branch=z9hG4bKabc;rport;alias"),
        (b";rport;", b";rport=9;"),
        (b";rport;", b";"),
        (b"192.0.2.7:5070", b"[2001:db8::7]"),
        (b"pbx.test>\r\nCall", b"pbx.test>;x=y\r\nCall"),
        (b"Max-Forwards: 70", b"Max-Forwards:\r\n 70"),
        (b"Call-ID: a@b", b"Call-ID: a@b\r\n c"),
        (b"From: ", b"From:\r\n "),
        (b"Content-Length", b"Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef\r\nContent-Length"),
        (b"Content-Length", b"v: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef\r\nContent-Length"),
        (b"Max-Forwards: 70", b"via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef"),
        (b"branch=z9hG4bKabc", b"branch=z9hG4bKabc, SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKdef"),
    ],
)
def test_looked_at_in_one_go_or_field_by_field_the_refusal_is_the_same(old: bytes, new: bytes) -> None:
    data = SINGLE.replace(old, new, 1)
    made = refusal(data, FROM, reliable=False, retry_after=3)
    assert made is not None
    assert refusal(data, FROM, reliable=False, retry_after=3, seen=usual(data)) == made
    vias = parse(data).headers("Via")
    assert [via.partition("branch=")[2][:10] for via in parse(made[0]).headers("Via")] == [
        via.partition("branch=")[2][:10] for via in vias
    ]


@pytest.mark.parametrize(
    ("old", "new"), [(b"", b""), (b"INVITE", b"CANCEL"), (b";rport;branch=z9hG4bKabc", b";branch=z9hG4bKabc;rport")]
)
def test_the_key_of_a_transaction_is_the_layers(old: bytes, new: bytes) -> None:
    seen = usual(SINGLE.replace(old, new))
    assert seen is not None
    assert key(seen) == ("z9hG4bKabc", "192.0.2.7:5070", "INVITE")


def test_what_is_answered_elsewhere_than_where_it_came_from_must_be_read() -> None:
    seen = usual(SINGLE.replace(b";rport", b""))
    assert seen is not None
    assert key(seen) is None


def test_what_phones_usually_send_is_looked_at_in_one_go() -> None:
    assert usual(SINGLE) is not None
    assert usual(SINGLE.replace(b";rport;branch=z9hG4bKabc", b";branch=z9hG4bKabc;rport")) is not None


def test_a_body_that_begins_with_v_is_no_second_via() -> None:
    call = SINGLE.replace(b"\r\n\r\n", b"\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nVia: x\r\n", 1)
    assert usual(call) is not None
    assert usual(SINGLE.replace(b"\r\n\r\n", b"\r\nv: SIP/2.0/UDP h;branch=1\r\n\r\nv=0\r\n", 1)) is None


def test_a_copy_bears_the_mark_of_what_was_read() -> None:
    seen = usual(SINGLE)
    assert seen is not None
    request = parse(SINGLE)
    assert isinstance(request, Request)
    assert mark(seen) == mark_of(request.via.branch, request.header("CSeq") or "")
    again = usual(SINGLE.replace(b"CSeq: 3 ", b"CSeq: 4 "))
    assert again is not None
    assert mark(again) != mark(seen), "who has one branch for all is not taken for a copy"


@pytest.mark.parametrize(
    "crowd", [b"From: a\r\nTo: b\r\nCall-ID: c\r\n", b"Via: SIP/2.0/UDP h;branch=1\r\n", b"X:" + b";a" * 99 + b"\r\n"]
)
def test_what_is_made_to_take_long_is_given_up_soon(crowd: bytes) -> None:
    """Were it tried in all ways, a thousand lines would take hours."""
    assert usual(b"INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=1\r\n" + crowd * 1000) is None


@pytest.mark.parametrize("name", [b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
def test_what_lacks_a_field_is_refused_by_silence(name: bytes) -> None:
    data = b"\r\n".join(line for line in message().split(b"\r\n") if not line.startswith(name + b":"))
    assert refusal(data, FROM, reliable=False) is None


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 40, b"INVITE", b"INVITE \r\n\r\n", b"\r\nTo:\r\nVia:\r\n", bytes(range(256))]
)
def test_rubbish_is_fresh_and_gets_no_answer(data: bytes) -> None:
    assert judged(data) is Standing.FRESH
    assert refusal(data, FROM, reliable=False) is None


@pytest.mark.parametrize("path", sorted(TORTURE.glob("*.dat")), ids=lambda path: path.stem)
def test_torture_messages_are_looked_at_without_harm(path: Path) -> None:
    data = path.read_bytes()
    assert judged(data) in Standing
    made = refusal(data, FROM, reliable=False)
    assert made is None or made[0].startswith(b"SIP/2.0 503 ")
