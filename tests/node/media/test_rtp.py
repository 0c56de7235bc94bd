from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.media.rtp import Packet, is_rtcp, is_rtp


def test_a_packet_is_read_as_it_was_written() -> None:
    packet = Packet(8, 65535, 4294967295, 0xDEADBEEF, b"sound", marker=True)
    assert Packet.parse(bytes(packet)) == packet


def test_contributing_sources_extension_and_padding_are_skipped() -> None:
    data = bytes([0xB1, 0]) + bytes(10) + b"csrc" + b"\xbe\xde\x00\x01exte" + b"sound" + b"\0\0\3"
    packet = Packet.parse(data)
    assert packet is not None
    assert packet.payload == b"sound"


def test_rtp_rtcp_stun_and_dtls_are_told_apart() -> None:
    rest = bytes(20)
    assert (is_rtp(b"\x80\x00" + rest), is_rtcp(b"\x80\x00" + rest)) == (True, False)
    assert (is_rtp(b"\x80\xc8" + rest), is_rtcp(b"\x80\xc8" + rest)) == (False, True)
    assert not is_rtp(b"\x00\x01" + rest)
    assert not is_rtp(b"\x16\xfe" + rest)
    assert not is_rtp(b"\x80\x00")


@given(st.binary(max_size=40))
def test_anything_is_read_or_passed_over(data: bytes) -> None:
    Packet.parse(data)
