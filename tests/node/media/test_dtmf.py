from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.media.dtmf import Recogniser
from node.media.rtp import Packet


def event(code: int, timestamp: int, duration: int, *, end: bool = False, payload_type: int = 101) -> bytes:
    payload = bytes([code, 0x8A if end else 0x0A]) + duration.to_bytes(2, "big")
    return bytes(Packet(payload_type, 1, timestamp, 1, payload))


def digits(packets: list[bytes]) -> list[tuple[str, int]]:
    recogniser = Recogniser(101)
    return [digit for packet in packets for digit in recogniser.feed(packet)]


def test_a_digit_is_given_once_when_it_ends() -> None:
    packets = [event(1, 160, 160), event(1, 160, 320), *[event(1, 160, 800, end=True)] * 3]
    assert digits(packets) == [("1", 100)]


def test_the_same_digit_twice_is_two_digits() -> None:
    assert digits([event(9, 160, 800, end=True), event(9, 2000, 800, end=True)]) == [("9", 100), ("9", 100)]


def test_a_digit_whose_end_was_lost_is_given_when_the_next_one_begins() -> None:
    assert digits([event(10, 160, 400), event(11, 2000, 160), event(11, 2000, 800, end=True)]) == [
        ("*", 50),
        ("#", 100),
    ]


def test_a_late_packet_of_a_digit_that_is_over_says_nothing() -> None:
    assert digits([event(1, 160, 800, end=True), event(1, 160, 400), event(1, 160, 800, end=True)]) == [("1", 100)]


def test_audio_other_payload_types_and_unknown_events_are_passed_over() -> None:
    assert (
        digits(
            [
                bytes(Packet(0, 1, 1, 1, b"\xff" * 160)),
                event(1, 1, 8, end=True, payload_type=96),
                event(99, 1, 8, end=True),
            ]
        )
        == []
    )


@given(st.binary(max_size=40))
def test_garbage_is_passed_over(data: bytes) -> None:
    Recogniser(101).feed(b"\x80\x65" + data)
