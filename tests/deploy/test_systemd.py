"""The unit of deploy/systemd: systemd finds nothing wrong with it, and a node does for it what it waits for."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from ha.cli import _parser
from tests.ha.rig import Running, loopback_address, profile, running, tree
from tests.support.node import ROOT, STRETCH

UNIT = ROOT / "deploy" / "systemd" / "sofia-node.service"


def command(name: str) -> list[str]:
    match = re.search(rf"^{name}=(.*)$", UNIT.read_text(), re.M)
    assert match is not None, name
    return match[1].split()


def test_systemd_finds_nothing_wrong(tmp_path: Path) -> None:
    """But that the program is not installed here: another one stands in its place."""
    unit = tmp_path / "sofia-node.service"
    unit.write_text(UNIT.read_text().replace("/opt/sofia-node/bin/sofia-node", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_it_is_never_given_up() -> None:
    """What keeps it from starting for ten seconds may have passed after eleven."""
    assert command("StartLimitIntervalSec") == ["0"]
    assert command("Restart") == ["always"]


def test_it_is_hardened(tmp_path: Path) -> None:
    unit = tmp_path / "sofia-node.service"
    unit.write_text(UNIT.read_text())
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=40", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout[-400:]


def test_the_program_takes_the_words_it_is_started_with() -> None:
    defaults = (UNIT.parent / "sofia-node.default").read_text()
    options = re.search(r"^SOFIA_OPTIONS=(.*)$", defaults, re.M)
    assert options is not None
    for name in ("ExecStartPre", "ExecStart"):
        words = command(name)
        assert words[-1] == "$SOFIA_OPTIONS"
        _parser().parse_args(words[1:-1] + options[1].split())


@pytest.mark.timeout(60)
def test_a_node_says_what_a_notify_unit_waits_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready, signs of life more often than the watchdog asks for, and stopping."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(15 * STRETCH)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        node = Running("alpha", tmp_path, tree(tmp_path, profile(host=loopback_address())))
        with running(node):
            node.start()
            assert systemd.recv(256).decode().startswith("READY=1\n")
            heard = [systemd.recv(256).decode() for _ in range(6)]
            assert heard.count("WATCHDOG=1") >= 2
            node.wait("active")
            assert node.stop() == 0
            systemd.setblocking(False)
            left = []
            try:
                while True:
                    left.append(systemd.recv(256).decode())
            except BlockingIOError:
                assert "STOPPING=1" in left
