"""What mutants have found: each a line that broke something once."""

from __future__ import annotations

import time

import pytest

from node import inquiry
from node.media import control, negotiation
from node.media.errors import MalformedSdp, NotAcceptable
from node.sip import auth, compose
from node.sip.errors import Malformed, TooLarge
from node.sip.fields import NameAddr, Via, number
from node.sip.framing import StreamFramer
from node.sip.message import Request, Response, check, check_response, parse

OPTIONS = (
    "OPTIONS sip:b@192.0.2.2 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: {from_}\r\nTo: {to}\r\n"
    "Call-ID: c\r\nCSeq: 1 OPTIONS\r\n\r\n"
)
SDP = "v=0\r\no=- {o} 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 {format}\r\n{lines}"
LONG = "1" * 5000
"More digits than `int` reads."


def request(from_: str = "<sip:a@x>;tag=1", to: str = "<sip:b@x>") -> Request:
    read = parse(OPTIONS.format(from_=from_, to=to).encode())
    assert isinstance(read, Request)
    return read


def test_a_stream_of_line_feeds_is_passed_over():
    framer = StreamFramer()
    assert framer.feed(b"\n" * 60_000 + b"OPTIONS sip:b SIP/2.0\r\n\r\n") == [b"OPTIONS sip:b SIP/2.0\r\n\r\n"]
    assert [each for _ in range(60_000) for each in framer.feed(b"\n")] == []
    assert framer.feed(b"\r" * 60_000) == []


def test_credentials_without_an_equals_sign_are_read_in_linear_time():
    begun = time.process_time()
    with pytest.raises(Malformed):
        auth.Credentials.parse("Digest " + "INVITE" * 20_000)
    assert time.process_time() - begun < 1


def test_a_display_name_of_blanks_is_written_in_linear_time():
    begun = time.process_time()
    assert str(NameAddr.parse(f'"x,{" " * 50_000}y" <sip:a@b>')).startswith('"x,  ')
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    "to",
    [
        "<sip:b@x>;tag=a:b",
        "<sip:b@x>;tag= a b ",
        "<sip:b@x>;tag=;tag=2",
        "<sip:b@x>;tag;x",
        "<sip:b@x>;\x0btag=3",
        "<sip:b@x>;tag=ü",
    ],
)
def test_the_tag_is_the_same_whether_the_whole_field_is_read_or_not(to):
    assert request(to=to).to_tag == request(to=to).to.tag


def test_a_bracket_behind_the_bracket_is_refused():
    for text in ("<sip:a@b>;tag=1:<sip:c@d>", "sip:a@b;tag=1>;tag=2", "<sip:a@b>;x>;tag=2"):
        with pytest.raises(Malformed):
            NameAddr.parse(text)


def test_an_empty_tag_is_none_and_the_answer_has_one():
    read = request(to="<sip:b@x>;tag=")
    assert read.to_tag == ""
    assert parse(compose.response(read, 200, to_tag="ours").encode()).to_tag == "ours"


def test_a_to_that_cannot_be_read_can_be_refused():
    read = request(to='<sip:b@x>;a="')
    assert parse(compose.refuse(read, Malformed("To")).encode()).header("To") == '<sip:b@x>;a="'


@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_via_names_a_port_that_can_be_sent_to(port):
    with pytest.raises(Malformed):
        Via.parse(f"SIP/2.0/UDP 192.0.2.1:{port}")


@pytest.mark.parametrize("value", [LONG, "٣", "²", "-1", "99999", ""])
def test_an_rport_that_is_no_port_is_none(value):
    assert Via.parse(f"SIP/2.0/UDP a;rport={value}").rport is None


@pytest.mark.parametrize(
    ("o", "format", "lines"),
    [
        (LONG, "8", ""),
        ("1", LONG, ""),
        ("1", "²", ""),
        ("1", "8", f"a=rtcp:{LONG}\r\n"),
        ("1", "8", f"a=ptime:{LONG}\r\n"),
        ("1", "96", f"a=rtpmap:96 opus/{LONG}/{LONG}\r\n"),
    ],
)
def test_numbers_in_a_description_may_be_any(o, format, lines):
    audio = negotiation.audio_of(SDP.format(o=o, format=format, lines=lines))
    assert audio.codecs[0].name == "PCMU"
    assert (audio.rtcp_port, audio.ptime) == (4001, 0)
    negotiation.following(SDP.format(o=o, format="8", lines=""), SDP.format(o="7", format="8", lines=""))


def test_a_port_of_too_many_digits_is_refused():
    with pytest.raises((MalformedSdp, NotAcceptable)):
        negotiation.audio_of(SDP.format(o="1", format="8", lines="").replace("4000", LONG))


