"""What operators have switched, as a new worker hears it."""

from __future__ import annotations

from ha.switches import Switches


def said(*orders: str) -> list[str]:
    switches = Switches()
    for order in orders:
        verb, *words = order.split()
        switches.note(verb, words)
    return [" ".join((verb, *words)) for verb, words in switches.orders()]


def test_the_last_word_on_each_subject_counts():
    assert said("siptrace on internal", "siptrace on external", "siptrace off internal") == [
        "siptrace on external",
        "siptrace off internal",
    ]


def test_what_is_said_of_all_makes_what_was_said_of_one_void():
    assert said("siptrace on internal", "capture on internal", "siptrace off") == [
        "capture on internal",
        "siptrace off",
    ]
    assert said("loglevel nua 9", "loglevel all 3") == ["loglevel all 3"]


def test_one_may_differ_from_all():
    assert said("loglevel all 3", "loglevel nua 9") == ["loglevel all 3", "loglevel nua 9"]
    assert said("loglevel all 3", "loglevel nua 9", "loglevel nua 0") == ["loglevel all 3", "loglevel nua 0"]


def test_only_states_are_remembered():
    assert said("rescan internal", "hupall CAUSE", "tracelevel INFO", "debug on off", "siptrace") == [
        "tracelevel INFO",
        "debug on off",
    ]


def test_a_stopped_profile_begins_as_its_settings_say():
    switches = Switches()
    switches.note("siptrace", ["on", "internal"])
    switches.note("capture", ["on", "external"])
    switches.forget("internal")
    assert switches.orders() == [("capture", ["on", "external"])]
