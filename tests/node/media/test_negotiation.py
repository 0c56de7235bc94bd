from __future__ import annotations

from typing import Any

import pytest

from node.media import negotiation
from node.media.errors import NotAcceptable
from node.media.negotiation import audio_of

OURS: dict[str, Any] = {"address": "198.51.100.1", "port": 20000, "session_id": 7, "version": 3}

ALICE = """v=0
o=alice 2890844526 2890844526 IN IP4 192.0.2.11
s=call
c=IN IP4 192.0.2.11
t=0 0
m=audio 49170 RTP/AVP 96 0 8 97 101 13
a=rtpmap:96 opus/48000/2
a=fmtp:96 useinbandfec=1
a=rtpmap:0 PCMU/8000
a=rtpmap:8 PCMA/8000
a=rtpmap:97 telephone-event/48000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-15
a=ptime:20
"""

HEAD = "v=0\r\no=FreeSWITCH 7 3 IN IP4 198.51.100.1\r\ns=FreeSWITCH\r\nc=IN IP4 198.51.100.1\r\nt=0 0\r\n"


def offer(*lines: str, media: str = "m=audio 49170 RTP/AVP 0", session: str = "") -> str:
    return (
        "v=0\no=a 1 1 IN IP4 192.0.2.11\ns=-\nc=IN IP4 192.0.2.11\nt=0 0\n"
        + session
        + "\n".join((media, *lines))
        + "\n"
    )


def body(text: str) -> list[str]:
    """The lines from the first section on."""
    lines = text.split("\r\n")
    at = next(at for at, line in enumerate(lines) if line.startswith("m="))
    return [line for line in lines[at:] if line]


# ---- an offer passed on --------------------------------------------------------------------------------------------


def test_an_offer_is_passed_on_under_our_address() -> None:
    assert negotiation.relay_offer(ALICE, **OURS) == HEAD + ALICE[ALICE.index("m=") :].replace(
        "49170", "20000"
    ).replace("\n", "\r\n")


def test_codecs_of_no_preference_list_are_dropped_with_all_that_is_about_them() -> None:
    assert body(negotiation.relay_offer(ALICE, codecs=["PCMA@20i", "PCMU"], **OURS)) == [
        "m=audio 20000 RTP/AVP 0 8 101 13",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=ptime:20",
    ]


def test_greedy_puts_our_preferences_first() -> None:
    text = negotiation.relay_offer(ALICE, codecs=["PCMA", "PCMU"], greedy=True, **OURS)
    assert body(text)[0] == "m=audio 20000 RTP/AVP 8 0 101 13"


def test_a_preference_list_that_would_leave_nothing_is_passed_over() -> None:
    assert body(negotiation.relay_offer(ALICE, codecs=["G729"], **OURS))[0] == "m=audio 20000 RTP/AVP 96 0 8 97 101 13"


def test_a_rate_in_the_preference_list_counts() -> None:
    text = offer("a=rtpmap:96 SPEEX/16000", "a=rtpmap:97 SPEEX/8000", media="m=audio 4000 RTP/AVP 96 97")
    assert body(negotiation.relay_offer(text, codecs=["SPEEX@8000h@20i"], **OURS))[0] == "m=audio 20000 RTP/AVP 97"


def test_only_audio_is_anchored_and_the_sections_keep_their_places() -> None:
    text = offer(
        "a=rtpmap:99 H264/90000", "m=audio 4000 RTP/AVP 0", "m=image 5000 udptl t38", media="m=video 4002 RTP/AVP 99"
    )
    assert body(negotiation.relay_offer(text, **OURS)) == [
        "m=video 0 RTP/AVP 99",
        "m=audio 20000 RTP/AVP 0",
        "m=image 0 udptl t38",
    ]


def test_what_does_not_pass_through_us_is_dropped() -> None:
    text = offer(
        "a=candidate:1 1 UDP 1 192.0.2.11 49170 typ host",
        "a=ice-ufrag:x",
        "a=ice-pwd:y",
        "a=fingerprint:sha-256 AA",
        "a=setup:actpass",
        "a=rtcp-mux",
        "a=rtcp:49180",
        "a=mid:0",
        "a=ssrc:1 cname:x",
        "a=x-unknown:kept",
        "a=maxptime:40",
        session="a=group:BUNDLE 0\na=ice-lite\n",
    )
    assert body(negotiation.relay_offer(text, **OURS)) == [
        "m=audio 20000 RTP/AVP 0",
        "a=x-unknown:kept",
        "a=maxptime:40",
    ]


def test_srtp_passes_through_with_its_keys() -> None:
    key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz|2^20|1:4"
    text = offer(key, media="m=audio 4000 RTP/SAVP 0")
    assert body(negotiation.relay_offer(text, **OURS)) == ["m=audio 20000 RTP/SAVP 0", key]


@pytest.mark.parametrize("protocol", ["UDP/TLS/RTP/SAVPF", "RTP/SAVP", "TCP/RTP/AVP"])
def test_media_that_needs_us_inside_is_not_acceptable(protocol: str) -> None:
    with pytest.raises(NotAcceptable) as raised:
        negotiation.relay_offer(offer("a=fingerprint:sha-256 AA", media=f"m=audio 4000 {protocol} 0"), **OURS)
    assert raised.value.status == 488


