"""Time-of-day attributes of conditions (`switch_xml_std_datetime_check`): parsed at load, asked at a moment."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
DAY = 86400


def _week_of_month(moment: datetime) -> int:
    """The week of the month, weeks beginning on Sunday as in FreeSWITCH."""
    first = (moment.replace(day=1).isoweekday()) % 7
    return (moment.day + first - 1) // 7 + 1


NUMBERS: dict[str, tuple[int, int, Callable[[datetime], int]]] = {
    "year": (0, 9999, lambda m: m.year),
    "yday": (1, 366, lambda m: m.timetuple().tm_yday),
    "mon": (1, 12, lambda m: m.month),
    "mday": (1, 31, lambda m: m.day),
    "week": (1, 53, lambda m: (m.timetuple().tm_yday + 6) // 7),
    "mweek": (1, 6, _week_of_month),
    "wday": (1, 7, lambda m: m.isoweekday() % 7 + 1),
    "hour": (0, 23, lambda m: m.hour),
    "minute": (0, 59, lambda m: m.minute),
    "minute-of-day": (1, 1440, lambda m: m.hour * 60 + m.minute + 1),
}
"The numeric attributes: lowest and highest value, and where the value is read."

ATTRIBUTES = (*NUMBERS, "time-of-day", "date-time")


@dataclass(frozen=True, slots=True)
class TimeTest:
    """One attribute: passes when the moment lies in one of the ranges (ends included; a reversed one wraps)."""

    attribute: str
    ranges: tuple[tuple[float, float], ...]

    @classmethod
    def parse(cls, attribute: str, text: str) -> TimeTest:
        """Raises ValueError with a sentence for the operator."""
        parts = [part.strip() for part in text.split(",")]
        if attribute == "date-time":
            return cls(attribute, tuple(_dates(part) for part in parts))
        if attribute == "time-of-day":
            return cls(attribute, tuple(_clock_range(part) for part in parts))
        return cls(attribute, tuple(_number_range(attribute, part) for part in parts))

    def passes(self, moment: datetime) -> bool:
        """Whether local time `moment` lies within."""
        if self.attribute == "date-time":
            value: float = _seconds(moment)
        elif self.attribute == "time-of-day":
            value = moment.hour * 3600 + moment.minute * 60 + moment.second
        else:
            value = NUMBERS[self.attribute][2](moment)
        return any(low <= value <= high if low <= high else value >= low or value <= high for low, high in self.ranges)


def _seconds(moment: datetime) -> float:
    """A number that grows with local time; its zero does not matter."""
    return moment.toordinal() * DAY + moment.hour * 3600 + moment.minute * 60 + moment.second


def _number_range(attribute: str, text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    first = _number(attribute, low)
    return first, _number(attribute, high) if dash else first


def _number(attribute: str, text: str) -> int:
    lowest, highest, _ = NUMBERS[attribute]
    word = text.strip().lower()
    if attribute == "wday" and word[:3] in WEEKDAYS:
        return WEEKDAYS.index(word[:3]) + 1
    if not word.isdecimal() or not lowest <= int(word) <= highest:
        raise ValueError(f"{attribute} must be {lowest} to {highest}, not {text.strip()!r}")
    return int(word)


def _clock_range(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    if not dash:
        raise ValueError(f"time-of-day must be a range such as 08:00-17:59, not {text!r}")
    return _clock(low), _clock(high)


def _clock(text: str) -> int:
    match = CLOCK.fullmatch(text.strip())
    if match is None or int(match[1]) > 24 or int(match[2]) > 59:
        raise ValueError(f"{text.strip()!r} is no time of day such as 08:00")
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)


def _dates(text: str) -> tuple[float, float]:
    low, tilde, high = text.partition("~")
    try:
        first, last = (
            datetime.fromisoformat(low.strip()),
            datetime.fromisoformat(high.strip() if tilde else low.strip()),
        )
    except ValueError as error:
        raise ValueError(f"{text!r} is no range of dates such as 2026-01-01 00:00:00~2026-01-31 23:59:59") from error
    return _seconds(first), _seconds(last)
