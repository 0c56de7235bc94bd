from __future__ import annotations

import pytest

from node.calls import causes


def test_every_cause_of_the_tables_has_a_number() -> None:
    assert set(causes.FROM_STATUS.values()) <= set(causes.NUMBERS)
    assert set(causes.TO_STATUS) <= set(causes.NUMBERS)
    assert len(causes.NAMES) == len(causes.NUMBERS)


@pytest.mark.parametrize(
    ("status", "cause"),
    [(486, "USER_BUSY"), (480, "NO_USER_RESPONSE"), (404, "UNALLOCATED_NUMBER"), (499, "NORMAL_UNSPECIFIED")],
)
def test_a_status_stands_for_a_cause(status: int, cause: str) -> None:
    assert causes.from_status(status) == cause


@pytest.mark.parametrize(
    ("cause", "status"),
    [("USER_BUSY", 486), ("NO_ANSWER", 480), ("USER_NOT_REGISTERED", 480), ("NO_ROUTE_DESTINATION", 404)],
)
def test_a_cause_is_answered_with_a_status(cause: str, status: int) -> None:
    assert causes.to_status(cause) == status


@pytest.mark.parametrize(
    ("cause", "header"),
    [
        ("NORMAL_CLEARING", 'Q.850;cause=16;text="NORMAL_CLEARING"'),
        ("USER_NOT_REGISTERED", 'SIP;cause=806;text="USER_NOT_REGISTERED"'),
        ("ORIGINATOR_CANCEL", 'SIP;cause=487;text="ORIGINATOR_CANCEL"'),
        ("LOSE_RACE", 'SIP;cause=200;text="Call completed elsewhere"'),
    ],
)
def test_the_reason_is_written_as_mod_sofia_writes_it(cause: str, header: str) -> None:
    assert causes.reason(cause) == header


def test_a_q850_reason_names_the_cause() -> None:
    assert causes.from_reason(['SIP;cause=486;text="Busy"', 'Q.850;cause=21;text="x"']) == "CALL_REJECTED"
    assert causes.from_reason(["SIP;cause=486"]) is None
    assert causes.from_reason([]) is None


def test_causes_are_known_by_name_and_number() -> None:
    assert causes.named("user_busy") == causes.named("17") == "USER_BUSY"
    assert causes.named("nonsense") is None
    assert causes.listed("USER_BUSY", "NO_ANSWER,17")
    assert not causes.listed("USER_BUSY", "NO_ANSWER")
