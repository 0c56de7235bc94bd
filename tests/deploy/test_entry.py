"""What the image makes of its words and variables: with another program in the place of sofia-node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ha import orders
from tests.node.rig import PhoneLine
from tests.support.node import ROOT, loopback_address, until
from tests.support.ports import free_port


def ask(run_dir: Path) -> dict[str, Any]:
    return orders.ask(run_dir, {"verb": "status"}, within=5.0)


def role(run_dir: Path) -> str:
    return str(ask(run_dir)["role"])


def said(tmp_path: Path, *words: str, **variables: str) -> list[str]:
    """The words that sofia-node is started with."""
    program = tmp_path / "sofia-node"
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SOFIA_RUN_DIR": "/run/node", **variables}
    command = ["sh", str(ROOT / "deploy" / "docker" / "entry"), *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.splitlines()


@pytest.mark.parametrize("verb", [*orders.VERBS, "check", "store"])
def test_every_verb_is_one_of_sofia_node(tmp_path: Path, verb: str) -> None:
    assert said(tmp_path, verb, "--run-dir", "/run/node") == [verb, "--run-dir", "/run/node"]


def test_variables_are_settings_and_what_is_given_as_words_wins(tmp_path: Path) -> None:
    words = said(tmp_path, "run", "--set", "domain=b", SOFIA_NODE="alpha", SOFIA_SET_domain="a")
    start = ["run", "--conf", "/etc/sofia-node", "--run-dir", "/run/node", "--set-from-environment", "SOFIA_SET_"]
    assert words == [*start, "--node", "alpha", "--set", "domain=b"]


def test_a_password_given_as_variable_is_in_force_and_on_no_command_line(tmp_path: Path) -> None:
    """`ps` shows the words of every process to everybody; what is in its environment only to its owner."""
    host = loopback_address()
    password = "it's a $secret; a b"
    program = tmp_path / "sofia-node"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ha "$@"\n')
    program.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "SOFIA_RUN_DIR": str(tmp_path / "run"),
        "SOFIA_CONF": str(ROOT / "conf"),
        "SOFIA_SET_default_password": password,
        "SOFIA_SET_domain": "pbx.test",
        "SOFIA_SET_sip_ip": host,
        "SOFIA_SET_rtp_ip": host,
        "SOFIA_SET_event_socket_port": str(free_port()),
    }
    command = ["sh", str(ROOT / "deploy" / "docker" / "entry"), "run", "--standalone"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True) as node:
        try:
            control = tmp_path / "run" / "control"
            until(lambda: control.exists() and role(tmp_path / "run") == "active", 30, "the node to be active")
            pids = [node.pid, *(child["pid"] for child in ask(tmp_path / "run")["children"])]
            assert len(pids) > 4
            for pid in pids:
                assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            phone = PhoneLine("1000", (host, 5060))
            assert phone.register(password=password).status == 200
            phone.close()
        finally:
            os.killpg(node.pid, signal.SIGKILL)
