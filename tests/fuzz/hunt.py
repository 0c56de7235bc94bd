"""Many mutants for one target; those that reach code that none has reached before are kept, and mutated again."""

from __future__ import annotations

import gc
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

from tests.fuzz import corpus, targets
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import Target

STALL = 0.1
"Seconds that no single message may take."
WATCHED = ("/node/sip/", "/node/media/")
EVERY = 16
"Which mutants are watched for new lines: watching costs some twenty times the reading."
KEPT = 2000
"Mutants kept at most."


_RUN = re.compile(rb"(.{1,80}?)\1{9,}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a hunt came to."""

    name: str
    seed: int
    mutants: int
    reached: int
    "Pairs of lines that follow one another."
    kept: int
    "Mutants that reached something new."
    slowest: float
    "Seconds of process time of the slowest one, the least of three tries."
    seconds: float
    grown: int
    "KiB of memory more than after the warm-up."

    def __str__(self) -> str:
        return (
            f"{self.name:13} seed {self.seed:<6} {self.mutants:9} mutants  {self.reached:5} line pairs  {self.kept:4} kept  "
            f"slowest {self.slowest * 1000:5.1f} ms  memory {self.grown:+6} KiB  {self.seconds:6.1f} s"
        )


def hunts() -> dict[str, tuple[Target, Sequence[bytes]]]:
    """Each target with what its mutants are made of."""
    parts = [
        line.partition(b": ")[2]
        for message in corpus.SAMPLES
        for line in message.split(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    ]
    pairs = [a + b for a, b in zip(corpus.MESSAGES, corpus.MESSAGES[1:], strict=False)]
    return {
        "message": (targets.message, corpus.MESSAGES),
        "transactions": (targets.Transactions(), corpus.MESSAGES),
        "fields": (targets.fields, parts),
        "description": (targets.description, [text.encode() for text in corpus.DESCRIPTIONS]),
        "credentials": (targets.credentials, [text.encode() for text in corpus.CREDENTIALS]),
        "stream": (targets.stream, pairs),
        "socket": (targets.socket, corpus.FRAMES),
        "glanced": (targets.glanced, corpus.MESSAGES),
        "shown": (targets.shown, corpus.MESSAGES),
    }


class Found(AssertionError):
    """A mutant that breaks a promise: shown with its long runs cut, and whole in `data`, for a test of its own."""

    def __init__(self, name: str, seed: int, number: int, data: bytes) -> None:
        shown = _RUN.sub(lambda run: run[1] + b"<%d times>" % (len(run[0]) // len(run[1])), data)
        super().__init__(f"{name}, seed {seed}, mutant {number}:\n{shown[:3000]!r}")
        self.data = data


def hunt(name: str, target: Target, material: Sequence[bytes], *, seed: int, mutants: int) -> Figures:
    """Throw so many at it. Raises Found at the first that breaks a promise or stalls."""
    mutator, watch = Mutator(material, seed), Watch()
    for data in material:
        watch.run(target, data)
    slowest, warm = 0.0, 0
    begun = time.process_time()
    for number in range(mutants):
        data = mutator.next()
        if number == mutants // 4:
            warm = resident()
        before = time.process_time()
        try:
            if number % EVERY:
                target(data)
            elif watch.run(target, data) and len(mutator.corpus) < len(material) + KEPT and len(data) < 8000:
                mutator.corpus.append(data)
        except Exception as error:
            raise Found(name, seed, number, data) from error
        took = time.process_time() - before
        if took > slowest:
            slowest = max(slowest, _again(target, data, took))
            if slowest > STALL:
                raise Found(name, seed, number, data) from TimeoutError(f"{slowest * 1000:.0f} ms")
    took = time.process_time() - begun
    kept = len(mutator.corpus) - len(material)
    return Figures(name, seed, mutants, len(watch.pairs), kept, slowest, took, resident() - warm)


def _again(target: Target, data: bytes, took: float) -> float:
    """The least of three tries: a collection or a busy machine is nobody's fault. Not watched."""
    for _ in range(3 if took > STALL / 20 else 1):
        before = time.process_time()
        target(data)
        took = min(took, time.process_time() - before)
    return took


class Watch:
    """Which lines of the code under test follow which."""

    def __init__(self) -> None:
        self.pairs: set[tuple[CodeType, int, int]] = set()
        self._new = False
        self._files: dict[str, bool] = {}

    def run(self, target: Target, data: bytes) -> bool:
        """Did it reach something new?"""
        self._new = False
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            target(data)
        finally:
            sys.settrace(before)
        return self._new

    def _enter(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        watched = self._files.get(name)
        if watched is None:
            watched = self._files[name] = any(part in name for part in WATCHED)
        if not watched:
            return None
        code, last, pairs = frame.f_code, 0, self.pairs

        def follow(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal last
            if event == "line":
                pair = (code, last, frame.f_lineno)
                if pair not in pairs:
                    pairs.add(pair)
                    self._new = True
                last = frame.f_lineno
            return follow

        return follow


def resident() -> int:
    """KiB this process holds, garbage collected."""
    gc.collect()
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))