def test_the_plain_alternative_to_a_secure_section_is_taken() -> None:
    text = offer("m=audio 4002 RTP/AVP 8", media="m=audio 4000 UDP/TLS/RTP/SAVP 0")
    assert body(negotiation.relay_offer(text, **OURS)) == ["m=audio 0 UDP/TLS/RTP/SAVP 0", "m=audio 20000 RTP/AVP 8"]


def test_a_description_without_audio_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable):
        negotiation.relay_offer(offer(media="m=image 4000 udptl t38"), **OURS)


def test_a_section_switched_off_stays_off() -> None:
    assert body(negotiation.relay_offer(offer("a=sendrecv", media="m=audio 0 RTP/AVP 0"), **OURS)) == [
        "m=audio 0 RTP/AVP 0"
    ]


def test_ipv6_on_our_side() -> None:
    ours = OURS | {"address": "2001:db8::1"}
    assert "\r\nc=IN IP6 2001:db8::1\r\n" in negotiation.relay_offer(ALICE, **ours)


# ---- an answer passed on -------------------------------------------------------------------------------------------


def test_an_answer_is_passed_on_section_for_section_as_the_offer() -> None:
    asked = offer("m=audio 4000 RTP/AVP 0 8", "m=image 5000 udptl t38", media="m=video 4002 RTP/AVP 99")
    answer = offer("a=rtpmap:8 PCMA/8000", media="m=audio 6000 RTP/AVP 8")
    assert body(negotiation.relay_answer(answer, offer=asked, **OURS)) == [
        "m=video 0 RTP/AVP 99",
        "m=audio 20000 RTP/AVP 8",
        "a=rtpmap:8 PCMA/8000",
        "m=image 0 udptl t38",
    ]


def test_payload_numbers_of_the_answer_are_kept() -> None:
    answer = offer(
        "a=rtpmap:100 OPUS/48000/2", "a=rtpmap:102 telephone-event/8000", media="m=audio 6000 RTP/AVP 100 102"
    )
    assert body(negotiation.relay_answer(answer, offer=ALICE, **OURS))[0] == "m=audio 20000 RTP/AVP 100 102"


def test_codecs_that_were_not_offered_are_dropped_from_the_answer() -> None:
    assert body(negotiation.relay_answer(offer(media="m=audio 6000 RTP/AVP 18 0"), offer=ALICE, **OURS)) == [
        "m=audio 20000 RTP/AVP 0"
    ]


def test_a_refused_stream_is_passed_on_as_refused() -> None:
    assert body(negotiation.relay_answer(offer(media="m=audio 0 RTP/AVP 0"), offer=offer(), **OURS)) == [
        "m=audio 0 RTP/AVP 0"
    ]


@pytest.mark.parametrize(
    ("asked", "answered", "passed"),
    [
        ("sendrecv", "sendrecv", None),
        ("sendrecv", "recvonly", "recvonly"),
        ("sendonly", "recvonly", "recvonly"),
        ("sendonly", "sendrecv", "recvonly"),
        ("sendonly", "inactive", "inactive"),
        ("recvonly", "sendrecv", "sendonly"),
        ("inactive", "sendrecv", "inactive"),
        ("sendonly", "sendonly", "inactive"),
    ],
)
def test_the_direction_of_an_answer_fits_the_offer(asked: str, answered: str, passed: str | None) -> None:
    text = negotiation.relay_answer(offer(f"a={answered}"), offer=offer(f"a={asked}"), **OURS)
    assert audio_of(text).direction == (passed or "sendrecv")


# ---- hold ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (offer(), False),
        (offer("a=sendonly"), True),
        (offer("a=inactive"), True),
        (offer("a=recvonly"), False),
        (offer(session="a=sendonly\n"), True),
        (offer("a=sendrecv", session="a=sendonly\n"), False),
        (offer("c=IN IP4 0.0.0.0"), True),
        (offer().replace("192.0.2.11", "0.0.0.0"), True),
    ],
)
def test_hold_is_seen(text: str, held: bool) -> None:
    assert audio_of(text).held is held


def test_a_hold_by_the_null_address_is_passed_on_as_sendonly() -> None:
    assert body(negotiation.relay_offer(offer("c=IN IP4 0.0.0.0"), **OURS)) == ["m=audio 20000 RTP/AVP 0", "a=sendonly"]


def test_a_hold_of_the_session_is_passed_on() -> None:
    assert body(negotiation.relay_offer(offer(session="a=inactive\n"), **OURS)) == [
        "m=audio 20000 RTP/AVP 0",
        "a=inactive",
    ]


def test_our_own_hold_and_unhold() -> None:
    held = negotiation.with_direction(offer("a=sendrecv"), "sendonly")
    assert audio_of(held).direction == "sendonly"
    assert audio_of(negotiation.with_direction(held, "sendrecv")).direction == "sendrecv"


