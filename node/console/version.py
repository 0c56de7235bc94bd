"""What this node says when it is asked for its version: in the form that FreeSWITCH's clients parse."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

COMPATIBLE = "1.11.3"
"The FreeSWITCH whose words and formats this node speaks."


def _ours() -> str:
    try:
        return version("sofia-node")
    except PackageNotFoundError:
        return "unreleased"


OURS = _ours()
SHORT = COMPATIBLE
FULL = f"{COMPATIBLE}+sofia-node~{OURS}~64bit (sofia-node {OURS} 64bit)"
HUMAN = f"{COMPATIBLE} sofia-node {OURS} 64bit"
