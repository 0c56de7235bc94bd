from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.sip import compose
from node.sip.errors import (
    BadExtension,
    Malformed,
    SipError,
    TooLarge,
    TooManyHops,
    UnsupportedScheme,
    UnsupportedVersion,
)
from node.sip.message import Limits, Request, Response, check, parse

HEAD = (
    "INVITE sip:bob@example.org SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n"
    'From: "Alice" <sip:alice@example.org>;tag=a1\r\n'
    "To: <sip:bob@example.org>\r\n"
    "Call-ID: c1@192.0.2.1\r\n"
    "CSeq: 1 INVITE\r\n"
)


def message(extra: str = "", body: bytes = b"") -> bytes:
    return f"{HEAD}{extra}\r\n".encode("utf-8", "surrogateescape") + body


def a_request(data: bytes) -> Request:
    request = parse(data)
    assert isinstance(request, Request)
    return request


def test_a_request_and_what_it_tells():
    data = message(
        "Contact: <sip:alice@192.0.2.1>\r\nMax-Forwards: 69\r\nExpires: 120\r\nContent-Type: Application/SDP ; x=1\r\nContent-Length: 3\r\n",
        b"v=0",
    )
    request = a_request(data)
    assert (request.method, request.uri, str(request.target)) == (
        "INVITE",
        "sip:bob@example.org",
        "sip:bob@example.org",
    )
    assert (request.via.branch, request.from_tag, request.to_tag) == ("z9hG4bK1", "a1", "")
    assert (request.call_id, request.cseq.number, request.cseq.method) == ("c1@192.0.2.1", 1, "INVITE")
    assert (request.max_forwards, request.expires, request.content_type, request.body) == (
        69,
        120,
        "application/sdp",
        b"v=0",
    )
    assert [str(contact.uri) for contact in request.contacts] == ["sip:alice@192.0.2.1"]
    assert request.from_.display == "Alice"
    assert request.user_agent == ""
    assert request.encode() is data


def test_a_response_and_what_it_tells():
    response = parse(b"SIP/2.0 183 Session \xc3\x84 Progress\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\r\n")
    assert isinstance(response, Response)
    assert (response.status, response.reason) == (183, "Session Ä Progress")
    assert parse(b"SIP/2.0 200\r\n\r\n").status == 200
    assert parse(b"SIP/2.0 200 \r\n\r\n").reason == ""


def test_compact_forms_and_any_case_are_one_field():
    request = a_request(
        b"OPTIONS sip:b SIP/2.0\r\nv: SIP/2.0/UDP a;branch=z9hG4bK1\r\nF:<sip:a>;tag=1\r\nt : <sip:b>\r\ni:1\r\ncSeQ: 1 OPTIONS\r\n"
        b"m: <sip:a@h>\r\nX-cUsToM:  7 \r\nk: timer\r\nSUPPORTED: path, 100rel\r\nl: 0\r\n\r\n"
    )
    assert (request.call_id, request.from_tag, request.header("x-Custom")) == ("1", "1", "7")
    assert request.headers("Supported") == request.headers("K") == ["timer", "path", "100rel"]
    assert request.header("subject") is None
    assert request.headers("subject") == []
    assert [name for name, _ in request.items()] == ["v", "F", "t", "i", "cSeQ", "m", "X-cUsToM", "k", "SUPPORTED", "l"]


def test_only_list_fields_are_split_at_commas():
    request = a_request(
        message("Date: Sat, 13 Nov 2010 23:29:00 GMT\r\nSubject: a, b\r\nAllow: INVITE, ACK\r\nContact: *\r\n")
    )
    assert request.headers("date") == ["Sat, 13 Nov 2010 23:29:00 GMT"]
    assert request.headers("subject") == ["a, b"]
    assert request.headers("allow") == ["INVITE", "ACK"]
    assert request.wildcard
    assert request.contacts == []


def test_folded_fields_are_unfolded():
    request = a_request(message("Subject: one\r\n  two\r\n\tthree\r\nX: 1\r\n v: no\r\n"))
    assert (request.header("subject"), request.header("x")) == ("one two three", "1 v: no")
    assert len(request.headers("via")) == 1


@pytest.mark.parametrize("old", [b"\n", b"\r\n"])
def test_lines_may_end_in_lf_alone(old):
    request = a_request(message("Subject: a\r\n b\r\nContent-Length: 4\r\n", b"v=0 ").replace(b"\r\n", old))
    assert (request.header("subject"), request.call_id) == ("a b", "c1@192.0.2.1")


def test_a_lone_lf_in_a_field_begins_a_new_field_and_is_never_passed_on():
    request = a_request(message("Subject: a\nX-Hidden: b\r\n"))
    assert (request.header("subject"), request.header("x-hidden")) == ("a", "b")


def test_empty_lines_before_the_start_are_skipped():
    assert a_request(b"\r\n\r\n\r\n" + message()).method == "INVITE"


def test_any_byte_survives():
    data = message("Subject: \udcff\udcfe ü\r\n", b"\x00\xff")
    request = a_request(data)
    copy = compose.with_via(request, "SIP/2.0/UDP x;branch=z9hG4bK2")
    assert copy.encode() == data.replace(b"\r\n", b"\r\nVia: SIP/2.0/UDP x;branch=z9hG4bK2\r\n", 1)


