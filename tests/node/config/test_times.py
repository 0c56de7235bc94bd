from datetime import datetime

import pytest

from node.config.times import TimeTest

CASES = [
    ("hour", "9-17", "2026-03-04 17:59:59", True),
    ("hour", "9-17", "2026-03-04 18:00:00", False),
    ("hour", "18-8", "2026-03-04 02:00:00", True),
    ("hour", "18-8", "2026-03-04 12:00:00", False),
    ("wday", "1", "2026-03-01 12:00:00", True),
    ("wday", "mon-fri", "2026-03-04 12:00:00", True),
    ("wday", "sat-mon", "2026-03-01 12:00:00", True),
    ("wday", "sat-mon", "2026-03-04 12:00:00", False),
    ("mon", "1,3,5-7", "2026-03-04 12:00:00", True),
    ("mon", "1,5-7", "2026-03-04 12:00:00", False),
    ("mday", "4", "2026-03-04 12:00:00", True),
    ("yday", "63", "2026-03-04 12:00:00", True),
    ("year", "2026", "2026-03-04 12:00:00", True),
    ("mweek", "1", "2026-03-07 12:00:00", True),
    ("mweek", "2", "2026-03-08 12:00:00", True),
    ("minute", "30-59", "2026-03-04 12:30:00", True),
    ("minute-of-day", "1", "2026-03-04 00:00:00", True),
    ("time-of-day", "08:00-17:59", "2026-03-04 17:59:00", True),
    ("time-of-day", "08:00-17:59:59", "2026-03-04 18:00:00", False),
    ("time-of-day", "22:00-06:00", "2026-03-04 23:30:00", True),
    ("time-of-day", "22:00-06:00,12:00-13:00", "2026-03-04 12:30:00", True),
    ("date-time", "2026-01-01 00:00:00~2026-01-31 23:59:59", "2026-01-31 23:59:59", True),
    ("date-time", "2026-01-01 00:00:00~2026-01-31 23:59:59", "2026-02-01 00:00:00", False),
]


@pytest.mark.parametrize(("attribute", "text", "moment", "passes"), CASES)
def test_a_time_attribute(attribute: str, text: str, moment: str, passes: bool) -> None:
    assert TimeTest.parse(attribute, text).passes(datetime.fromisoformat(moment)) is passes


@pytest.mark.parametrize(
    ("attribute", "text"),
    [("hour", "24"), ("wday", "8"), ("wday", "someday"), ("mon", ""), ("time-of-day", "8-17"), ("date-time", "soon")],
)
def test_a_time_that_is_none_is_refused(attribute: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        TimeTest.parse(attribute, text)
