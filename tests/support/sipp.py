"""sipp as caller or callee: a real load, with its own judgement of each call."""

from __future__ import annotations

import csv
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

SCENARIOS = Path(__file__).resolve().parents[1] / "sipp"


class Sipp:
    """One sipp process running one scenario. Exit status 0 means that every call went as the scenario says."""

    def __init__(
        self,
        scenario: str,
        *,
        server: tuple[str, int],
        calls: int,
        host: str = "127.0.0.1",
        port: int,
        media_port: int,
        rate: float = 20,
        pause: float = 0.0,
        rows: list[str] | None = None,
        prefix: tuple[str, ...] = (),
        transport: str = "u1",
        timeout: int = 90,
        trace: bool = True,
        at_once: int = 0,
        one_by_one: bool = False,
        instead: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`at_once`: calls under way at most; 0: as many as there are. `one_by_one`: as it takes what arrives.

        `instead`: what stands for words of the scenario.
        """
        self._temporary = tempfile.TemporaryDirectory(prefix="sipp-")
        self.directory = Path(self._temporary.name)
        played = self.directory / "scenario.xml"
        text = (SCENARIOS / f"{scenario}.xml").read_text()
        for word, other in instead.items():
            text = text.replace(word, other)
        played.write_text(text)
        words = [*prefix, "sipp", f"{server[0]}:{server[1]}", "-sf", str(played), "-nostdin"]
        words += [
            "-i",
            host,
            "-p",
            str(port),
            "-mp",
            str(media_port),
            "-m",
            str(calls),
            "-r",
            str(rate),
            "-t",
            transport,
        ]
        words += [
            "-l",
            str(at_once or max(calls, 10)),
            "-d",
            str(round(pause * 1000)),
            "-timeout",
            str(timeout),
            "-timeout_error",
        ]
        words += ["-trace_stat", "-stf", str(self.directory / "stat.csv"), "-fd", "1"]
        words += ["-trace_err", "-error_file", str(self.directory / "errors"), "-recv_timeout", "60000"]
        # One socket for a whole crowd: with its 64 KiB it would lose the answers that a crowd of phones takes.
        words += ["-buff_size", str(4 << 20), "-default_behaviors", "all,-bye"]
        # In a Replaces within a URI an @ would have to be escaped.
        words += ["-cid_str", "%u-%p-sipp"]
        # Of two messages that it has read at once, it takes the second one before it has answered the first.
        words += ["-max_recv_loops", "1"] if one_by_one else []
        words += ["-trace_msg", "-message_file", str(self.directory / "messages")] if trace else []
        if rows is not None:
            users = self.directory / "users.csv"
            users.write_text("SEQUENTIAL\n" + "".join(f"{row}\n" for row in rows))
            words += ["-inf", str(users)]
        self.scenario = scenario
        self._process = subprocess.Popen(
            words, cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, within: float = 120.0) -> int:
        self._process.wait(within)
        return self._process.returncode

    def finish(self, within: float = 30.0) -> int:
        """Begin no more calls, and wait for the end of those under way."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)
        return self.wait(within)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._temporary.cleanup()

    def statistics(self) -> dict[str, str]:
        """sipp's last line of statistics."""
        with (self.directory / "stat.csv").open() as lines:
            rows = list(csv.DictReader(lines, delimiter=";"))
        return rows[-1] if rows else {}

    def count(self, name: str) -> int:
        try:
            return int(self.statistics().get(name, "0"))
        except FileNotFoundError:
            return 0

    def received(self, text: str) -> int:
        """How many messages with this start line arrived, e.g. `SIP/2.0 481`."""
        path = self.directory / "messages"
        messages = path.read_text(errors="replace") if path.exists() else ""
        return sum(
            1
            for block in messages.split("-----------------------------------------------")
            if "received" in block and f"\n{text}" in block
        )

    def errors(self) -> str:
        path = self.directory / "errors"
        said = (
            self._process.stderr.read().decode(errors="replace")
            if self._process.stderr and self._process.poll() is not None
            else ""
        )
        return (path.read_text(errors="replace")[-4000:] if path.exists() else "") + said[-2000:]


def user_rows(users: list[str], password: str, domain: str, number: str = "") -> list[str]:
    """CSV rows for the scenarios: user, authentication, domain, number to call."""
    return [f"{user};[authentication username={user} password={password}];{domain};{number}" for user in users]
