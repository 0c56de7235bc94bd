from __future__ import annotations

import pytest

from node.media import g711
from node.media.control import CodecName


@pytest.mark.parametrize(
    ("codec", "code", "sample"),
    [
        ("PCMU", 0xFF, 0),
        ("PCMU", 0x80, 32124),
        ("PCMU", 0x00, -32124),
        ("PCMA", 0xD5, 8),
        ("PCMA", 0xAA, 32256),
        ("PCMA", 0x2A, -32256),
    ],
)
def test_codes_of_the_standard(codec: CodecName, code: int, sample: int) -> None:
    assert g711.decode(bytes([code]), codec)[0] == sample
    assert g711.decode(g711.encode([sample], codec), codec)[0] == sample


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_every_sample_gets_the_nearest_code(codec: CodecName) -> None:
    known = sorted(set(g711.values(codec)))
    samples = range(-32768, 32768, 37)
    for sample, decoded in zip(samples, g711.decode(g711.encode(samples, codec), codec), strict=True):
        assert abs(sample - decoded) == min(abs(sample - value) for value in known)
