from __future__ import annotations

import itertools

import pytest

from node.calls import bridge
from node.calls.bridge import OfferStep, OfferView


def test_every_view_of_an_offer_has_its_step() -> None:
    for flags in itertools.product((False, True), repeat=4):
        view = OfferView(*flags)
        step = bridge.judge_offer(view)
        if view.theirs_pending:
            assert step is OfferStep.TOO_SOON
        elif view.ours_pending or (view.bridged and view.partner_pending):
            assert step is OfferStep.GLARE
        else:
            assert step is (OfferStep.RELAY if view.bridged else OfferStep.ANSWER)


@pytest.mark.parametrize(
    ("cause", "variables", "goes_on"),
    [
        ("NO_ANSWER", {}, True),
        ("ORIGINATOR_CANCEL", {}, True),
        ("USER_BUSY", {}, False),
        ("USER_BUSY", {"continue_on_fail": "true"}, True),
        ("USER_BUSY", {"continue_on_fail": "17,NO_ROUTE_DESTINATION"}, True),
        ("CALL_REJECTED", {"continue_on_fail": "USER_BUSY"}, False),
        ("CALL_REJECTED", {"failure_causes": "USER_BUSY"}, True),
        ("USER_BUSY", {"failure_causes": "USER_BUSY"}, False),
        ("ATTENDED_TRANSFER", {"continue_on_fail": "true"}, False),
    ],
)
def test_whether_the_dialplan_goes_on_when_nobody_was_reached(
    cause: str, variables: dict[str, str], goes_on: bool
) -> None:
    assert bridge.goes_on_after_failure(cause, variables) is goes_on


@pytest.mark.parametrize(("word", "goes_on"), [("", True), ("true", False), ("explicit", False), ("false", True)])
def test_whether_the_dialplan_goes_on_after_the_talk(word: str, goes_on: bool) -> None:
    assert bridge.goes_on_after_bridge({"hangup_after_bridge": word} if word else {}) is goes_on


def test_hold_is_told_by_direction_or_by_no_address() -> None:
    assert bridge.held_by("sendonly", "192.0.2.1")
    assert bridge.held_by("inactive", "192.0.2.1")
    assert bridge.held_by("sendrecv", "0.0.0.0")
    assert not bridge.held_by("sendrecv", "192.0.2.1")
    assert not bridge.held_by("recvonly", "192.0.2.1")
