"""A database server of the tests' own: what PostgreSQL's and MariaDB's have in common."""

from __future__ import annotations

import atexit
import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyodbc

from tests.support.node import STRETCH
from tests.support.ports import free_port

LIMIT = 60.0 * STRETCH
"Seconds a server may take for what is asked of it."

USERS = ("postgres", "mysql", "nobody")


def unprivileged() -> str:
    """Who runs a server: these refuse to be root's."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(user for user in USERS if user in names)


class Database(ABC):
    """One server on a loopback port, in a directory that ends with it. Its faults: `kill`, `freeze`, `full`, `read_only`."""

    def __init__(self, room: str = "") -> None:
        """With `room`, as tmpfs(5) has it (`160m`), on a file system of its own, which can be full; that takes root."""
        self.user = unprivileged()
        # Not below pytest's own directory, which is for its user only; and a socket's path must be short.
        self.directory = Path(tempfile.mkdtemp(prefix="sofia-db-"))
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._mounted = bool(room)
        if room:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(self.directory)], check=True)
        if os.geteuid() == 0:
            shutil.chown(self.directory, self.user)
        self.prepare()
        self.start()

    @abstractmethod
    def prepare(self) -> None:
        """Make its files."""

    @abstractmethod
    def words(self) -> list[str]:
        """What runs it, in the foreground."""

    @abstractmethod
    def answers(self) -> bool: ...

    @abstractmethod
    def query(self, statement: str, database: str = "") -> str:
        """What its own client says, as its administrator, without headings."""

    @abstractmethod
    def dsn(self, database: str, host: str = "127.0.0.1", port: int | None = None) -> str: ...

    def start(self) -> None:
        """Start it, again too after `kill`; what the dead one left behind may take a moment to go."""
        deadline = time.monotonic() + LIMIT
        while True:
            with (self.directory / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    self.words(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", **self._owner
                )
            while self._process.poll() is None:
                if self.answers():
                    return
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.02)
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def stop(self) -> None:
        self.thaw()
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGQUIT if process == self.leader else signal.SIGTERM)
        self._reap()
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.directory)], check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """All of it, at once."""
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._reap()

    def freeze(self) -> None:
        """Alive for the kernel, dead for everybody else."""
        for process in self._processes():
            os.kill(process, signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Not a byte of room on its file system, which is its own (`room`). It may end of that; then it starts again."""
        assert self._mounted, "it shares its file system with everybody"
        filler = self.directory / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"x" * size)
        try:
            yield
        finally:
            filler.unlink()
            if self._process is None or self._process.poll() is not None:
                self._process = None
                self.start()

    @abstractmethod
    def read_only(self) -> contextlib.AbstractContextManager[None]:
        """It takes no writes from users that are not its administrators."""

    @abstractmethod
    def user_dsn(self, database: str, port: int | None = None) -> str:
        """As `dsn`, for a user who is no administrator."""

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-4000:]

    @property
    def leader(self) -> int:
        """The server's first process."""
        assert self._process is not None, "started"
        return self._process.pid

    @property
    def _owner(self) -> dict[str, Any]:
        """Whom its processes belong to. Not by `runuser`, which stops for good when what it runs is stopped."""
        return (
            {"user": self.user, "group": pwd.getpwnam(self.user).pw_gid, "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )

    def run(self, words: Sequence[str]) -> str:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, cwd="/", check=False, **self._owner)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def _processes(self) -> list[int]:
        """The leader and those below it, it first: it must not see them die and start others."""
        if self._process is None or self._process.poll() is not None:
            return []
        leader = self.leader
        return [leader, *_children(leader)]

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(LIMIT)
            self._process = None


def said(words: str, statements: str) -> str:
    """What a server answers to the last of these, a line a row, by a connection of its own."""
    pyodbc.pooling = False
    with contextlib.closing(pyodbc.connect(words, autocommit=True)) as connection:
        cursor = connection.execute(statements)
        rows = cursor.fetchall() if cursor.description else []
        while cursor.nextset():
            rows = cursor.fetchall() if cursor.description else []
        return "\n".join("|".join(map(str, row)) for row in rows)


def at_exit(database: Database) -> None:
    """Stop it when the run ends, and not in a process that was forked meanwhile."""
    mine = os.getpid()

    def stop() -> None:
        if os.getpid() == mine:
            database.stop()

    atexit.register(stop)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
