"""One log file for all processes of a node."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from node.log import level_of

NODE = """
import logging, os, sys
from pathlib import Path
from node import log
run = Path(sys.argv[1])
log.setup(run, "INFO", "supervisor")
logging.getLogger("node.test").info("from the supervisor")
for number in range(3):
    if not os.fork():
        log.setup(run, "INFO", f"worker-{number}")
        for line in range(200):
            logging.getLogger("node.test").info("line %d of %d", line, number)
        if number == 0:
            os.kill(os.getpid(), 9)
        log.close()
        os._exit(0)
for _ in range(3):
    os.wait()
logging.getLogger("node.test").info("the last word")
logging.shutdown()
"""


def test_children_log_through_their_parent_and_a_killed_one_stops_nobody(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", NODE, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "log" / "sofia-node.log").read_text()
    for number in (1, 2):
        assert text.count(f"of {number}\n") == 200
        assert f"[INFO] worker-{number} node.test: line 199 of {number}" in text
    assert "[INFO] supervisor node.test: from the supervisor" in text
    assert "the last word" in text
    assert "the last word" in done.stderr


def test_the_levels_of_freeswitch_are_understood() -> None:
    assert [level_of(name) for name in ("debug", "info", "notice", "warning", "err", "crit")] == [
        "DEBUG",
        "INFO",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
    ]