def test_a_hold_can_be_answered_without_asking_the_other_leg() -> None:
    ours = negotiation.answer_for_playback(ALICE, **OURS).sdp
    again = ALICE.replace("49170", "49180").replace("a=ptime:20", "a=sendonly")
    text = negotiation.answer_locally(again, local_sdp=ours, **OURS)
    assert body(text) == [
        "m=audio 20000 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        "a=recvonly",
        "a=ptime:20",
    ]


def test_a_re_invite_without_what_was_agreed_is_not_acceptable() -> None:
    ours = negotiation.answer_for_playback(ALICE, **OURS).sdp
    with pytest.raises(NotAcceptable):
        negotiation.answer_locally(offer(media="m=audio 4000 RTP/AVP 18"), local_sdp=ours, **OURS)


# ---- by ourselves --------------------------------------------------------------------------------------------------


def test_an_answer_for_playback_takes_one_codec_and_telephone_event() -> None:
    answer = negotiation.answer_for_playback(ALICE, **OURS)
    assert (answer.codec, answer.payload_type, answer.telephone_event) == ("PCMU", 0, 101)
    assert answer.sdp == HEAD + (
        "m=audio 20000 RTP/AVP 0 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
        "a=fmtp:101 0-15\r\na=ptime:20\r\n"
    )


def test_an_answer_for_playback_follows_the_preference_list_where_it_can() -> None:
    assert negotiation.answer_for_playback(ALICE, codecs=["PCMA"], **OURS).codec == "PCMA"
    assert negotiation.answer_for_playback(ALICE, codecs=["OPUS"], **OURS).codec == "PCMU"


@pytest.mark.parametrize("media", ["m=audio 4000 RTP/AVP 9 18", "m=audio 4000 RTP/SAVP 0"])
def test_nothing_is_played_in_other_codecs_or_encrypted(media: str) -> None:
    with pytest.raises(NotAcceptable):
        negotiation.answer_for_playback(offer(media=media), **OURS)


def test_a_dynamic_payload_type_for_pcma_is_played_with() -> None:
    answer = negotiation.answer_for_playback(offer("a=rtpmap:110 pcma/8000", media="m=audio 4000 RTP/AVP 110"), **OURS)
    assert (answer.codec, answer.payload_type, answer.telephone_event) == ("PCMA", 110, None)


def test_an_offer_of_our_own() -> None:
    text = negotiation.offer_for_playback(codecs=["G722", "PCMA", "PCMU"], **OURS)
    assert [codec.name for codec in audio_of(text).codecs] == ["PCMA", "PCMU", "telephone-event"]


def test_what_was_agreed_limits_the_offer_to_the_next_leg() -> None:
    answer = negotiation.answer_for_playback(ALICE, **OURS).sdp
    limited = negotiation.agreed(ALICE, answer)
    assert [codec.payload_type for codec in audio_of(limited).codecs] == [0, 101]


# ---- sessions that go on -------------------------------------------------------------------------------------------


def test_after_a_take_over_the_same_is_offered_from_elsewhere() -> None:
    ours = negotiation.relay_offer(ALICE, **OURS)
    text = negotiation.moved(ours, address="203.0.113.5", port=30000, session_id=7, version=4)
    assert text == ours.replace("198.51.100.1", "203.0.113.5").replace(" 20000 ", " 30000 ").replace(" 7 3 ", " 7 4 ")


def test_the_version_grows_only_with_a_change() -> None:
    first = negotiation.relay_offer(ALICE, **OURS)
    same = negotiation.relay_offer(ALICE, **OURS | {"session_id": 99, "version": 99})
    assert negotiation.following(same, first) == first
    held = negotiation.following(negotiation.with_direction(same, "sendonly"), first)
    assert "o=FreeSWITCH 7 4 IN IP4 198.51.100.1\r\n" in held
    assert negotiation.following(first, "") == first


# ---- what is read --------------------------------------------------------------------------------------------------


def test_the_audio_of_an_offer() -> None:
    audio = audio_of(ALICE)
    assert (audio.host, audio.port, audio.rtcp_port, audio.ptime) == ("192.0.2.11", 49170, 49171, 20)
    assert [(codec.name, codec.rate) for codec in audio.codecs][:3] == [("opus", 48000), ("PCMU", 8000), ("PCMA", 8000)]
    assert audio.telephone_event == 97, "at the rate of the first codec"


def test_static_payload_types_need_no_map() -> None:
    assert [codec.name for codec in audio_of(offer(media="m=audio 4000 RTP/AVP 9 18 77")).codecs] == ["G722", "G729"]


def test_an_rtcp_port_of_its_own() -> None:
    assert audio_of(offer("a=rtcp:5555 IN IP4 192.0.2.99")).rtcp_port == 5555
    assert audio_of(offer("a=rtcp:nonsense")).rtcp_port == 49171


def test_a_description_that_begins_with_its_direction_can_still_be_held():
    """Seen by a mutant: nothing was left before its first stream."""
    odd = "a=sendrecv\r\nm=audio 54400 RTP/AVP 0\r\nc=IN IP4 203.0.113.1\r\n"
    held = negotiation.with_direction(odd, "sendonly")
    assert audio_of(held).direction == "sendonly"
