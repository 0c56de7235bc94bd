"""Reading a configuration again while a lease is to be kept."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ha.loop import Loop
from ha.reading import Reading
from node.config import Complaint, ConfigurationError
from tests.ha.rig import loopback_address, pair, profile, running, say, tree, until
from tests.support.node import ROOT

USER = '<user id="{}"><params><param name="password" value="x7Kq-{}"/></params><variables>{}</variables></user>'
VARIABLES = "".join(f'<variable name="v{number}" value="{number}"/>' for number in range(8))


class Desk:
    """A reading whose file is what `says` returns."""

    def __init__(self, says: Any) -> None:
        self.loop, self.heard = Loop(), []  # type: ignore[var-annotated]
        self.reading = Reading(self.loop, says)

    def ask(self) -> None:
        self.reading.begin(self.heard.append)

    def wait(self, number: int) -> None:
        ends = time.monotonic() + 10
        while len(self.heard) < number:
            assert time.monotonic() < ends
            self.loop.turn(0.05)


def test_the_loop_goes_on_while_it_is_read():
    go = threading.Event()
    desk = Desk(lambda: go.wait(10) and SimpleNamespace())
    ticks: list[float] = []
    desk.loop.every(0.01, lambda: ticks.append(0) if len(ticks) < 20 else go.set())
    desk.ask()
    assert desk.heard == []
    desk.wait(1)
    assert len(ticks) == 20
    desk.reading.close()


def test_who_asks_meanwhile_gets_what_is_there_afterwards():
    go, versions = threading.Event(), iter(range(10))

    def read() -> int:
        version = next(versions)
        go.wait(10)
        return version

    desk = Desk(read)
    for _ in range(3):
        desk.ask()
    go.set()
    desk.wait(3)
    assert desk.heard == [0, 1, 1]
    desk.reading.close()


def test_the_next_one_begins_when_what_was_read_is_taken_over():
    """It is compared with that; or the same would be taken over twice, and the standby workers replaced twice."""
    go, taken = threading.Event(), []  # type: ignore[var-annotated]
    known: list[list[object]] = []

    def read() -> object:
        go.wait(10)
        known.append(list(taken))
        return len(known)

    desk = Desk(read)
    desk.reading.begin(taken.append)
    desk.ask()
    go.set()
    desk.wait(1)
    assert known == [[], [1]]
    desk.reading.close()


LOADED = """
import sys
from pathlib import Path
import ha.cli
from node.config import load
before = set(sys.modules)
load(Path(sys.argv[1]), {"store": "", "peer_address": "", "peer_listen": ""}, run_dir=Path(sys.argv[2]), patient=False)
print(*sorted(set(sys.modules) - before))
"""


def test_nothing_is_imported_for_it(tmp_path: Path):
    """A worker that is forked meanwhile would find the lock of a module taken for ever."""
    (tmp_path / "agent.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    tls = f'<param name="tls" value="true"/><param name="tls-cert-dir" value="{tmp_path}"/>'
    conf = tree(
        tmp_path, profile(host="127.0.0.1", more=tls), hooks='<hooks><hook on="after-demote" command="/x y"/></hooks>'
    )
    words = [sys.executable, "-c", LOADED, str(conf), str(tmp_path / "run")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_what_is_wrong_is_told_and_what_breaks_too():
    mistakes = iter([ConfigurationError([Complaint(Path("a.xml"), 3, "no such thing")]), OSError("no disk")])

    def read() -> None:
        raise next(mistakes)

    desk = Desk(read)
    desk.ask()
    desk.wait(1)
    desk.ask()
    desk.wait(2)
    assert str(desk.heard[0]) == "a.xml:3: no such thing"
    assert "no disk" in str(desk.heard[1])
    desk.reading.close()


def test_a_node_that_ends_does_not_wait_for_it():
    go = threading.Event()
    desk = Desk(lambda: go.wait(10))
    desk.ask()
    desk.reading.close()
    go.set()
    desk.loop.turn(0.05)
    assert desk.heard == []


def test_a_large_directory_costs_no_lease(tmp_path: Path):
    """It takes longer to read than the lease lives; the active node renews it all the while, and answers."""
    host = loopback_address()
    conf = tree(tmp_path, profile(host=host))
    alpha, beta = pair(tmp_path, conf)
    with running(alpha, beta):
        alpha.start().wait("active")
        beta.start().wait("standby")
        until(lambda: say(host, 5060), 5, "an answer", alpha)
        epoch = alpha.ask("status")["epoch"]
        document = conf / "freeswitch.xml"
        users = "".join(USER.format(number, number, VARIABLES) for number in range(10000))
        domain = f'<domain name="sofia.test"><groups><group name="all"><users>{users}</users></group></groups></domain>'
        document.write_text(document.read_text().replace('<domain name="sofia.test"/>', domain))
        answers: list[str] = []
        asking = threading.Thread(target=lambda: answers.append(alpha.console("profile", "rescan", "internal")))
        began = time.monotonic()
        asking.start()
        longest = 0.0
        while asking.is_alive():
            asked = time.monotonic()
            assert alpha.ask("status")["role"] == "active"
            longest = max(longest, time.monotonic() - asked)
        taken = time.monotonic() - began
        print(f"read in {taken:.2f} s, longest wait for the supervisor {longest * 1000:.0f} ms")
        assert answers == ["Reload XML [Success]\n+OK scan complete\n"]
        assert longest < max(0.35, taken / 2)
        assert alpha.ask("status")["epoch"] == epoch
        assert beta.role == "standby"
