from __future__ import annotations

import struct
from array import array
from io import BytesIO
from math import pi, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.media import g711, wave
from node.media.errors import MediaError
from tests.node.media.spectrum import loudest, power


def sine(frequency: float, rate: int, seconds: float = 0.5) -> list[int]:
    return [int(10000 * sin(2 * pi * frequency * at / rate)) for at in range(int(rate * seconds))]


def file(
    data: bytes, *, encoding: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, before: bytes = b""
) -> bytes:
    form = struct.pack("<HHIIHH", encoding, channels, rate, rate * channels * bits // 8, channels * bits // 8, bits)
    return b"RIFF\0\0\0\0WAVE" + before + b"fmt \x10\0\0\0" + form + b"data" + struct.pack("<I", len(data)) + data


def read(data: bytes) -> list[int]:
    stream = BytesIO(data)
    return [sample for block in wave.read_samples(stream, wave.read_format(stream)) for sample in block]


def test_16_bit_at_8_khz_is_read_as_it_is() -> None:
    samples = sine(440, 8000)
    assert read(file(array("h", samples).tobytes())) == samples


@pytest.mark.parametrize(("encoding", "codec"), [(7, "PCMU"), (6, "PCMA")])
def test_u_law_and_a_law(encoding: int, codec: str) -> None:
    octets = bytes(range(256))
    assert read(file(octets, encoding=encoding, bits=8)) == list(g711.decode(octets, codec))  # type: ignore[arg-type]


def test_8_bit_is_unsigned() -> None:
    assert read(file(bytes([0, 128, 255]), bits=8)) == [-32768, 0, 32512]


def test_channels_are_mixed() -> None:
    assert read(file(struct.pack("<4h", 100, 300, -50, 50), channels=2)) == [200, 0]


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000, 6000])
def test_other_rates_keep_pitch_and_length(rate: int) -> None:
    samples = read(file(array("h", sine(600, rate)).tobytes(), rate=rate))
    assert len(samples) == pytest.approx(4000, abs=3)
    assert loudest(samples) == pytest.approx(600, abs=5)
    assert power(samples[:1600], 600) == pytest.approx(10000 / 32767, rel=0.1)


def test_unknown_chunks_are_skipped_and_extensible_is_understood() -> None:
    assert read(file(b"\x01\0\x02\0", before=b"LIST\x03\0\0\0abc\0")) == [1, 2]
    form = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 0, 1) + bytes(14)
    assert read(b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<I", len(form)) + form + b"data\x02\0\0\0\x07\0") == [7]


def test_a_file_cut_short_is_played_as_far_as_it_goes() -> None:
    assert read(file(b"\x01\0\x02\0")[:-1]) == [1]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"ID3" + bytes(40),
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEdata\2\0\0\0\1\0",
        file(b"", encoding=85),
        file(b"", rate=1),
        file(b"", channels=0),
        file(b"", bits=24),
    ],
)
def test_what_is_no_wav_file_we_know_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError):
        read(data)


@given(st.binary(max_size=60))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    for head in (b"RIFF\0\0\0\0WAVE", file(b"")[:-8]):
        try:
            read(head + data)
        except MediaError:
            pass
