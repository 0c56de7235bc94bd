"""The preprocessor: `X-PRE-PROCESS` lines and `$${var}`, line by line, before anything is XML (`switch_xml.c`).

As in FreeSWITCH it does not know comments: a command inside one is carried out, and the rest of its line is lost.
Every line of the result remembers the file and line it came from. Variables given from outside (`--set`) win over
every line that sets them.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from node.config.complaints import Complaints, Place

DEPTH = 100
"Includes within includes, as FreeSWITCH allows them."
EXEC_LIMIT = 10.0
"Seconds a command of `exec` or `exec-set` may take."

COMMAND = re.compile(r"<X-PRE-PROCESS\b(?P<rest>(?:\"[^\"]*\"|[^\">])*)", re.IGNORECASE)
OLD_COMMAND = re.compile(r'<!--\s*#(?P<cmd>set|include|exec|exec-set|stun-set|env-set)\s+"(?P<argument>[^"]*)"')
ATTRIBUTE = re.compile(r'\b(cmd|data)\s*=\s*"([^"]*)"', re.IGNORECASE)
ASSIGNMENT = re.compile(r"\b(cmd|data)\s*=", re.IGNORECASE)
"Without either, somebody only writes about the tag, in a comment."
DROPPED = re.compile(r"</?include\s*>|<\?")
ELEMENT = re.compile(r"<(?!X-PRE-PROCESS|!--|/?include)[A-Za-z]", re.IGNORECASE)
WILDCARDS = frozenset("*?[")


@dataclass(slots=True)
class Preprocessed:
    """The whole tree as one text, and where each of its lines came from."""

    lines: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def add(self, line: str, place: Place) -> None:
        self.lines.append(line)
        self.places.append(place)


class Preprocessor:
    """One pass over the tree. `variables` is what `$${..}` finds, and grows by the `set` lines."""

    def __init__(
        self,
        complaints: Complaints,
        variables: dict[str, str],
        *,
        overrides: Mapping[str, str],
        resolve: Callable[[str], str],
        allow_exec: bool = False,
    ) -> None:
        """`resolve` turns `stun:server[:port]` or `host:name` into an address, or raises OSError."""
        self.variables = variables
        self.result = Preprocessed()
        self.named: set[str] = set()
        "Every variable that a line sets or asks for."
        self._complaints = complaints
        self._overrides = overrides
        self._resolve = resolve
        self._allow_exec = allow_exec
        self._open: list[Path] = []
        self.variables.update(overrides)

    def read(self, file: Path) -> Preprocessed:
        """Preprocess the root file with all that it includes. Raises OSError when it cannot be read."""
        self._file(file, file.read_text(encoding="utf-8", errors="replace"))
        return self.result

    def _file(self, file: Path, text: str) -> None:
        self._open.append(file)
        # As str.splitlines() would also split at form feeds and the like, numbers would differ from an editor's.
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
            self._line(line, Place(file, number))
        self._open.pop()

    def _line(self, line: str, place: Place) -> None:
        line = self.expand(line, place)
        command = COMMAND.search(line)
        if command is not None:
            attributes = {name.lower(): value for name, value in ATTRIBUTE.findall(command["rest"])}
            if ASSIGNMENT.search(command["rest"]):
                self._warn_of_loss(line, place)
                self._obey(attributes.get("cmd", "").lower(), attributes.get("data"), place)
            self.result.add("", place)
            return
        if "x-pre-process" in line.lower():
            # `XX-PRE-PROCESS` and the like: switched off. FreeSWITCH drops the line.
            line = ""
        old = OLD_COMMAND.search(line)
        if old is not None:
            self._obey(old["cmd"], old["argument"], place)
            line = ""
        self.result.add("" if DROPPED.search(line) else line, place)

    def _warn_of_loss(self, line: str, place: Place) -> None:
        around = COMMAND.sub("", line, count=1)
        if ELEMENT.search(around):
            self._complaints.warning(place, "what stands on the same line as X-PRE-PROCESS is dropped")

    # ---- variables ---------------------------------------------------------------------------------------------------

    def expand(self, line: str, place: Place) -> str:
        """Replace each `$${name}` by its value, once; an unknown name gives nothing."""
        if "$${" not in line:
            return line
        out: list[str] = []
        at = 0
        while (start := line.find("$${", at)) >= 0:
            end = _closing(line, start + 3)
            if end < 0:
                self._complaints.error(place, "unterminated $${..}: a } is missing")
                break
            name = line[start + 3 : end]
            self.named.add(name)
            out += (line[at:start], self.variables.get(name, ""))
            at = end + 1
        out.append(line[at:])
        return "".join(out)

    def _set(self, name: str, value: str) -> None:
        if name not in self._overrides:
            # So a global cannot smuggle in what would be expanded at run time.
            self.variables[name] = value.replace("${", "%{")

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _obey(self, command: str, argument: str | None, place: Place) -> None:
        if argument is None:
            self._complaints.error(
                place, 'X-PRE-PROCESS needs cmd="..." and data="..." on the same line, double-quoted'
            )
            return
        match command:
            case "include":
                self._include(argument.strip(), place)
            case "exec":
                self._exec(argument, place)
            case "set" | "env-set" | "stun-set" | "exec-set":
                name, equals, value = argument.partition("=")
                if not equals or not name.strip():
                    self._complaints.error(place, f'{command} needs data="name=value"')
                    return
                self._assign(command, name.strip(), value, place)
            case _:
                self._complaints.error(place, f"X-PRE-PROCESS has no cmd {command!r}")

    def _assign(self, command: str, name: str, value: str, place: Place) -> None:
        self.named.add(name)
        if command == "set":
            self._set(name, value.strip())
        elif name in self._overrides:
            return
        elif command == "env-set":
            if value.startswith("$") and value[1:].strip() in os.environ:
                self._set(name, os.environ[value[1:].strip()])
        elif command == "stun-set":
            self._stun(name, value.strip(), place)
        else:
            output = self._run(value, place)
            if output is not None:
                self._set(name, output.rstrip())

    def _stun(self, name: str, value: str, place: Place) -> None:
        try:
            self._set(name, self._resolve(value))
        except OSError as error:
            self._complaints.warning(place, f"{name} is left unset, {value!r} gives no address: {error}")

    def _include(self, pattern: str, place: Place) -> None:
        if len(self._open) >= DEPTH:
            self._complaints.error(place, f"includes are nested more than {DEPTH} deep")
            return
        root = pattern if os.path.isabs(pattern) else os.path.join(glob.escape(str(place.file.parent)), pattern)
        found = sorted(glob.glob(root))
        if not found and not WILDCARDS & set(pattern):
            self._complaints.error(place, f"include: there is no file {pattern!r}")
        for name in found:
            file = Path(os.path.normpath(name))
            if file in self._open:
                self._complaints.error(place, f"include: {pattern!r} leads back to a file that is still being read")
                continue
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                self._complaints.error(place, f"include: cannot read {file.name}: {error.strerror}")
                continue
            self._file(file, text)

    def _exec(self, command: str, place: Place) -> None:
        output = self._run(command, place)
        for line in (output or "").split("\n"):
            self.result.add(line, place)

    def _run(self, command: str, place: Place) -> str | None:
        if not self._allow_exec:
            self._complaints.error(place, "running a command at load is not allowed here (allow it with --allow-exec)")
            return None
        try:
            done = subprocess.run(shlex.split(command), capture_output=True, timeout=EXEC_LIMIT, check=True, text=True)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self._complaints.error(place, f"the command failed: {type(error).__name__}")
            return None
        return done.stdout


def _closing(line: str, at: int) -> int:
    """Index of the brace that closes the one before `at`; -1 when there is none."""
    depth = 1
    for index in range(at, len(line)):
        if line[index] == "{":
            depth += 1
        elif line[index] == "}":
            depth -= 1
            if depth == 0:
                return index
    return -1
