"""The resource agent of deploy/pacemaker: judged by ocf-tester, and by its exit statuses in every state of a node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ha.rig import loopback_address, profile, tree
from tests.support.node import ROOT, STRETCH, until

AGENT = ROOT / "deploy" / "pacemaker" / "sofia-node"
SUCCESS, GENERIC, CONFIGURED, INSTALLED, NOT_RUNNING, PROMOTED, FAILED_PROMOTED = 0, 1, 6, 5, 7, 8, 9


class Agent:
    """The agent with its parameters, over a node with small children."""

    def __init__(self, directory: Path) -> None:
        self.run_dir = directory / "run"
        command = directory / "sofia-node"
        # Its node is the real one, its workers are small.
        command.write_text(
            f"#!/bin/sh\ncd {ROOT}\nmodule=ha; [ $1 != run ] || module=tests.ha.child\n"
            f'exec {sys.executable} -m $module "$@"\n'
        )
        command.chmod(0o755)
        conf = tree(directory, profile(host=loopback_address()), ha='<param name="election" value="ordered"/>')
        self.parameters = {
            "command": str(command),
            "conf": str(conf),
            "rundir": str(self.run_dir),
            "options": f"--node alpha --set store={directory}/store.db --set peer_address= --set peer_listen=",
        }

    def call(self, action: str, **environment: str) -> int:
        done = subprocess.run(
            [str(AGENT), action],
            env={
                **os.environ,
                "OCF_ROOT": "/usr/lib/ocf",
                "OCF_RESOURCE_INSTANCE": "sofia",
                "OCF_RESKEY_CRM_meta_timeout": "60000",
                **{f"OCF_RESKEY_{name}": value for name, value in self.parameters.items()},
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=90 * STRETCH,
        )
        self.said = done.stdout + done.stderr
        return done.returncode

    @property
    def pid(self) -> int:
        try:
            return int((self.run_dir / "sofia-node.pid").read_text())
        except (OSError, ValueError):
            return 0


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    if agent.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(agent.pid, signal.SIGCONT)
    assert agent.call("stop") == SUCCESS


@pytest.mark.peers
@pytest.mark.timeout(300)
def test_ocf_tester_finds_nothing_wrong(agent: Agent) -> None:
    words = [word for name, value in agent.parameters.items() for word in ("-o", f"{name}={value}")]
    done = subprocess.run(
        ["ocf-tester", "-v", "-n", "sofia", *words, str(AGENT)], capture_output=True, text=True, timeout=250
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert f"{AGENT} passed all tests" in done.stdout
    remarks = [line for line in done.stdout.splitlines() if line.startswith("*")]
    assert remarks == ["* Your agent does not support the reload action (optional)"]


def test_every_state_of_a_node_has_its_exit_status(agent: Agent) -> None:
    assert agent.call("monitor") == NOT_RUNNING
    assert agent.call("stop") == SUCCESS
    assert agent.call("promote") == GENERIC, "there is nothing to be promoted"
    assert agent.call("demote") == SUCCESS, "what is not there is not active"
    assert agent.call("start") == SUCCESS
    assert agent.call("monitor") == SUCCESS
    modes = [path.stat().st_mode & 0o777 for path in (agent.run_dir, agent.run_dir / "output")]
    assert modes == [0o700, 0o600], "keys and call records are nobody else's"
    assert agent.call("start") == SUCCESS, "it runs"
    assert agent.call("notify") == SUCCESS
    assert agent.call("promote") == SUCCESS, agent.said
    assert agent.call("monitor") == PROMOTED
    assert agent.call("promote") == SUCCESS
    assert agent.call("demote") == SUCCESS
    assert agent.call("monitor") == SUCCESS
    assert agent.call("start") == SUCCESS
    assert agent.call("promote") == SUCCESS
    assert agent.call("start") == SUCCESS, "a start finds it active, and leaves it passive"
    assert agent.call("monitor") == SUCCESS
    os.kill(agent.pid, signal.SIGSTOP)
    assert agent.call("monitor") == GENERIC
    assert agent.call("stop", OCF_RESKEY_CRM_meta_timeout="1500") == SUCCESS, "one that hangs is killed"
    assert agent.call("monitor") == NOT_RUNNING


def test_a_node_that_dies_is_not_running_and_can_be_started_again(agent: Agent) -> None:
    assert agent.call("start") == SUCCESS
    assert agent.call("promote") == SUCCESS
    pid = agent.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{pid}/exe").exists(), 5, "its end")
    assert agent.call("monitor") == NOT_RUNNING
    assert agent.call("demote") == SUCCESS
    assert agent.call("start") == SUCCESS
    assert agent.call("monitor") == SUCCESS


def test_a_node_that_cannot_start_says_why(agent: Agent) -> None:
    agent.parameters["conf"] = str(agent.run_dir)
    assert agent.call("start") == INSTALLED
    assert "there is no freeswitch.xml" in agent.said
    agent.run_dir.mkdir()
    (agent.run_dir / "freeswitch.xml").write_text("<document/>")
    assert agent.call("start") == GENERIC
    assert "the configuration cannot be used" in agent.said
    assert agent.call("validate-all") == CONFIGURED
    assert not (agent.run_dir / "sofia-node.pid").exists()


def test_nobody_is_taken_for_a_node_because_of_a_pid_that_was_left(agent: Agent) -> None:
    agent.run_dir.mkdir()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        (agent.run_dir / "sofia-node.pid").write_text(f"{stranger.pid}\n")
        assert agent.call("stop") == SUCCESS
        assert stranger.poll() is None
        stranger.kill()


def test_a_host_without_the_program_is_no_failure_to_a_probe(agent: Agent) -> None:
    agent.parameters["command"] = "/nowhere/sofia-node"
    assert agent.call("monitor", OCF_RESKEY_CRM_meta_interval="0", __OCF_ACTION="monitor") == NOT_RUNNING
    assert agent.call("monitor", OCF_RESKEY_CRM_meta_interval="1000") == INSTALLED
    assert agent.call("stop") == SUCCESS
    assert agent.call("validate-all") == INSTALLED


def test_a_node_whose_program_is_gone_is_stopped_all_the_same(agent: Agent) -> None:
    assert agent.call("start") == SUCCESS
    pid, agent.parameters["command"] = agent.pid, "/nowhere/sofia-node"
    assert agent.call("stop") == SUCCESS
    assert not Path(f"/proc/{pid}/exe").exists()


def test_an_unknown_action_is_not_implemented(agent: Agent) -> None:
    assert agent.call("reload-all") == 3
