"""What a log does not show: passwords among variables, in a dial string that could not be read, and in a URL (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from node.sip.mask import shown

MASK = "***"

_PASSWORD = re.compile(r"(?i)(password=)('(?:\\.|[^'\\])*'?|(?:\\.|[^,\]}>\\])*)")
"Its separator and a quote may be escaped in a value."


_CREDENTIALS = re.compile(r"(?i)([a-z0-9+.-]://)[^\s@/?#:,\]}>]{0,256}(?::[^\s,\]}>]{0,1024})?@")
"Of a URL. What may be a port is taken for a password if an `@` follows: rather too little is shown."


def masked(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables, without those that name a password."""
    return {name: MASK if "password" in name.lower() else without_secrets(value) for name, value in variables.items()}


def without_secrets(text: str) -> str:
    """A dial string, or the name of something to be played, for one line of the log."""
    return shown(_CREDENTIALS.sub(rf"\1{MASK}@", _PASSWORD.sub(rf"\1{MASK}", text)))
