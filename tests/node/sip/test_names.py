"""One key for every spelling of a header field's name."""

from __future__ import annotations

import pytest

from node.sip import names
from node.sip.names import KEYS, Keys


@pytest.mark.parametrize("spelling", ["Call-ID", "call-id", "CALL-ID", "cAlL-iD", "i", "I", "Call-ID \t"])
def test_case_and_compact_forms_do_not_matter(spelling: str) -> None:
    assert KEYS[spelling] == "call-id"


def test_a_field_nobody_knows_has_its_name_in_lower_case_for_a_key() -> None:
    assert KEYS["X-Phone-Model"] == "x-phone-model"


@pytest.mark.parametrize("spelling", ["", " Via", "Via, To", "Vía", "a b", "Via:"])
def test_what_is_no_name_has_no_key(spelling: str) -> None:
    assert KEYS[spelling] == ""


def test_nobody_can_fill_the_memory_by_making_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "MOST_SPELLINGS", 10)
    keys = Keys()
    assert [keys[f"X-{number}"] for number in range(50)] == [f"x-{number}" for number in range(50)]
    assert keys["x" * (names.LONGEST + 1)] == "x" * (names.LONGEST + 1)
    assert len(keys) == 10
