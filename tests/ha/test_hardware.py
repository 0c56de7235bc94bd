"""The watchdog of the hardware: a device of our own in a time of our own, and a pipe in its place under a real node."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ha import hardware
from ha.hardware import HardwareWatchdog, KernelWatchdog
from ha.loop import Loop
from ha.process import ours_alone
from tests.ha.rig import Running, loopback_address, profile, running, tree, until


class Device:
    """Counts what it is given; fires, as the real one would, when it is not fed for its time."""

    def __init__(self, grants: int = 0) -> None:
        self.fed = self.opened = 0
        self.open_for = 0
        self._grants = grants

    def open(self, seconds: int) -> int:
        self.opened += 1
        self.open_for = self._grants or seconds
        return self.open_for

    def feed(self) -> None:
        assert self.open_for
        self.fed += 1

    def close(self) -> None:
        self.open_for = 0


def turn(loop: Loop, seconds: float) -> None:
    ends = loop.now() + seconds
    while loop.now() < ends:
        loop.turn(0.02)


def test_it_is_fed_four_times_within_its_time_as_long_as_all_is_well():
    well, loop, device = True, Loop(), Device()
    watchdog = HardwareWatchdog(loop, device, 0.5, lambda: well)
    watchdog.arm()
    watchdog.arm()
    assert (device.opened, device.open_for) == (1, 1), "whole seconds, opened once"
    turn(loop, 0.6)
    assert device.fed >= 1
    well, fed = False, device.fed
    turn(loop, 0.6)
    assert device.fed == fed
    watchdog.disarm()
    watchdog.disarm()
    assert device.open_for == 0


def test_what_it_really_grants_counts(caplog: pytest.LogCaptureFixture):
    loop, device = Loop(), Device(grants=60)
    HardwareWatchdog(loop, device, 2, lambda: True).arm()
    assert "fires after 60 s, not after 2 s" in caplog.text
    turn(loop, 0.7)
    assert device.fed == 0


def test_a_device_that_is_not_there_is_an_error_and_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    watchdog = HardwareWatchdog(Loop(), KernelWatchdog(str(tmp_path / "none")), 2, lambda: True)
    watchdog.arm()
    assert not watchdog.armed
    assert "cannot be opened" in caplog.text


def test_the_kernel_is_asked_for_the_time_and_told_goodbye(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []

    def ioctl(_descriptor, request, wanted):  # type: ignore[no-untyped-def]
        asked.append((request, wanted[0]))
        if request == hardware.WDIOC_GETTIMEOUT:
            wanted[0] = 15

    monkeypatch.setattr(hardware.fcntl, "ioctl", ioctl)
    path = tmp_path / "watchdog"
    path.touch()
    device = KernelWatchdog(str(path))
    assert device.open(10) == 15
    assert asked == [(0xC0045706, 10), (0x80045707, 10)]
    device.feed()
    assert len(ours_alone) == 1, "no child may keep it open"
    device.close()
    assert not ours_alone
    assert path.read_bytes() == b"1V"


def test_an_active_node_feeds_it_and_a_passive_or_frozen_one_does_not(tmp_path: Path):
    pipe = tmp_path / "watchdog"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    # A reader alone would see the end of the pipe whenever the node closes it.
    writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    ha = f'<param name="watchdog-device" value="{pipe}"/><param name="watchdog-device-timeout" value="2000"/>'
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=loopback_address()), ha=ha))
    heard = b""

    def listen() -> bytes:
        nonlocal heard
        try:
            heard += os.read(end, 4096)
        except BlockingIOError:
            pass
        return heard

    with running(node):
        node.start()
        until(lambda: listen() == b"V", 10, "what a former life has left to be calmed", node)
        node.wait("active")
        until(lambda: listen().count(b"1") >= 2, 10, "it to be fed", node)
        os.kill(node.pid, signal.SIGSTOP)
        fed = len(listen())
        # Five times that between two feedings.
        assert_quiet(listen, fed, 2.5)
        os.kill(node.pid, signal.SIGCONT)
        until(lambda: len(listen()) > fed, 10, "it to be fed again", node)
        for child in (*node.children("worker"), *node.children("spare"), *node.children("media")):
            assert str(pipe) not in held(child)
        assert node.ask("demote")["ok"]
        until(lambda: listen().endswith(b"V"), 5, "it to be stopped", node)
        assert_quiet(listen, len(heard), 1.5)
        assert node.ask("promote")["ok"]
        until(lambda: listen().endswith(b"1"), 5, "it to be fed again", node)
        assert node.stop() == 0
        assert listen().endswith(b"V")
    os.close(end)
    os.close(writer)


def assert_quiet(listen, length: int, seconds: float) -> None:  # type: ignore[no-untyped-def]
    loop = Loop()
    turn(loop, seconds)
    assert len(listen()) == length


def held(pid: int) -> list[str]:
    return [os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir() if each.exists()]
