"""Operators' programs at a change of role: each a child in a session of its own, watched by the supervisor's loop.

Nothing here waits. What a hook says goes into the log line by line; one that takes too long is killed with all that it
has started, and its moment goes on without it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ha.loop import Alarm, Loop
from ha.process import begin_session, close_inherited, ours_alone
from node.config.hooks import Hook, Moment

log = logging.getLogger(__name__)

TALKATIVE = 8192
"Bytes that a hook may say; the rest is read slowly, and dropped."
LONGEST_LINE = 1000
SIPS = 0.05
"Seconds between two readings of one that says too much."
CANNOT_RUN = 127
"Exit status where a program could not be started, as the shell has it."

Result = Literal["ok", "failed", "timeout", "ended"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one hook."""

    hook: Hook
    result: Result
    "`ended`: by this node, since the role went another way."
    status: int | None
    "As `os.waitstatus_to_exitcode` says it; None where nobody waited for it."
    seconds: float

    def __str__(self) -> str:
        match self.result, self.status:
            case "failed", int(status) if status < 0:
                how = f"was killed by {signal.Signals(-status).name}"
            case "failed", _:
                how = f"failed with status {self.status}"
            case "timeout", _:
                how = f"took longer than {self.hook.timeout} ms and was killed"
            case "ended", _:
                how = "was ended: the role has gone another way"
            case _:
                how = "is done"
        return f"hook {self.hook.moment} {self.hook.command[0]} {how} after {self.seconds:.2f} s"


class HookRun:
    """One child."""

    def __init__(
        self, loop: Loop, hook: Hook, environment: Mapping[str, str], then: Callable[[Outcome], object]
    ) -> None:
        self.hook = hook
        self._loop, self._then = loop, then
        self._began = loop.now()
        self._said, self._line = 0, b""
        self._over = False
        self._pid, self._output = _start(hook.command, environment)
        self._alarms = [loop.after(hook.timeout / 1000, lambda: self.end("timeout"))]
        self._pipe = _Pipe(self._output)
        loop.watch(self._pipe, self._on_readable)

    def look(self) -> None:
        """After SIGCHLD."""
        if self._over:
            return
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            self._settle("failed" if code else "ok", code)

    def end(self, result: Result = "ended") -> None:
        """Kill it with its whole group, and go on without it."""
        if self._over:
            return
        for kill in (os.killpg, os.kill):
            # It may not have come to have a group yet.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                kill(self._pid, signal.SIGKILL)
        reaping = self._loop.every(SIPS, lambda: self._reap(reaping))
        self._settle(result, None)

    def _reap(self, alarm: Alarm) -> None:
        with contextlib.suppress(ChildProcessError):
            if not os.waitpid(self._pid, os.WNOHANG)[0]:
                return
        alarm.cancel()

    def _settle(self, result: Result, status: int | None) -> None:
        self._over = True
        if self._output >= 0:
            self._drain()
        self._close()
        self._say(self._line)
        for alarm in self._alarms:
            alarm.cancel()
        self._then(Outcome(self.hook, result, status, self._loop.now() - self._began))

    # ---- what it says ----------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        if self._drain() and self._said > TALKATIVE and not self._over:
            self._loop.forget(self._pipe)
            self._alarms.append(self._loop.every(SIPS, self._drain))
            log.warning("hook %s says too much, the rest is left out", self.hook.moment)

    def _drain(self) -> bool:
        """Take what waits, as much as a pipe holds; False at the end."""
        if self._output < 0:
            return False
        try:
            data = os.read(self._output, TALKATIVE)
        except BlockingIOError:
            return True
        if not data:
            self._close()
            return False
        if self._said <= TALKATIVE:
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                self._say(line)
        self._said += len(data)
        return True

    def _say(self, line: bytes) -> None:
        if text := line.decode(errors="backslashreplace").rstrip()[:LONGEST_LINE]:
            log.info("hook %s says: %s", self.hook.moment, text)

    def _close(self) -> None:
        if self._output >= 0:
            self._loop.forget(self._pipe)
            ours_alone.discard(self._output)
            os.close(self._output)
            self._output = -1


