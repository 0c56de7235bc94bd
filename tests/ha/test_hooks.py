"""Hooks as real programs around the changes of role of real nodes: order, environment, time-outs, and what may not wait."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from ha.hooks import CANNOT_RUN, HookRun, Hooks, Outcome
from ha.loop import Loop
from ha.process import fork
from node.config.hooks import Hook
from node.link import Beaten, Link
from tests.ha.rig import Running, logged, loopback_address, pair, profile, running, say, tree, until

MOMENTS = ("before-promote", "after-promote", "before-demote", "after-demote")


class Scripts:
    """Writes hooks, and reads what they noted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "hooks"
        self.directory.mkdir()
        self.notes = self.directory / "notes"
        self.elements = ""
        self._count = 0

    def add(self, moment: str, text: str, **attributes: str) -> Path:
        """A shell script at a moment; `$NOTES` is where notes go, `$HERE` a directory of its own."""
        self._count += 1
        path = self.directory / f"hook{self._count}"
        path.write_text(f"#!/bin/sh\nNOTES={self.notes} HERE={self.directory}\n{text}\n")
        path.chmod(0o755)
        more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in attributes.items())
        self.elements += f'<hook on="{moment}" command="{path}"{more}/>'
        return path

    def hooks(self) -> str:
        return f"<hooks>{self.elements}</hooks>"

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def pids(self, name: str = "pids") -> list[int]:
        path = self.directory / name
        return [int(word) for word in path.read_text().split()] if path.exists() else []


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def solo(tmp_path: Path, scripts: Scripts, host: str = "") -> Running:
    return Running("alpha", tmp_path, tree(tmp_path, profile(host=host or loopback_address()), hooks=scripts.hooks()))


def duo(tmp_path: Path, scripts: Scripts, host: str) -> tuple[Running, Running]:
    return pair(tmp_path, tree(tmp_path, profile(host=host), hooks=scripts.hooks()))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def results(node: Running) -> list[tuple[str, str]]:
    return [(each["hook"], each["result"]) for name, each in node.notices() if name == "sofia::ha_hook"]


def test_hooks_run_in_order_and_are_told_what_happens(tmp_path: Path, scripts: Scripts) -> None:
    tell = (
        'echo "$SOFIA_HOOK $SOFIA_NODE $SOFIA_ROLE_FROM>$SOFIA_ROLE_TO $SOFIA_EPOCH [$SOFIA_PROFILES] '
        '[$SOFIA_SHARED_ADDRESS] $SOFIA_REASON" >>$NOTES'
    )
    for moment in MOMENTS:
        scripts.add(moment, tell)
    scripts.add("before-promote", "sleep 0.1; echo second >>$NOTES; echo heard")
    ha = '<param name="shared-address" value="192.0.2.10/24"/>'
    profiles = (profile(host=loopback_address()), profile("external", host=loopback_address()))
    node = Running("alpha", tmp_path, tree(tmp_path, *profiles, ha=ha, hooks=scripts.hooks()))
    with running(node):
        node.start().wait("active")
        until(lambda: len(scripts.noted()) == 3, 5, "the hooks of the promotion", node)
        epoch = node.ask("status")["epoch"]
        assert node.ask("demote")["ok"]
        until(lambda: len(scripts.noted()) == 5, 5, "the hooks of the demotion", node)
        about = "[internal external] [192.0.2.10/24]"
        assert scripts.noted() == [
            f"before-promote alpha standby>active {epoch} {about} the lease was free",
            "second",
            f"after-promote alpha standby>active {epoch} {about} the lease was free",
            f"before-demote alpha active>standby {epoch} {about} ordered",
            f"after-demote alpha active>standby {epoch} {about} ordered",
        ]
        logged(node, "hook before-promote says: heard")
        # The promotion may be over before there is a console that could tell of it.
        later = [(moment, "ok") for moment in MOMENTS[2:]]
        until(lambda: results(node)[-2:] == later, 5, "the events", node)
        roles = [each for name, each in node.notices() if name == "sofia::ha_role"]
        assert (roles[-1]["role-to"], roles[-1]["epoch"], roles[-1]["reason"]) == (
            "standby",
            str(epoch),
            "ordered",
        )


