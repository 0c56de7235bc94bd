"""Forking a child, and what becomes of it.

A child is forked from the small supervisor; what it runs is named by text (`node.worker:main`) and imported in the
child alone, so that the supervisor never holds an engine.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.link import Link

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)

ours_alone: set[int] = set()
"Descriptors of this process that no child may keep: what they stand for ends with the last who holds them."


class Ended(Protocol):
    def fileno(self) -> int: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class EntryPoints:
    """What the children run, as `module:function`; resolved in the child."""

    worker: str = "node.worker:main"
    media: str = "node.media.__main__:main"
    console: str = "node.console.server:main"


@dataclass(slots=True)
class Process:
    """A forked child as its parent sees it."""

    kind: str
    pid: int
    link: Link
    born: float
    status: int | None = field(default=None)
    "How it ended, as `os.waitstatus_to_exitcode` says it; None while it lives."

    def reap(self) -> bool:
        """Whether it has ended; collects its status."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.status = 0
                return True
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def waited(self) -> float:
        """Seconds that its loop has been ready to run and was not let, since its birth; 0 where the kernel does not say."""
        try:
            with open(f"/proc/{self.pid}/schedstat") as file:
                return int(file.read().split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0

    def kill(self) -> None:
        if not self.reap():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    @property
    def fate(self) -> str:
        if self.status is None:
            return "is alive"
        if self.status < 0:
            return f"was killed by {signal.Signals(-self.status).name}"
        return f"exited with status {self.status}"


def fork(kind: str, main: Callable[[Link], None], now: float, *, guard: bool = True) -> Process:
    """Fork a child that runs `main` with its end of a new link. `guard`: it is killed when its parent dies.

    Raises OSError where there is no room for one more process.
    """
    ours, theirs = Link.pair()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid:
        theirs.close()
        return Process(kind, pid, ours, now)
    status = 70
    try:
        _be_child(kind, theirs.fileno(), parent if guard else 0)
        main(theirs)
        status = 0
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 1
    except BaseException:
        log.exception("%s broke", kind)
    finally:
        with contextlib.suppress(Exception):
            _flush()
        os._exit(status)


def call(entry: str, *arguments: Any) -> Callable[[Link], None]:
    """A child's main that imports `module:function` in the child and calls it with the link and these arguments."""

    def main(link: Link) -> None:
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(link, *arguments)

    return main


def _be_child(kind: str, keep: int, parent: int) -> None:
    """Drop everything that was the parent's: signals, priority, sockets (a kept link would hide the parent's end)."""
    # The parent's garbage is not ours to collect: it would close descriptors whose numbers are by then something else's.
    gc.freeze()
    # It may be off for as long as a configuration is read.
    gc.enable()
    _own_streams()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Ctrl-C, a lost terminal and systemd's stop reach every process of the node; the supervisor then tells its
        # children what to do, in order.
        signal.signal(number, signal.SIG_IGN)
    if parent:
        _die_with(parent)
    _libc.prctl(PR_SET_NAME, kind.encode()[:15], 0, 0, 0)
    close_inherited(keep)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def begin_session(parent: int) -> None:
    """For a child that becomes another program: signals as programs expect them, a group of its own, no longer than us."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    _die_with(parent)
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, 0)


def _die_with(parent: int) -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _own_streams() -> None:
    """Streams of its own on the same descriptors.

    What waits in the parent's is the parent's to write. It is not flushed before the fork: a thread may be writing the log
    there, to somebody who does not read, and the supervisor waits for nobody.
    """
    with contextlib.suppress(OSError):  # a daemon may have neither
        sys.stdout = open(1, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115


def close_inherited(keep: int) -> None:
    """Close every socket and every epoll of the parent but one, and what is its alone. Pipes stay: the log goes through one."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor <= 2 or descriptor == keep:
            continue
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if (
                descriptor in ours_alone
                or stat.S_ISSOCK(mode)
                or os.readlink(f"/proc/self/fd/{name}").startswith("anon_inode:[eventpoll]")
            ):
                os.close(descriptor)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    # Only where the child has set up logging; importing it here would be too late to matter.
    node_log = sys.modules.get("node.log")
    if node_log is not None:
        node_log.close()


def be_urgent() -> None:
    """Best effort: this process goes first, what it forks does not inherit that."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


@dataclass(slots=True)
class Backoff:
    """How long to wait before a child that keeps dying is started again."""

    first: float = 0.1
    longest: float = 10.0
    healthy: float = 10.0
    "A child that lived for so long is forgiven everything."
    delay: float = 0.0
    until: float = 0.0

    def ended(self, lived: float, now: float) -> float:
        """A child ended after so many seconds; returns how long to wait."""
        if lived >= self.healthy:
            self.delay = 0.0
        wait = self.delay
        self.delay = min(self.longest, max(self.first, 2 * self.delay))
        self.until = now + wait
        return wait
