"""What systemd hears."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

from ha.systemd import Systemd


def test_systemd_hears_ready_status_and_signs_of_life(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(2)
        systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "4000000"})
        assert systemd.interval == 2.0
        systemd.ready("standby")
        systemd.status("active")
        systemd.alive()
        systemd.stopping()
        heard = [listening.recv(256).decode() for _ in range(4)]
    assert heard == ["READY=1\nSTATUS=standby", "STATUS=active", "WATCHDOG=1", "STOPPING=1"]


def test_what_is_not_read_in_time_does_not_end_the_signs_of_life(tmp_path: Path):
    """Or a busy systemd would kill an active node."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        systemd = Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(2000):
            systemd.status("active")
        heard = 0
        with contextlib.suppress(BlockingIOError):
            while listening.recv(256):
                heard += 1
        assert 0 < heard < 2000
        systemd.alive()
        assert listening.recv(256) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_said_and_with_a_dead_one_nothing_breaks(tmp_path: Path):
    silent = Systemd({})
    silent.ready("standby")
    assert silent.interval == 0.0
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}).alive()