# ---- Content-Length ------------------------------------------------------------------------------------------------


def test_bytes_behind_the_content_length_are_dropped():
    assert a_request(message("Content-Length: 3\r\n", b"v=0garbage")).body == b"v=0"


def test_without_content_length_a_datagram_is_all_body():
    assert a_request(message("", b"v=0")).body == b"v=0"


@pytest.mark.parametrize("length", ["10", "-1", "+3", "3 4", "x", "", "99999999999999", "٣", "3_0"])
def test_a_body_that_does_not_fit_is_refused_with_400(length):
    with pytest.raises(Malformed) as refused:
        parse(message(f"Content-Length: {length}\r\n", b"v=0"))
    request = refused.value.request
    assert request is not None
    assert compose.refuse(request, refused.value).encode().startswith(b"SIP/2.0 400 Bad Content-Length\r\n")


# ---- what is refused, and what can still be answered ---------------------------------------------------------------

TORTURE = [
    ("an unreadable request line", HEAD.replace("INVITE sip:bob@example.org SIP/2.0", "INVITE"), 400, True),
    ("spaces within the request URI", HEAD.replace("sip:bob@", "sip:bob b@"), 400, True),
    ("another version", HEAD.replace(" SIP/2.0\r\nVia", " SIP/7.0\r\nVia"), 505, True),
    ("another protocol", "GET / HTTP/1.1\r\nHost: x\r\n", 400, False),
    ("a line without a colon", HEAD + "nonsense\r\n", 400, True),
    ("a name with spaces", HEAD + "X y z: 1\r\n", 400, True),
    ("an empty name", HEAD + ": 1\r\n", 400, True),
    ("a method that is no token", HEAD.replace("INVITE sip", "IN<VITE sip"), 400, True),
    ("no Call-ID", HEAD.replace("Call-ID: c1@192.0.2.1\r\n", "") + "bad\r\n", 400, False),
    ("an unreadable CSeq", HEAD.replace("1 INVITE", "one") + "bad\r\n", 400, False),
    ("an unreadable Via", HEAD.replace("SIP/2.0/UDP", "UDP") + "bad\r\n", 400, False),
    ("an ACK", HEAD.replace("INVITE", "ACK") + "bad\r\n", 400, False),
    ("a status line of another version", "SIP/3.0 200 OK\r\n", 400, False),
    ("a status of four digits", "SIP/2.0 2000 OK\r\n", 400, False),
    ("a status beyond 699", "SIP/2.0 999 OK\r\n", 400, False),
    (
        "a broken response",
        "SIP/2.0 200 OK\r\nVia: x\r\nFrom: a\r\nTo: b\r\nCall-ID: c\r\nCSeq: 1 BYE\r\nbad\r\n",
        400,
        False,
    ),
    ("nothing", "\r\n", 400, False),
    ("noise", "\x00\x01\x02\x7f", 400, False),
]


@pytest.mark.parametrize(("what", "head", "status", "answerable"), TORTURE)
def test_torture(what, head, status, answerable):
    with pytest.raises(Malformed) as refused:
        parse(f"{head}\r\n".encode())
    error = refused.value
    assert error.status == status
    assert (error.request is not None) == answerable
    if error.request is not None:
        answer = parse(compose.refuse(error.request, error).encode())
        assert isinstance(answer, Response)
        assert (answer.status, answer.call_id, answer.via.branch) == (status, "c1@192.0.2.1", "z9hG4bK1")


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", b"x", message()[:-2], b"\xff" * 100, b"SIP/2.0", b"\n\n"])
def test_what_is_no_message_is_refused(data):
    with pytest.raises(Malformed):
        parse(data)


def test_more_than_one_space_in_the_start_line_is_forgiven():
    assert (
        a_request(message().replace(b"INVITE sip:bob@example.org ", b"INVITE   sip:bob@example.org  ", 1)).uri
        == "sip:bob@example.org"
    )


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (message("X: " + "y" * 9000 + "\r\n"), Limits()),
        (message("X: y\r\n" * 300), Limits()),
        (message("", b"x" * 1000), Limits(message=1000)),
    ],
)
def test_limits_are_refused_with_513(data, limits):
    with pytest.raises(TooLarge) as refused:
        parse(data, limits)
    assert refused.value.status == 513


# ---- check ---------------------------------------------------------------------------------------------------------


def checked(old: str, new: str, **options: frozenset[str]) -> None:
    check(a_request(message("Max-Forwards: 70\r\n").replace(old.encode(), new.encode(), 1)), **options)


