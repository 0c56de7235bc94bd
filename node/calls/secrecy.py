"""What a log does not show: passwords among variables, and in a dial string that could not be read (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from node.sip.mask import shown

MASK = "***"

_PASSWORD = re.compile(r"(?i)(password=)('(?:\\.|[^'\\])*'?|(?:\\.|[^,\]}>\\])*)")
"Its separator and a quote may be escaped in a value."


def masked(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, without those that name a password."""
    return {name: MASK if "password" in name.lower() else without_secrets(value) for name, value in variables.items()}


def without_secrets(text: str) -> str:
    """A dial string for one line of the log."""
    return shown(_PASSWORD.sub(rf"\1{MASK}", text))
