"""The parts of a body."""

from __future__ import annotations

import pytest

from node.calls.bodies import part
from node.calls.invite import sdp_of
from node.sip.message import Request, parse

SDP = "v=0\r\no=-- 1 1 IN IP4 192.0.2.1\r\ns=--\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ISUP = "Content-Type: application/isup;version=nxv3\r\nContent-Disposition: signal;handling=optional\r\n\r\n--b\x01"


def mixed(boundary: str, *parts: str, epilogue: str = "") -> str:
    return "".join(f"--{boundary}\r\n{each}\r\n" for each in parts) + f"--{boundary}--{epilogue}"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/mixed;boundary=b", mixed("b", f"Content-Type: application/sdp\r\n\r\n{SDP}", ISUP)),
        ("multipart/mixed;boundary=b", mixed("b", ISUP, f"c:application/sdp\r\n\r\n{SDP}", epilogue="\r\nand so on")),
        (
            'multipart/mixed; charset=x; boundary="a b?"',
            mixed("a b?", f"CONTENT-TYPE:Application/SDP;x=1\r\n\r\n{SDP}"),
        ),
        (
            "multipart/mixed;boundary=b",
            "preamble\r\n--bc\r\n" + mixed("b", f"Content-Type: application/sdp\r\n\r\n{SDP}"),
        ),
        ("multipart/mixed;boundary=b", mixed("b", "", f"Content-Type: application/sdp\r\n\r\n{SDP}")),
        ("multipart/mixed;boundary=b", f"--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}"),  # never closed
    ],
)
def test_a_description_is_found_among_other_parts_as_it_stands(content_type: str, body: str) -> None:
    assert part(content_type, body, "application/sdp").rstrip() == SDP.rstrip()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/mixed", mixed("b", f"Content-Type: application/sdp\r\n\r\n{SDP}")),
        ("multipart/mixed;boundary=b", mixed("c", f"Content-Type: application/sdp\r\n\r\n{SDP}")),
        ("multipart/mixed;boundary=b", mixed("b", ISUP, f"\r\nContent-Type: application/sdp\r\n\r\n{SDP}")),
        (
            "multipart/mixed;boundary=b",
            mixed("b", "", epilogue=f"\r\n--b\r\nContent-Type: application/sdp\r\n\r\n{SDP}"),
        ),
        ("multipart/mixed;boundary=b", ""),
    ],
)
def test_what_only_looks_like_a_part_is_none(content_type: str, body: str) -> None:
    assert part(content_type, body, "application/sdp") == ""


@pytest.mark.parametrize("kind", ["mixed", "alternative", "related"])
def test_an_offer_is_read_out_of_a_multipart_body(kind: str) -> None:
    body = mixed("unique-boundary-1", ISUP, f"Content-Type: application/sdp\r\n\r\n{SDP}")
    request = parse(
        "INVITE sip:a@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:b@192.0.2.1>;tag=1\r\n"
        f"To: <sip:a@192.0.2.9>\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\nContact: <sip:b@192.0.2.1>\r\nMax-Forwards: 70\r\n"
        f"Content-Type: multipart/{kind};boundary=unique-boundary-1\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    assert isinstance(request, Request)
    assert sdp_of(request) == SDP