@dataclass(frozen=True, slots=True)
class _Pipe:
    """A descriptor as a loop watches it."""

    descriptor: int

    def fileno(self) -> int:
        return self.descriptor


@dataclass(slots=True, eq=False)
class Turn:
    """The hooks of one moment, one after the other."""

    moment: Moment
    waiting: list[Hook]
    environment: Mapping[str, str]
    then: Callable[[list[Outcome]], object]
    outcomes: list[Outcome]


class Hooks:
    """Runs the hooks of each moment in order. What is left of the other direction makes way."""

    def __init__(self, loop: Loop, on_outcome: Callable[[Outcome, Mapping[str, str]], object]) -> None:
        self._loop, self._on_outcome = loop, on_outcome
        self._turns: list[Turn] = []
        self._run: HookRun | None = None

    @property
    def busy(self) -> bool:
        return bool(self._turns)

    def begin(
        self,
        moment: Moment,
        hooks: Sequence[Hook],
        environment: Mapping[str, str],
        then: Callable[[list[Outcome]], object] = lambda outcomes: None,
    ) -> None:
        """Run those of this moment after what runs already; `then` gets their outcomes, never before `begin` returns."""
        self.end(keep=moment.rpartition("-")[2])
        mine = [hook for hook in hooks if hook.moment == moment]
        self._turns.append(Turn(moment, mine, {**environment, "SOFIA_HOOK": moment}, then, []))
        if self._run is None:
            self._loop.after(0, self._next)

    def look(self) -> None:
        """After SIGCHLD."""
        if self._run is not None:
            self._run.look()

    def end(self, keep: str = "") -> None:
        """End what runs and forget what waits, but for those before and after `keep` (promote, demote); nobody is told."""
        gone = [turn for turn in self._turns if not (keep and turn.moment.endswith(keep))]
        self._turns = [turn for turn in self._turns if turn not in gone]
        for turn in gone:
            turn.waiting.clear()
            turn.then = lambda outcomes: None
        if self._run is not None and not (keep and self._run.hook.moment.endswith(keep)):
            self._run.end()

    def _next(self) -> None:
        if self._run is not None:
            return
        while self._turns:
            turn = self._turns[0]
            if turn.waiting:
                self._start(turn, turn.waiting.pop(0))
                return
            self._turns.remove(turn)
            turn.then(turn.outcomes)

    def _start(self, turn: Turn, hook: Hook) -> None:
        def ended(outcome: Outcome) -> None:
            self._run = None
            turn.outcomes.append(outcome)
            if outcome.result != "ok" and hook.on_failure == "abort":
                turn.waiting.clear()
            level = logging.INFO if outcome.result in ("ok", "ended") else logging.ERROR
            log.log(level, "%s", outcome)
            self._on_outcome(outcome, turn.environment)
            self._loop.after(0, self._next)

        try:
            self._run = HookRun(self._loop, hook, turn.environment, ended)
        except OSError as error:
            # Out of processes or descriptors: a promotion that waited for it would hold the lease for ever.
            log.error("hook %s %s cannot be started: %s", hook.moment, hook.command[0], error)
            ended(Outcome(hook, "failed", CANNOT_RUN, 0.0))


def _start(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int]:
    """Its pid, and where to read what it says. By a fork of our own: to wait for its exec, as the library does, could
    take as long as the disk that the program lies on. Raises OSError."""
    ours, theirs = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(ours)
        os.close(theirs)
        raise
    if pid:
        os.close(theirs)
        os.set_blocking(ours, False)
        # In a worker it would outlive the hook: what that has left running would block on it, once it is full.
        ours_alone.add(ours)
        return pid, ours
    try:
        begin_session(parent)
        close_inherited(theirs)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, stream in ((nothing, 0), (theirs, 1), (theirs, 2)):
            os.dup2(descriptor, stream)
        os.chdir("/")
        os.execve(command[0], list(command), {**os.environ, **environment})
    except BaseException as error:
        os.write(theirs, f"it cannot be run: {error}\n".encode())
    finally:
        os._exit(CANNOT_RUN)
