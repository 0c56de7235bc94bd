"""One log file for all processes of a node."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

from node.log import LOT, level_of, lots

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


HURRIED = """
import logging, os, sys
from pathlib import Path
from node import log
log.setup(Path(sys.argv[1]), "INFO", "supervisor")
handler = log._installed()
for number in range(50):
    # As if a thread were just putting a line into the queue: nobody in the child will ever give this lock back.
    handler.queue._notempty.acquire()
    child = os.fork()
    if not child:
        logging.getLogger("node.test").error("child %d breaks before it has set anything up", number)
        log.close()
        os._exit(0)
    handler.queue._notempty.release()
    os.waitpid(child, 0)
logging.shutdown()
"""


def test_a_child_that_was_forked_while_a_line_was_being_queued_can_log(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", HURRIED, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "log" / "sofia-node.log").read_text()
    assert text.count("breaks before it has set anything up") == 50


CUT_SHORT = """
import logging, os, sys
from pathlib import Path
from node import log
log.setup(Path(sys.argv[1]), "INFO", "supervisor")
handler = log._installed()
if not os.fork():
    handler.queue._sem.acquire()  # a place in the queue, and then it is killed before it has sent
    os.kill(os.getpid(), 9)
os.wait()
logging.getLogger("node.test").info("the last word")
logging.shutdown()
assert not handler._receive_thread.is_alive()
"""


def test_a_child_killed_while_it_was_handing_over_does_not_hold_up_the_end(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CUT_SHORT, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "the last word" in (tmp_path / "log" / "sofia-node.log").read_text()


def test_the_levels_of_freeswitch_are_understood() -> None:
    assert [level_of(name) for name in ("debug", "info", "notice", "warning", "err", "crit")] == [
        "DEBUG",
        "INFO",
        "INFO",
        "WARNING",
        "ERROR",
        "CRITICAL",
    ]


LONG = """
import logging, os, sys
from pathlib import Path
from node import log
run = Path(sys.argv[1])
log.setup(run, "DEBUG", "supervisor")
if not os.fork():
    log.setup(run, "DEBUG", "worker")
    log.rename("internal#0")
    logger = logging.getLogger("node.test")
    logger.info("%s", "\\u00e4" * 100_000)
    logger.debug("a quiet line")
    logger.info("%d", "no number")
    logger.info("a surrogate \\udcff")
    log.close(30)
    os._exit(0)
os.wait()
logging.shutdown()
"""


def test_a_line_longer_than_a_lot_arrives_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LONG, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "log" / "sofia-node.log").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("[INFO] internal#0 node.test: " + "\u00e4" * 100_000)
    assert lines[1].endswith("[DEBUG] internal#0 node.test: a quiet line")
    assert lines[2].startswith("a line of node.test cannot be written: ")
    assert lines[3].endswith("a surrogate \\udcff")
    assert "a quiet line" not in done.stderr
    assert "a surrogate" in done.stderr


def test_lots_are_small_enough_to_be_written_in_one_piece() -> None:
    kept = [(number % 7 == 0, "\u20ac" * (number % 3000)) for number in range(3000)]
    made = list(lots(kept))
    assert all(len(pickle.dumps(lot)) + 4 < 4096 for lot in made)
    assert all(lines.decode() for _loud, lines in made)
    assert b"".join(lines for _loud, lines in made).decode() == "".join(text + "\n" for _loud, text in kept)
    assert len(made) < sum(len(text.encode()) for _loud, text in kept) / LOT * 2 + 1000


def test_what_has_no_room_is_counted_and_said(tmp_path: Path) -> None:
    code = LONG.replace('    logger.info("%s", ', '    log.MOST = 50; log.GATHER = 0.5\n    logger.info("%s", ')
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "3 lines of the log of internal#0 had no room" in (tmp_path / "log" / "sofia-node.log").read_text()
