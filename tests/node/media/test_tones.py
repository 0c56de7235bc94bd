from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.media import tones
from node.media.errors import MediaError
from node.media.tones import Script, Tone
from tests.node.media.spectrum import power


def test_a_ringing_tone() -> None:
    script = tones.parse_tones("%(2000,4000,440,480);loops=3")
    assert script == Script((Tone(2000, 4000, (440.0, 480.0)),), 3)


def test_settings_lists_and_digits() -> None:
    script = tones.parse_tones("v=-10;L=2;%(100,50,600);%(200,0,700);d=80;w=40;5")
    assert script.tones == (
        Tone(100, 50, (600.0,), -10.0),
        Tone(100, 50, (600.0,), -10.0),
        Tone(200, 0, (700.0,), -10.0),
        Tone(80, 40, (770.0, 1336.0), -10.0),
    )


def test_silence() -> None:
    assert tones.parse_silence("2000,1400") == Script((Tone(0, 2000, ()),))
    assert tones.parse_silence("-1").loops == tones.FOREVER


def test_both_frequencies_sound_and_no_other() -> None:
    samples = list(tones.samples((Tone(200, 100, (440.0, 480.0)),)))
    assert len(samples) == 2400
    loudness = {frequency: power(samples[:1600], frequency) for frequency in (440, 480, 700)}
    assert loudness[440] == pytest.approx(10 ** (-7 / 20) / 2, rel=0.1)
    assert loudness[480] == pytest.approx(loudness[440], rel=0.2)
    assert loudness[700] < 0.02
    assert set(samples[1600:]) == {0}


@pytest.mark.parametrize("text", ["", "loops=3", "%(1)", "%(x,y,z)", "%(100,0,440", "?", "%(0,0,440)"])
def test_what_is_no_script_is_refused(text: str) -> None:
    with pytest.raises(MediaError):
        tones.parse_tones(text)


@given(st.text(alphabet="%(),;=vLdw0123456789.-loops*#AD ", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (tones.parse_tones, tones.parse_silence):
        try:
            parse(text)
        except MediaError:
            pass
