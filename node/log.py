"""Logging of every process of a node: one file, one writer.

The supervisor opens `log/sofia-node.log` and wraps its handler with multiprocessing-logging before it forks. A child
appends records to its queue; the supervisor's receiver thread formats and writes them, so no child waits for the disk.
"""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import multiprocessing
import os
import sys
from pathlib import Path

from multiprocessing_logging import MultiProcessingHandler, install_mp_handler

FORMAT = "%(asctime)s.%(msecs)03d [%(levelname)s] %(processName)s %(name)s: %(message)s"
DATES = "%Y-%m-%d %H:%M:%S"


class Sink(logging.Handler):
    """Writes each line to the file, and those of INFO and above to stderr as well."""

    def __init__(self, path: Path) -> None:
        # Reopened when logrotate has moved it away.
        self._file = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        self._stderr = logging.StreamHandler(sys.stderr)
        super().__init__()
        self.setFormatter(logging.Formatter(FORMAT, DATES))

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        super().setFormatter(fmt)
        self._file.setFormatter(fmt)
        self._stderr.setFormatter(fmt)

    def emit(self, record: logging.LogRecord) -> None:
        self._file.emit(record)
        if record.levelno >= logging.INFO:
            self._stderr.emit(record)

    def close(self) -> None:
        self._file.close()
        super().close()


class PipeLock:
    """The queue's write lock as a file lock.

    A semaphore stays taken when its holder is killed, and then no process of the node can log any more; the kernel
    gives a file lock back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)

    def reopened(self) -> PipeLock:
        """For a forked child: a lock belongs to the opened file, which it must therefore open itself."""
        return PipeLock(self._path)

    def acquire(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def release(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)


def setup(run_dir: Path, level: int | str, process_name: str) -> None:
    """Start logging in this process. In a forked child of a process that has called it, go on to the parent's file."""
    multiprocessing.current_process().name = process_name
    root = logging.getLogger()
    root.setLevel(level)
    logging.raiseExceptions = False
    installed = _installed()
    if installed is not None:
        _take_over(installed)
        return
    path = run_dir / "log" / "sofia-node.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    root.addHandler(Sink(path))
    install_mp_handler(root)
    handler = _installed()
    assert handler is not None, "multiprocessing-logging wraps the handler of the root logger"
    handler.queue._wlock = PipeLock(path.with_name(".lock"))


def close(within: float = 1.0) -> None:
    """Hand over what this process still has queued. Called last, by a child that leaves without `sys.exit`."""
    handler = _installed()
    if handler is None or handler._receive_thread.is_alive():
        return
    feeder = handler.queue._thread
    handler.queue.close()
    if feeder is not None:
        feeder.join(within)


def _installed() -> MultiProcessingHandler | None:
    for each in logging.getLogger().handlers:
        if isinstance(each, MultiProcessingHandler):
            return each
    return None


def _take_over(handler: MultiProcessingHandler) -> None:
    """Make the inherited queue fit for this process.

    `multiprocessing` does the first step for processes that it starts itself; after a bare fork the queue still names
    the parent's feeder thread, which is not here.
    """
    if handler._receive_thread.is_alive():
        return
    handler.queue._reset(after_fork=True)
    handler.queue._wlock = handler.queue._wlock.reopened()
    handler._is_closed = True


def level_of(name: str) -> str:
    """Python's level for a FreeSWITCH one (`switch.conf`, `loglevel`)."""
    known = {"debug": "DEBUG", "warning": "WARNING", "err": "ERROR", "error": "ERROR"}
    return known.get(name.lower(), "CRITICAL" if name.lower() in ("crit", "alert", "console") else "INFO")
