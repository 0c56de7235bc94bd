"""What is taken out of a message before it is shown, and what stays."""

from __future__ import annotations

import pytest

from node.sip.mask import masked, readable, shown

CASES = [
    ('Authorization: Digest username="u", response="5ec", nc=1', 'Authorization: Digest username="u", response="***", nc=1'),
    ('PROXY-AUTHORIZATION:digest response = 5ec,cnonce="c"', 'PROXY-AUTHORIZATION:digest response = "***",cnonce="***"'),
    ('Authorization : Digest a="b",\r\n response="5ec",\r\n\tcnonce="c"', 'Authorization : Digest a="b",\r\n response="***",\r\n\tcnonce="***"'),
    ('Authorization: Digest response="5\\"ec"', 'Authorization: Digest response="***"'),
    ('Authorization: Digest response="5ec', 'Authorization: Digest response="***"'),
    ("Authorization: Basic dTpw", "Authorization: Basic ***"),
    ("Authorization: Bearer abc", "Authorization: Bearer ***"),
    ("Authorization: dTpw", "Authorization: ***"),
    ('Authentication-Info: rspauth="5ec", nextnonce="n"', 'Authentication-Info: rspauth="***", nextnonce="n"'),
    ("Cookie: session=5ec", "Cookie: ***"),
    ("Contact: <sip:u:5ec@h:5060;transport=tcp>", "Contact: <sip:u:***@h:5060;transport=tcp>"),
    ("INVITE SIPS:u:5ec@h SIP/2.0", "INVITE SIPS:u:***@h SIP/2.0"),
    ("X: <sip:u@h;fs_path=sip%3Av%3A5ec%40h>", "X: <sip:u@h;fs_path=sip%3Av%3A***%40h>"),
    ("Refer-To: <sip:u@h?Authorization=Digest%20response%3D%225ec%22>", "Refer-To: <sip:u@h?Authorization=Digest%20response%3D%22***%22>"),
    ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:5ec|2^20|1:4;inline:5ec|2^20|2:4 UNENCRYPTED_SRTCP",
     "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***|2^20|1:4;inline:***|2^20|2:4 UNENCRYPTED_SRTCP"),
    ("k=base64:5ec", "k=base64:***"),
    ("a=key-mgmt:mikey 5ec", "a=key-mgmt:mikey***"),
    ("a=ice-pwd:5ec", "a=ice-pwd:***"),
]  # fmt: skip

UNTOUCHED = [
    'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"',
    "Contact: <sip:192.0.2.1:5060;fs_path=sip:u@h>",
    "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKresponse=1",
    "Route: <sip:192.0.2.1:5060;lr>, <sip:u@h>",
    "Subject: the response=42",
    "a=fingerprint:sha-256 AA:BB",
    "a=rtpmap:0 PCMU/8000",
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_a_secret_is_masked(text: str, expected: str) -> None:
    message = f"OPTIONS sip:h SIP/2.0\r\n{text}\r\nMax-Forwards: 70\r\n\r\n{text}\r\n"
    got = masked(message.encode()).decode()
    assert got == f"OPTIONS sip:h SIP/2.0\r\n{expected}\r\nMax-Forwards: 70\r\n\r\n{expected}\r\n"
    assert "5ec" not in got


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(f"A: b\r\n{text}\r\n".encode()) == f"A: b\r\n{text}\r\n".encode()


def test_lines_may_end_with_a_bare_line_feed() -> None:
    message = b'OPTIONS sip:h SIP/2.0\nAuthorization: Digest response="5ec"\nAUTHORIZATION: Basic 5ec\nA: b\n'
    assert masked(message) == (
        b'OPTIONS sip:h SIP/2.0\nAuthorization: Digest response="***"\nAUTHORIZATION: Basic ***\nA: b\n'
    )


@pytest.mark.parametrize(
    "piece", [b"sip:a:", b"sip:", b"sip%3Aa%3A", b"response%3D", b'response="', b"inline:", b"k=", b"\r\n "]
)
def test_a_hostile_message_costs_little(piece: bytes) -> None:
    """Work that grew with the square of the length would take minutes here."""
    for head in (b"", b"Authorization: Digest ", b"a=crypto:"):
        masked(head + piece * (1_000_000 // len(piece)))


def test_what_would_do_something_to_a_terminal_is_shown() -> None:
    data = b"A: \x1b[31mred\x07\r\nB: \xff\xfe\r\nC: \xe2\x80\xae\x00 \xc2\x9b \xc3\xa4\t\rD\r\n"
    assert readable(data) == "A: \\x1b[31mred\\x07\nB: \\xff\\xfe\nC: \\u202e\\x00 \\x9b \xe4\t\\rD\n"


def test_a_name_from_a_message_stays_in_its_line() -> None:
    assert shown("sip:u:pw@h\n2026-01-01 forged \udcff") == "sip:u:***@h\\n2026-01-01 forged \\xff"
