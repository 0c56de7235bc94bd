"""Logging of every process of a node: one file, one writer.

The supervisor opens `log/sofia-node.log` and wraps its handler with multiprocessing-logging before it forks. A child
makes its lines at once and keeps them; a thread brings them in lots to the queue, and the supervisor's receiver thread
writes them. So no child waits for the disk or the pipe, and a line more costs little where many are written.
"""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import multiprocessing
import multiprocessing.queues
import os
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from multiprocessing_logging import MultiProcessingHandler, install_mp_handler

FORMAT = "%(asctime)s.%(msecs)03d [%(levelname)s] %(processName)s %(name)s: %(message)s"
DATES = "%Y-%m-%d %H:%M:%S"
GATHER = 0.02
"Seconds for which a child gathers lines before it hands them over."
LOT = 4000
"Bytes handed over at a time: with what is put around them less than PIPE_BUF, so that a killed child leaves no half lot."
MOST = 16 << 20
"Characters that may wait in a child; a supervisor that does not read must not fill its memory."

Lot = tuple[bool, bytes]
"Whether it goes to stderr as well, and lines."


class Lines(logging.Formatter):
    """The form of a line. The time is made once a second, not once a line."""

    def __init__(self) -> None:
        super().__init__(FORMAT, DATES)
        self._second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second[0]:
            self._second = second, time.strftime(datefmt or DATES, time.localtime(second))
        return self._second[1]


class Sink(logging.Handler):
    """Writes each line to the file, and those of INFO and above to stderr as well."""

    def __init__(self, path: Path) -> None:
        # Reopened when logrotate has moved it away.
        self._file = logging.handlers.WatchedFileHandler(path, encoding="utf-8", errors="backslashreplace")
        self._stderr = logging.StreamHandler(sys.stderr)
        super().__init__()
        self.setFormatter(Lines())

    def setFormatter(self, fmt: logging.Formatter | None) -> None:
        super().setFormatter(fmt)
        self._file.setFormatter(fmt)
        self._stderr.setFormatter(fmt)

    def emit(self, record: logging.LogRecord | Lot) -> None:
        """A record of this process, or a lot of another one."""
        if isinstance(record, tuple):
            self._write(*record)
            return
        self._file.emit(record)
        if record.levelno >= logging.INFO:
            self._stderr.emit(record)

    def _write(self, loud: bool, lines: bytes) -> None:
        text = lines.decode("utf-8", "backslashreplace")
        try:
            self._file.reopenIfNeeded()
            if self._file.stream is None:
                self._file.stream = self._file._open()
            self._file.stream.write(text)
            self._file.stream.flush()
            if loud:
                self._stderr.stream.write(text)
                self._stderr.stream.flush()
        except (OSError, ValueError):
            pass  # a full disk or a closed stderr must not end the writer

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


class Remainder:
    """How many lots are still to come, as the receiver asks before it ends.

    The queue counts places taken. A child that is killed between taking a place and sending has taken it for ever, and the
    receiver would wait in vain; so what is not in the pipe when it has been asked for some time is not counted.
    """

    PATIENCE = 3
    "Questions, each 0.2 s after the one before."

    def __init__(self, queue: multiprocessing.queues.Queue[Lot]) -> None:
        self._queue, self._counted, self._in_vain = queue, queue.qsize, 0

    def __call__(self) -> int:
        taken = self._counted()
        gone = taken and not self._queue._reader.poll() and not self._queue._buffer  # type: ignore[attr-defined]
        self._in_vain = self._in_vain + 1 if gone else 0
        return 0 if self._in_vain >= self.PATIENCE else taken


