"""What a driver's refusal means to us: by its SQLSTATE, and by the server's own number where that says more."""

from __future__ import annotations

import re

from store.errors import Busy, Crosswise, Damaged, Full, ReadOnly, Refused, StoreError, Unavailable

Kind = tuple[type[StoreError], str]

STATES: dict[str, Kind] = {
    "25006": (ReadOnly, "it is read-only"),
    "40001": (Crosswise, "others were in the way"),
    "40P01": (Crosswise, "others were in the way"),
    "53100": (Full, "the disk is full"),
    "55P03": (Crosswise, "others kept it locked"),
    "57014": (Busy, "it took too long"),
    "IM002": (Unavailable, "the data source or its driver is not known to unixODBC"),
    "IM003": (Unavailable, "its ODBC driver cannot be loaded"),
    "01000": (Unavailable, "its ODBC driver cannot be loaded"),
    "42501": (Unavailable, "not allowed"),
    "42P01": (Unavailable, "its tables are gone"),
    "42S02": (Unavailable, "its tables are gone"),
    "XX001": (Damaged, "it is damaged"),
    "XX002": (Damaged, "it is damaged"),
}
CLASSES: dict[str, Kind] = {
    "08": (Unavailable, "no connection"),
    "22": (Refused, "not acceptable"),
    "23": (Refused, "not acceptable"),
    "28": (Unavailable, "it does not let us in"),
    "53": (Unavailable, "it has no room for us"),
    "57": (Unavailable, "it shuts down, or starts"),
}
MARIADB: dict[int, Kind] = {
    1021: (Full, "the disk is full"),
    1114: (Full, "the disk is full"),
    1205: (Busy, "others kept it locked"),
    1213: (Crosswise, "others were in the way"),
    1290: (ReadOnly, "it is read-only"),
    1836: (ReadOnly, "it is read-only"),
    1792: (ReadOnly, "it is read-only"),
    1969: (Busy, "it took too long"),
    1264: (Refused, "not acceptable"),
    1366: (Refused, "not acceptable"),
    1406: (Refused, "not acceptable"),
}
SQLITE: dict[int, Kind] = {
    5: (Busy, "others kept it locked"),
    6: (Busy, "others kept it locked"),
    8: (ReadOnly, "it is read-only"),
    11: (Damaged, "the file is damaged"),
    13: (Full, "the disk is full"),
    18: (Refused, "too big"),
    19: (Refused, "not acceptable"),
    26: (Damaged, "the file is no SQLite database"),
}
NUMBERS = {"MariaDB": MARIADB, "SQLite": SQLITE}

_NUMBER = re.compile(r"\((\d+)\)")
_NO_ROOM = re.compile(r"\b(?:Errcode: 28|[Ee]rror 28|No space left on device)\b")
"The system's own word, in whichever of the server's complaints it comes."


def refusal(place: str, server: str, state: str, text: str) -> StoreError:
    """Ours for what the driver said."""
    kind, meaning = _kind(server, state, text)
    return kind(f"{place}: {meaning + ' ' if meaning else ''}({text.strip()})")


def _kind(server: str, state: str, text: str) -> Kind:
    """Anything unheard of counts as a store that is not well: the same write may be sent again."""
    if _NO_ROOM.search(text):
        return STATES["53100"]
    numbers = NUMBERS.get(server, {})
    for number in _NUMBER.findall(text):
        if int(number) in numbers:
            return numbers[int(number)]
    return STATES.get(state) or CLASSES.get(state[:2]) or (Unavailable, "")
