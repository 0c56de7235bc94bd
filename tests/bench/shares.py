"""Where the CPU time of a worker goes: to which part of the code.

py-spy looks from outside, a hundred times a second, which Python functions each running thread of the process is in. Unlike
a tracing profiler it slows little down, and what is called often does not look dearer than it is. A look counts for the
innermost function of our own: a call into C, a system call, or the standard library is charged to who called it; what has
no function of ours above the worker's main is the loop. A part's share is its looks of all.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tests.bench.figures import Figure

RATE = 100
"Looks a second."
PARTS = {
    "node/sip/message.py": "parser",
    "node/sip/fields.py": "parser",
    "node/sip/grammar.py": "parser",
    "node/sip/names.py": "parser",
    "node/sip/uri.py": "parser",
    "node/sip/compose.py": "answers",
    "node/sip/auth.py": "digest",
    "node/sip/keyring.py": "digest",
    "node/profiles/authenticator.py": "digest",
    "node/profiles/secrets.py": "digest",
    "node/profiles/screen.py": "digest",
    "node/profiles/access.py": "digest",
    "node/profiles/nat.py": "digest",
    "node/sip/admission.py": "transport",
    "node/sip/glance.py": "transport",
    "node/sip/": "transactions",
    "node/registrar/": "registrar",
    "node/profiles/": "registrar",
    "node/directory.py": "registrar",
    "node/calls/": "calls",
    "node/transport/": "transport",
    "node/worker.py": "loop",
    "node/log.py": "logging",
    "node/debug.py": "logging",
    "node/events.py": "logging",
    "node/": "rest",
    "store/": "store",
}
"Beginnings of paths, the first one that fits decides."
ASLEEP = ("Bell.wait ", "wait ", "Condition.wait ", "_PollLikeSelector.select ", "select ")
"How the innermost function of a thread is called that waits: py-spy does not tell all of them from those that run."
ORDER = (
    "parser",
    "answers",
    "transactions",
    "transport",
    "loop",
    "digest",
    "registrar",
    "calls",
    "store",
    "logging",
    "rest",
)


def watch(pid: int, seconds: int, output: Path) -> subprocess.Popen[bytes]:
    """Begin to look; ended when the process returned is."""
    program = str(Path(sys.executable).with_name("py-spy"))
    words = [program, "record", "--pid", str(pid), "--duration", str(seconds), "--rate", str(RATE)]
    words += ["--format", "raw", "--full-filenames", "--threads", "--output", str(output)]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shares(text: str) -> dict[str, float]:
    """By part, the share of the looks: lines of `outermost;...;innermost count`, as py-spy writes them."""
    looks: Counter[str] = Counter()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        if not stack.rpartition(";")[2].startswith(ASLEEP):
            looks[part_of_stack(stack)] += int(count)
    return {part: count / looks.total() for part, count in looks.items()}


def part_of_stack(stack: str) -> str:
    for frame in reversed(stack.split(";")):
        part = part_of(frame)
        if part:
            return part
    return "loop"


def part_of(frame: str) -> str:
    """The part that `function (/where/node/sip/message.py:12)` belongs to; `` if its callers decide."""
    path = frame.partition(" (")[2].rpartition(":")[0]
    if "/asyncio/" in path:
        return "loop"
    for start, part in PARTS.items():
        if f"/{start}" in path:
            return part
    return ""


def figures(prefix: str, found: Mapping[str, float], whole: float, what: str) -> list[Figure]:
    """One figure for each part: its share of the whole in per cent; the note says how many us that is."""
    return [
        Figure(f"{prefix}_share_{part}", "% of CPU", found[part] * 100, note=f"{found[part] * whole:.1f} us {what}")
        for part in ORDER
        if found.get(part, 0.0) >= 0.0005
    ]