class Shipper(logging.Handler):
    """What a child logs by."""

    def __init__(self, handler: MultiProcessingHandler, lock: PipeLock) -> None:
        super().__init__()
        self.setFormatter(Lines())
        self._queue = handler.queue
        self._pipe_lock = lock
        self._kept: list[tuple[bool, str]] = []
        self._size = 0
        self._lost = 0
        "Lines that had no room."
        self._gone = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # As `logging` has it: a line that cannot be made must not break who logs it.
            line = f"a line of {record.name} cannot be written: {error}"
        if self._size >= MOST or self._gone:
            self._lost += 1
            return
        self._size += len(line)
        self._kept.append((record.levelno >= logging.INFO, line))
        if len(self._kept) == 1:
            self._wake.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._carry, name="log", daemon=True)
                self._thread.start()

    def finish(self, within: float) -> None:
        """Hand over what is kept, as far as that is possible in so many seconds."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(within)

    def _carry(self) -> None:
        try:
            while not self._closing.is_set() or self._kept:
                self._wake.wait()
                self._wake.clear()
                self._closing.wait(GATHER)
                self._send(self._take())
        except OSError:
            self._gone = True  # the supervisor does not hear any more

    def _take(self) -> list[tuple[bool, str]]:
        self.acquire()
        try:
            kept, self._kept, self._size = self._kept, [], 0
            lost, self._lost = self._lost, 0
        finally:
            self.release()
        if lost:
            kept.append((True, f"{lost} lines of the log of {multiprocessing.current_process().name} had no room"))
        return kept

    def _send(self, kept: list[tuple[bool, str]]) -> None:
        self._pipe_lock.acquire()
        try:
            for lot in lots(kept):
                # As the queue's own feeder does it: who gets a lot gives the place back.
                self._queue._sem.acquire()
                self._queue._writer.send_bytes(ForkingPickler.dumps(lot))
        finally:
            self._pipe_lock.release()


def lots(kept: list[tuple[bool, str]]) -> Iterator[Lot]:
    """The lines joined as far as they go the same way and fit; a longer one in pieces."""
    gathered, loud = b"", False
    for each_loud, text in kept:
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        if gathered and (each_loud is not loud or len(gathered) + len(line) > LOT):
            yield loud, gathered
            gathered = b""
        gathered, loud = gathered + line, each_loud
        while len(gathered) > LOT:
            end = LOT
            while gathered[end] & 0xC0 == 0x80:  # not inside a character
                end -= 1
            yield loud, gathered[:end]
            gathered = gathered[end:]
    if gathered:
        yield loud, gathered


def setup(run_dir: Path, level: int | str, process_name: str) -> None:
    """Start logging in this process. In a forked child of a process that has called it, go on to the parent's file."""
    multiprocessing.current_process().name = process_name
    root = logging.getLogger()
    root.setLevel(level)
    logging.raiseExceptions = False
    if _shipper() is not None:
        return
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
    handler.queue.qsize = Remainder(handler.queue)
    # At once, not when a child comes to its own `setup`: the queue's locks may have been held by a thread when it was forked.
    os.register_at_fork(after_in_child=_on_fork)


def rename(process_name: str) -> None:
    """Be called so in the lines from now on."""
    multiprocessing.current_process().name = process_name


def close(within: float = 1.0) -> None:
    """Hand over what this process still keeps. Called last, by a child that leaves without `sys.exit`."""
    shipper = _shipper()
    if shipper is not None:
        shipper.finish(within)


def _installed() -> MultiProcessingHandler | None:
    for each in logging.getLogger().handlers:
        if isinstance(each, MultiProcessingHandler):
            return each
    return None


def _shipper() -> Shipper | None:
    return next((each for each in logging.getLogger().handlers if isinstance(each, Shipper)), None)


def _on_fork() -> None:
    handler = _installed()
    if handler is not None:
        _take_over(handler)


def _take_over(handler: MultiProcessingHandler) -> None:
    """In a forked child: the parent's handler, whose thread is not here, gives way to one that brings lines to it."""
    if handler._receive_thread.is_alive():
        return
    # It stays behind without a duty: its end must not wait for a thread that is not here.
    handler._is_closed = True
    root = logging.getLogger()
    root.removeHandler(handler)
    root.addHandler(Shipper(handler, handler.queue._wlock.reopened()))


def level_of(name: str) -> str:
    """Python's level for a FreeSWITCH one (`switch.conf`, `loglevel`)."""
    known = {"debug": "DEBUG", "warning": "WARNING", "err": "ERROR", "error": "ERROR"}
    return known.get(name.lower(), "CRITICAL" if name.lower() in ("crit", "alert", "console") else "INFO")