@pytest.mark.parametrize(
    ("text", "q"),
    [
        ("0.7", 0.7),
        ("1", 1.0),
        ("0", 0.0),
        ("", 1.0),
        ("x", 1.0),
        ("nan", 1.0),
        ("1.5", 1.0),
        ("-1", 1.0),
        ("1" * 400, 1.0),
    ],
)
def test_a_preference_that_cannot_be_read_is_the_usual_one(text, q):
    assert NameAddr.parse(f"<sip:a@b>;q={text}").q == q


@pytest.mark.parametrize("text", [LONG, "²", "٣", "1e3", "+1", " 1", "1_0", "-0", ""])
def test_what_is_no_number(text):
    assert number(text, 10**20) is None


def test_leading_zeros_do_not_hide_the_number():
    read = parse(
        OPTIONS.format(from_="<sip:a@x>;tag=1", to="<sip:b@x>")
        .replace("CSeq", "Max-Forwards: " + "0" * 30 + "70\r\nCSeq")
        .encode()
    )
    assert read.max_forwards == 70


def test_an_address_in_a_description_is_ascii():
    """Another one was told to the media process, which takes UTF-8 only: from then on no call had media."""
    text = SDP.format(o="1", format="8", lines="").replace("c=IN IP4 192.0.2.1", "c=IN IP4 192.0.2.\udcff")
    with pytest.raises(MalformedSdp):
        negotiation.audio_of(text)


def test_an_order_with_bytes_that_are_no_text_does_not_keep_back_the_others():
    orders = [control.Part("one"), control.Part("two\udcff"), control.Part("three")]
    (datagram,) = control.encode_orders("internal#0", orders)
    assert [order.leg for order in control.decode_orders(datagram).orders] == ["one", "two\ufffd", "three"]


def test_a_console_is_told_of_names_that_are_no_text():
    frame = inquiry.Reply(1, True, {"name": "A\udcffda", "rows": ["\udc80"]})
    (read,) = inquiry.Frames().feed(inquiry.encode(frame))
    assert read == inquiry.Reply(1, True, {"name": "A\ufffdda", "rows": ["\ufffd"]})


def response(status: int = 200, **fields: str) -> Response:
    lines = {
        "Via": "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", "From": "<sip:a@x>;tag=1", "To": "<sip:b@x>;tag=2", "Call-ID": "c",
        "CSeq": "1 INVITE", "Contact": "<sip:b@192.0.2.2>", **{name.replace("_", "-"): value for name, value in fields.items()},
    }  # fmt: skip
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    read = parse(f"SIP/2.0 {status} X\r\n{head}\r\n".encode())
    assert isinstance(read, Response)
    return read


@pytest.mark.parametrize(
    "fields",
    [
        {"Contact": "<sip:b b@192.0.2.2>"}, {"To": ""}, {"To": '"b <sip:b@x>;tag=2'}, {"CSeq": ""}, {"CSeq": "x"}, {"Call-ID": ""},
        {"From": "<>;tag=1"}, {"Record-Route": "<sip:a b>"}, {"Via": ""}, {"Via": "x"},
    ],
)  # fmt: skip
def test_a_response_that_a_call_would_stumble_over_is_dropped_at_the_door(fields):
    with pytest.raises(Malformed):
        check_response(response(**{name.replace("-", "_"): value for name, value in fields.items()}))


def test_good_responses_pass_and_refusals_need_less():
    check_response(response())
    check_response(response(Contact=""))
    check_response(response(Record_Route="<sip:p1;lr>, <sip:p2;lr>"))
    check_response(response(486, Contact="<sip:b b>"))


@pytest.mark.parametrize(
    ("method", "field"), [("INVITE", "Contact"), ("UPDATE", "Contact"), ("INVITE", "Record-Route")]
)
def test_a_request_that_a_dialog_would_stumble_over_is_refused(method, field):
    text = OPTIONS.format(from_="<sip:a@x>;tag=1", to="<sip:b@x>;tag=2").replace("OPTIONS", method)
    read = parse(text.replace("Call-ID", f"{field}: <sip:a b>\r\nCall-ID").encode())
    assert isinstance(read, Request)
    with pytest.raises(Malformed):
        check(read)


def test_a_request_uri_that_cannot_be_read_is_refused_inside_a_dialog_too():
    text = OPTIONS.format(from_="<sip:a@x>;tag=1", to="<sip:b@x>;tag=2").replace("OPTIONS", "INVITE")
    read = parse(text.replace("sip:b@192.0.2.2", "sip:b@192.0.2.2%0d%0a:5060").encode())
    assert isinstance(read, Request)
    with pytest.raises(Malformed):
        check(read)


@pytest.mark.parametrize("size", [1, 1500, 5000])
def test_a_head_beyond_the_maximum_is_refused_however_it_comes(size):
    head = b"OPTIONS sip:b SIP/2.0\r\nX: " + b"x" * 2000 + b"\r\n\r\n"
    framer = StreamFramer(1000)
    with pytest.raises(TooLarge):
        sum(len(framer.feed(head[at : at + size])) for at in range(0, len(head), size))
