"""Why an offer cannot be taken."""

from __future__ import annotations

import pytest

from node.media.objection import warnings

HEAD = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
KEYS = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\r\n"


@pytest.mark.parametrize(
    ("media", "code"),
    [
        ("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "303"),
        ("m=audio 4000 RTP/SAVP 0\r\n", "303"),
        ("m=video 4000 RTP/AVP 96\r\n", "304"),
        ("m=audio 0 RTP/AVP 0\r\nm=image 4000 udptl t38\r\n", "304"),
    ],
)
def test_an_offer_that_nobody_could_take_is_objected_to(media: str, code: str) -> None:
    ((name, value),) = warnings(HEAD + media)
    assert name == "Warning"
    assert value.startswith(f'{code} sofia-node "')
    assert value.endswith('"')


@pytest.mark.parametrize(
    "offer",
    [
        HEAD + "m=audio 4000 RTP/AVP 0\r\n",
        HEAD + "m=audio 4000 RTP/SAVP 0\r\n" + KEYS,
        HEAD + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nm=audio 4000 RTP/AVP 0\r\n",
        "",
        "nothing of the kind",
    ],
)
def test_what_was_refused_for_another_reason_is_not(offer: str) -> None:
    assert warnings(offer) == []


def test_what_is_quoted_of_the_offer_cannot_end_the_quotes() -> None:
    ((_name, value),) = warnings(HEAD + 'm=audio 9 RTP/"\\ 0\r\n')
    assert '\\"\\\\' in value
