"""How the rtpengines of a profile stand, for `sofia status profile`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def engine_lines(engines: Sequence[str], answers: Iterable[Any]) -> str:
    """One line an engine: whether it answers, and the sessions that our workers have there.

    `answers`: of each worker a list of address, whether it answers (None: not asked yet), sessions.
    """
    rows = [tuple(row) for answer in answers if isinstance(answer, list) for row in answer if len(row) == 3]
    lines = []
    for engine in engines:
        seen = [(answering, sessions) for address, answering, sessions in rows if address == engine]
        heard = {answering for answering, _sessions in seen}
        state = "UP" if True in heard else "DOWN" if False in heard else "UNKNOWN"
        count = sum(sessions for _answering, sessions in seen)
        lines.append(f"{'MEDIA-ENGINE':<17}\trtpengine {engine} {state} ({count})\n")
    return "".join(lines)
