from __future__ import annotations

import pytest

from node.media.codecs import Codec, Preference, selected

PCMU, PCMA, OPUS = Codec(0, "PCMU"), Codec(8, "pcma"), Codec(96, "opus", 48000, 2)
EVENT, WIDE_EVENT = Codec(101, "telephone-event"), Codec(97, "telephone-event", 48000)


@pytest.mark.parametrize(
    ("text", "preference"),
    [
        ("PCMU", Preference("PCMU")),
        (" pcma@20i ", Preference("PCMA")),
        ("OPUS@48000h@20i@2c", Preference("OPUS", 48000)),
        ("mod_opus.OPUS@16000h", Preference("OPUS", 16000)),
        ("AMR~mode-set=7", Preference("AMR")),
    ],
)
def test_tokens_of_a_preference_list(text: str, preference: Preference) -> None:
    assert Preference.parse(text) == preference


def test_the_offer_gives_the_order_and_the_list_the_choice() -> None:
    offered = [OPUS, PCMU, PCMA, WIDE_EVENT, EVENT]
    assert selected(offered, ["PCMA", "PCMU"]) == [PCMU, PCMA, EVENT]
    assert selected(offered, ["PCMA", "PCMU"], greedy=True) == [PCMA, PCMU, EVENT]
    assert selected(offered, ["OPUS"]) == [OPUS, WIDE_EVENT]
    assert selected(offered, ["G729"]) == selected(offered, []) == offered