def test_nothing_is_served_before_the_hook_is_done_and_a_hung_one_loses_no_lease(
    tmp_path: Path, scripts: Scripts
) -> None:
    """Several lives of the lease long: it is renewed all the while, under the same epoch, and the supervisor answers."""
    scripts.add("before-promote", "until [ -e $HERE/go ]; do sleep 0.02; done", timeout="20000")
    host = loopback_address()
    alpha, beta = duo(tmp_path, scripts, host)
    with running(alpha, beta):
        alpha.start()
        until(lambda: alpha.role and alpha.ask("status")["lease"]["holder"] == "alpha", 15, "the lease", alpha)
        beta.start().wait("standby")
        epoch = alpha.ask("status")["epoch"]
        ends = time.monotonic() + 2.5
        while time.monotonic() < ends:
            status = alpha.ask("status")
            assert (status["role"], status["lease"]["holder"], status["epoch"]) == (
                "standby",
                "alpha",
                epoch,
            ), alpha.log()
            assert not say(host, 5060)
        (scripts.directory / "go").touch()
        alpha.wait("active")
        until(lambda: say(host, 5060)[:3] == ["alpha", "internal#0", str(epoch)], 5, "alpha to answer", alpha)
        assert beta.role == "standby"


def test_a_hook_that_takes_too_long_is_killed_with_all_it_has_started(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("before-promote", "sleep 300 & echo $! $$ >$HERE/pids; sleep 300", timeout="1500")
    node = solo(tmp_path, scripts)
    with running(node):
        node.start().wait("active")
        first, second = scripts.pids()
        until(lambda: not alive(first) and not alive(second), 5, "the group to be dead", node)
        logged(node, "took longer than 1500 ms and was killed")
        until(lambda: not Path(f"/proc/{second}").exists(), 5, "it to be reaped", node)


def test_a_hook_may_call_a_promotion_off_and_the_peer_gets_the_lease(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add(
        "before-promote", '[ "$SOFIA_NODE" = beta ] || { echo "no route"; exit 3; }', on_failure="abort", timeout="5000"
    )
    host = loopback_address()
    alpha, beta = duo(tmp_path, scripts, host)
    with running(alpha, beta):
        alpha.start()
        until(lambda: "the lease is left to others" in alpha.log(), 15, "the promotion to be called off", alpha)
        logged(alpha, "hook before-promote says: no route")
        beta.start().wait("active")
        until(lambda: say(host, 5060)[:1] == ["beta"], 5, "beta to answer", beta)
        until(lambda: not alpha.notices() or alpha.ask("status")["ready"], 10, "alpha to be ready again", alpha)
        answer = alpha.ask("promote", within=15)
        assert not answer["ok"]
        assert "failed with status 3" in answer["error"]
        until(lambda: say(host, 5060)[:1] == ["beta"], 15, "beta to have it again", alpha, beta)
        assert ("before-promote", "failed") in results(alpha)


def test_a_hook_that_fails_otherwise_is_only_told_of(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("before-promote", "exit 1")
    scripts.elements += f'<hook on="before-promote" command="{tmp_path}/is-not-there"/>'
    scripts.add("after-promote", "kill -9 $$")
    node = solo(tmp_path, scripts)
    with running(node):
        node.start().wait("active")
        until(lambda: "was killed by SIGKILL" in node.log(), 5, "the last of them", node)
        logged(node, "failed with status 1")
        logged(node, "says: it cannot be run: [Errno 2]")
        logged(node, "failed with status 127")


def test_an_ordered_demotion_waits_for_its_hook_and_serves_meanwhile(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("before-demote", "touch $HERE/begun; until [ -e $HERE/go ]; do sleep 0.02; done", timeout="4000")
    host = loopback_address()
    node = solo(tmp_path, scripts, host)
    with running(node):
        node.start().wait("active")
        answer = node.ask("demote", within=0)
        assert not answer["ok"], "it is not demoted yet"
        until(lambda: (scripts.directory / "begun").exists(), 5, "the hook", node)
        assert say(host, 5060, within=1.0)[:1] == ["alpha"]
        assert node.role == "active"
        (scripts.directory / "go").touch()
        node.wait("standby")
        assert not say(host, 5060)


def test_a_demotion_that_is_called_off_ends_its_hook(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("before-demote", "echo $$ >$HERE/pids; sleep 300", timeout="4000")
    node = solo(tmp_path, scripts)
    with running(node):
        node.start().wait("active")
        node.ask("demote", within=0)
        until(lambda: scripts.pids(), 5, "the hook", node)
        assert node.ask("promote")["ok"]
        until(lambda: not alive(scripts.pids()[0]), 3, "the hook to be ended", node)
        assert node.role == "active"
        logged(node, "was ended: the role has gone another way")


def test_self_fencing_waits_for_no_hook(tmp_path: Path, scripts: Scripts) -> None:
    """Store and peer gone: the node is silent long before its hook is through."""
    scripts.add("before-demote", "sleep 3.5; echo $SOFIA_REASON >>$NOTES", timeout="4000")
    scripts.add("after-demote", "echo after >>$NOTES")
    host = loopback_address()
    alpha, beta = duo(tmp_path, scripts, host)
    with running(alpha, beta):
        alpha.start().wait("active")
        beta.start().wait("standby")
        until(lambda: beta.ask("status")["ready"], 10, "a ready pair", alpha, beta)
        until(lambda: say(host, 5060)[:1] == ["alpha"], 5, "alpha to answer", alpha)
        store = sqlite3.connect(tmp_path / "store.db", isolation_level=None, timeout=10)
        store.execute("BEGIN EXCLUSIVE")
        try:
            beta.kill()
            until(lambda: alpha.role == "standby", 3, "alpha to let go", alpha)
            assert not say(host, 5060)
            assert scripts.noted() == [], "it waited for the hook"
            until(lambda: len(scripts.noted()) == 2, 10, "the hooks beside it", alpha)
            assert scripts.noted() == ["nothing covers this node any more", "after"]
        finally:
            store.close()


def test_a_stopping_node_runs_its_hooks_to_the_end(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("after-demote", "sleep 0.7; echo $SOFIA_REASON >>$NOTES")
    node = solo(tmp_path, scripts)
    with running(node):
        node.start().wait("active")
        assert node.stop() == 0
        assert scripts.noted() == ["the node stops"]


def test_a_hook_dies_with_its_supervisor(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("after-promote", "echo $$ >$HERE/pids; exec sleep 300", timeout="60000")
    node = solo(tmp_path, scripts)
    with running(node):
        node.start().wait("active")
        until(lambda: scripts.pids(), 5, "the hook", node)
        os.kill(node.pid, signal.SIGKILL)
        until(lambda: not alive(scripts.pids()[0]), 5, "the hook to be dead", node)


def test_a_hook_that_never_stops_talking_disturbs_nobody(tmp_path: Path, scripts: Scripts) -> None:
    scripts.add("after-promote", "yes 'and so on'", timeout="6000")
    host = loopback_address()
    node = solo(tmp_path, scripts, host)
    with running(node):
        node.start().wait("active")
        until(lambda: "says too much" in node.log(), 10, "the talk to be noticed", node)
        began = os.times()
        ticks = _cpu(node.pid)
        assert say(host, 5060, within=1.0)[:1] == ["alpha"]
        until(lambda: "took longer than 6000 ms" in node.log(), 10, "its end", node)
        spent = (_cpu(node.pid) - ticks) / os.sysconf("SC_CLK_TCK")
        elapsed = os.times().elapsed - began.elapsed
        assert spent < 0.5 * elapsed, f"{spent:.2f} s of {elapsed:.2f} s went into listening to it"
        assert node.log().count("hook after-promote says: and so on") < 3000


def held(within: str = "/proc/self/fd") -> set[str]:
    found = set()
    for each in os.listdir(within):
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"{within}/{each}"))
    return found


def test_one_that_cannot_be_forked_has_failed_and_the_next_one_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the node would wait for it for ever, with the lease in its hands."""
    loop, told, before = Loop(), [], held()  # type: ignore[var-annotated]
    hooks = Hooks(loop, lambda outcome, _environment: None)

    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", no_fork)
    hook = Hook(moment="before-promote", command=("/bin/true",), timeout=1000)
    hooks.begin("before-promote", [hook, hook], {}, told.append)
    ends = time.monotonic() + 5
    while not told and time.monotonic() < ends:
        loop.turn(0.01)
    assert told == [[Outcome(hook, "failed", CANNOT_RUN, 0.0)] * 2]
    assert not hooks.busy
    assert {each for each in held() - before if each.startswith("pipe")} == set()
    loop.close()


def test_no_worker_that_is_forked_meanwhile_keeps_its_pipe() -> None:
    loop, before = Loop(), held()
    run = HookRun(loop, Hook(moment="after-promote", command=("/bin/sleep", "60"), timeout=60000), {}, lambda _: None)
    pipes = {each for each in held() - before if each.startswith("pipe")}
    assert len(pipes) == 1

    def main(link: Link) -> None:
        link.send(Beaten(len(pipes & held())))

    process = fork("worker", main, time.monotonic(), guard=False)
    until(process.reap, 10, "the worker")
    assert process.link.receive() == (Beaten(0), [])
    run.end()
    assert not pipes & held()
    ends = time.monotonic() + 0.2
    while time.monotonic() < ends:
        loop.turn(0.02)
    loop.close()


def _cpu(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
