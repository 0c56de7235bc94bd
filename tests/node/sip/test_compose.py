from __future__ import annotations

from node.sip import compose
from node.sip.errors import BadExtension, OutOfOrder, TooManyHops
from node.sip.message import Request, parse

DATA = (
    "INVITE sip:bob@example.org SIP/2.0\r\nv: SIP/2.0/UDP 10.0.0.1;rport;branch=z9hG4bK1\r\nVia:SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK0\r\n"
    "f: Jörg <sip:a@b>;tag=1\r\nt:   <sip:bob@example.org>\r\ni: c1\r\nCSeq:   7\t INVITE\r\nTimestamp: 54.2\r\n"
    "Record-Route: <sip:p1;lr>\r\nrecord-route: <sip:p2;lr>, <sip:p3;lr>\r\nl: 0\r\n\r\n"
).encode()


def received() -> Request:
    message = parse(DATA)
    assert isinstance(message, Request)
    message.stamp("192.0.2.9", 7000)
    return message


def test_a_response_is_made_of_the_requests_own_words():
    response = compose.response(
        received(),
        200,
        to_tag="b",
        contact="<sip:b@h>",
        headers=[("X-A", "1")],
        body=b"v=0",
        content_type="application/sdp",
    )
    assert response.encode().decode() == (
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.0.1;rport=7000;branch=z9hG4bK1;received=192.0.2.9\r\n"
        "Via: SIP/2.0/TCP 10.0.0.2;branch=z9hG4bK0\r\nFrom: Jörg <sip:a@b>;tag=1\r\nTo: <sip:bob@example.org>;tag=b\r\n"
        "Call-ID: c1\r\nCSeq: 7\t INVITE\r\nRecord-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>\r\nRecord-Route: <sip:p3;lr>\r\n"
        "Contact: <sip:b@h>\r\nX-A: 1\r\nContent-Type: application/sdp\r\nContent-Length: 3\r\n\r\nv=0"
    )
    again = parse(response.encode())
    assert (again.status, again.reason, again.to_tag, again.body) == (200, "OK", "b", b"v=0")


def test_a_100_has_no_tag_but_the_timestamp():
    response = compose.response(received(), 100)
    assert response.to_tag == ""
    assert response.header("timestamp") == "54.2"
    assert response.header("record-route") is None


def test_a_refusal_has_no_route_and_a_tag_that_a_retransmission_gets_again():
    response = compose.response(received(), 486)
    assert response.header("record-route") is None
    assert len(response.to_tag) == 16
    assert compose.response(received(), 486).encode() == response.encode()


def test_a_tag_that_is_there_is_kept():
    request = parse(DATA.replace(b"t:   <sip:bob@example.org>", b"To: <sip:bob@example.org>;tag=x"))
    assert isinstance(request, Request)
    assert compose.response(request, 481, to_tag="other").header("to") == "<sip:bob@example.org>;tag=x"


def test_reasons():
    assert (compose.reason_of(487), compose.reason_of(499), compose.reason_of(299)) == (
        "Request Terminated",
        "Client Error",
        "Success",
    )
    assert compose.response(received(), 603, "No Way").reason == "No Way"


def test_errors_know_their_answer():
    assert compose.refuse(received(), TooManyHops()).status == 483
    assert compose.refuse(received(), BadExtension(["a", "b"])).header("unsupported") == "a, b"
    assert compose.refuse(received(), OutOfOrder()).header("retry-after") == "1"


def test_a_request():
    request = compose.request(
        "MESSAGE", "sip:b@h", from_="<sip:a@h>;tag=1", to="<sip:b@h>", call_id="c", cseq=3, routes=["<sip:p;lr>"],
        contact="<sip:a@c>", headers=[("Subject", "Grüße")], body=b"hi", content_type="text/plain",
    )  # fmt: skip
    sent = compose.with_via(request, "SIP/2.0/UDP h;branch=z9hG4bK1")
    assert sent.encode().decode() == (
        "MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nRoute: <sip:p;lr>\r\nMax-Forwards: 70\r\n"
        "From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: c\r\nCSeq: 3 MESSAGE\r\nContact: <sip:a@c>\r\nSubject: Grüße\r\n"
        "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
    )
    assert parse(sent.encode()).via.branch == "z9hG4bK1"
    assert (request.method, request.cseq.number, request.max_forwards) == ("MESSAGE", 3, 70)
