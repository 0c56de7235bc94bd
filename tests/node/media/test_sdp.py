from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.media import sdp
from node.media.errors import MalformedSdp, NotAcceptable
from node.media.negotiation import audio_of, relay_offer

PHONE = """v=0
o=1000 100 1 IN IP4 192.0.2.11
s=-
i=hello
c=IN IP4 192.0.2.11
b=AS:84
t=0 0
q=what is this
a=tool:x 1.0
m=audio 30124 RTP/AVP 0 101
i=speech
c=IN IP4 192.0.2.12
a=rtpmap:0 PCMU/8000
y=nor this
a=rtpmap:101 telephone-event/8000
m=video 0 RTP/AVP 96
""".replace("\n", "\r\n")


def test_parse_and_str_are_inverse_and_keep_order_and_unknown_lines() -> None:
    assert str(sdp.parse(PHONE)) == PHONE


def test_bare_newlines_blank_lines_and_stray_spaces_are_read() -> None:
    loose = PHONE.replace("\r\n", " \n\n") + "\n\0"
    assert str(sdp.parse(loose)) == PHONE


def test_a_section_of_its_own_overrules_the_session() -> None:
    description = sdp.parse(PHONE)
    assert (description.host, description.media[0].host) == ("192.0.2.11", "192.0.2.12")


def test_origin_is_read_and_written() -> None:
    origin = sdp.parse(PHONE).origin
    assert origin == sdp.Origin("1000", 100, 1, "192.0.2.11")
    assert str(origin) == "1000 100 1 IN IP4 192.0.2.11"
    assert str(sdp.Origin("x", 1, 2, "2001:db8::1")) == "x 1 2 IN IP6 2001:db8::1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "bad SDP: empty"),
        ("v=0\r\nnonsense\r\n", "bad SDP: not a type and `=` in line 2: 'nonsense'"),
        (
            "v=0\nm=audio x RTP/AVP 0",
            "bad SDP: not `m=<media> <port> <protocol> <formats>` in line 2: 'm=audio x RTP/AVP 0'",
        ),
        (
            "v=0\nm=audio 99999 RTP/AVP 0",
            "bad SDP: not `m=<media> <port> <protocol> <formats>` in line 2: 'm=audio 99999 RTP/AVP 0'",
        ),
        ("v=0\n\nc=IN IP4", "bad SDP: no address in line 3: 'c=IN IP4'"),
        ("v=0\n" + "a=x\n" * 20000, "bad SDP: longer than 65535 characters"),
        ("v=0\n" + "m=audio 1 RTP/AVP 0\n" * 65, "bad SDP: more than 64 media sections"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(MalformedSdp) as raised:
        sdp.parse(text)
    assert str(raised.value) == complaint
    assert raised.value.status == 400


@given(st.text(max_size=400))
def test_any_text_is_read_or_refused(text: str) -> None:
    _read("v=0\r\n" + text)


@given(
    st.lists(
        st.sampled_from(
            [*PHONE.splitlines(), "m=audio 1 RTP/AVP", "a=rtpmap:", "a=rtpmap:x /", "a=rtcp:", "a=ptime:²", "a=fmtp"]
        )
    )
)
def test_any_order_of_lines_is_read_or_refused(lines: list[str]) -> None:
    _read("\n".join(lines))


def _read(text: str) -> None:
    try:
        audio_of(text)
        relay_offer(text, address="192.0.2.1", port=4000, session_id=1, version=1, codecs=["PCMU"])
    except (MalformedSdp, NotAcceptable):
        pass