def test_a_good_request_passes():
    checked("", "")
    checked("INVITE", "INVITE")


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_a_mandatory_field_may_not_be_missing(name):
    with pytest.raises(Malformed):
        checked(f"{name}:", f"X-{name}:")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("1 INVITE", "1 BYE", Malformed),
        ("1 INVITE", "4294967296 INVITE", Malformed),
        ("SIP/2.0/UDP", "SIP/2.0/UDP;", Malformed),
        ("<sip:bob@example.org>\r\n", "<sip:bob@example.org\r\n", Malformed),
        ("Call-ID", "To: <sip:x>\r\nCall-ID", Malformed),
        ("Call-ID", "i: 2\r\nCall-ID", Malformed),
        ("sip:bob", "http:bob", UnsupportedScheme),
        ("sip:bob@example.org", "sip:@", Malformed),
        ("Max-Forwards: 70", "Max-Forwards: 0", TooManyHops),
        ("Max-Forwards: 70", "Max-Forwards: 300", Malformed),
        ("Max-Forwards: 70", "Max-Forwards: x", Malformed),
    ],
)
def test_what_check_refuses(old, new, error):
    with pytest.raises(error):
        checked(old, new)


def test_requirements_that_we_do_not_have_are_named():
    with pytest.raises(BadExtension) as refused:
        checked("Max-Forwards", "Require: timer, foo\r\nrequire: bar\r\nMax-Forwards", extensions=frozenset({"timer"}))
    assert refused.value.headers == [("Unsupported", "foo, bar")]


def test_in_a_dialog_we_are_the_end_and_count_no_hops():
    request = a_request(
        message("Max-Forwards: 0\r\n").replace(b"<sip:bob@example.org>\r\n", b"<sip:bob@example.org>;tag=1\r\n")
    )
    check(request)


# ---- tags, without parsing the address -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("<sip:a@b>;tag=1", "1"),
        ("<sip:a@b;tag=no>", ""),
        ("<sip:a@b;tag=no>;x=1 ; TAG = yes", "yes"),
        ("sip:a@b;tag=1", "1"),
        ('";tag=no>" <sip:a@b>;tag=2', "2"),
        ('"x" <sip:a@b>;y=">;tag=no";tag=3', "3"),
        ("<sip:a@b>;xtag=4", ""),
        ("<sip:a@b>", ""),
    ],
)
def test_tags(text, tag):
    request = a_request(message().replace(b"<sip:bob@example.org>", text.encode()))
    assert request.to_tag == tag
    assert request.to.tag == tag
    assert request.to_tag == tag


# ---- never slow, never surprised -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        '"' + '\\"' * 15000, "<" * 30000, "a " * 15000, ";" * 30000, ";a=" * 10000 + '"', " " * 30000 + "x", "," * 30000,
        "<sip:a>" + " ;" * 10000 + '"', "<sip:a>;a" + " " * 30000 + '"', "sip:" + "a:" * 15000, "sip:" + "a." * 15000 + " ",
        "SIP/2.0/UDP a" + " " * 30000 + "x", "SIP" + " " * 30000, '"<' * 15000, "<>" * 15000, "sip:a@" + "[" * 30000,
    ],
)  # fmt: skip
def test_no_field_takes_more_than_linear_time(value):
    data = (
        f"INVITE sip:b SIP/2.0\r\nVia: {value}\r\nFrom: {value}\r\nTo: {value}\r\nCall-ID: {value}\r\nCSeq: {value}\r\n"
        f"Contact: {value}\r\nContent-Type: {value}\r\n\r\n"
    ).encode()
    start = time.process_time()
    request = parse(data, Limits(message=1_000_000, line=100_000))
    for name in ("via", "from_", "to", "from_tag", "to_tag", "call_id", "cseq", "contacts", "content_type", "wildcard"):
        try:
            getattr(request, name)
        except SipError:
            pass
    assert time.process_time() - start < 1


def test_many_lines_take_linear_time():
    start = time.process_time()
    for filler in ("X: y\r\n", "\r\n ", ": \r\n", "v\r\n", "Via: a\r\n", "\n", "\r"):
        data = (HEAD + filler * (60000 // len(filler)) + "\r\n\r\n").encode()
        try:
            parse(data)
        except Malformed:
            pass
    assert time.process_time() - start < 2


PIECES = st.lists(
    st.sampled_from(
        [
            HEAD,
            "INVITE",
            " ",
            "sip:a@b",
            "SIP/2.0",
            "\r\n",
            "\n",
            "\r",
            ":",
            "Via: ",
            "From: <sip:a>;tag=1",
            "l: ",
            "3",
            "CSeq: 1 ACK",
            "é",
            "\x00",
            "\t",
            "200 OK",
        ]
    ),
    max_size=14,
)


@settings(max_examples=400, deadline=None)
@given(PIECES | st.binary(max_size=60).map(lambda data: [data.decode("utf-8", "surrogateescape")]))
def test_any_datagram_is_read_or_refused(pieces):
    data = "".join(pieces).encode("utf-8", "surrogateescape")
    try:
        result = parse(data)
        assert "\n" not in (result.header("from") or "")
        if isinstance(result, Request):
            check(result)
    except Malformed as error:
        if error.request is not None:
            parse(compose.refuse(error.request, error).encode())
    except SipError:
        pass


def test_an_unsupported_version_knows_its_status():
    with pytest.raises(UnsupportedVersion):
        parse(HEAD.replace("SIP/2.0\r\nVia", "SIP/1.0\r\nVia").encode() + b"\r\n")
