"""What the image makes of its words and variables: with another program in the place of sofia-node."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ha import orders
from tests.support.node import ROOT


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
    words = said(tmp_path, "run", "--set", "domain=b", SOFIA_NODE="alpha", SOFIA_SET_domain='it\'s a $test; "a b"')
    start = ["run", "--conf", "/etc/sofia-node", "--run-dir", "/run/node"]
    assert words == [*start, "--node", "alpha", "--set", 'domain=it\'s a $test; "a b"', "--set", "domain=b"]
