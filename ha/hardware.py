"""The watchdog of the hardware (`/dev/watchdog`): resets a host whose active node stands still.

Fed by the supervisor's own loop, so a loop that hangs is one that does not feed. It is armed while the node may be active
and disarmed when it has surely let go; where letting go does not come to its end, feeding ends, and so does the host.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import logging
import math
import os
from collections.abc import Callable
from typing import Protocol

from ha.loop import Alarm, Loop
from ha.process import ours_alone

log = logging.getLogger(__name__)

WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT = 0xC0045706, 0x80045707
FEED, GOODBYE = b"1", b"V"
"Any byte feeds it; the V before closing says that this is no accident."
SHARE = 4
"It is fed so many times within its time."


class Watchdog(Protocol):
    """A device that resets the host unless it is fed. Each raises OSError."""

    def open(self, seconds: int) -> int:
        """Begin; returns after how many seconds it really fires."""
        ...

    def feed(self) -> None: ...

    def close(self) -> None:
        """Stop in order: it does not fire any more."""
        ...


class KernelWatchdog:
    """As Linux has it (Documentation/watchdog/watchdog-api.rst)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1

    def open(self, seconds: int) -> int:
        # Not blocking: what stands in for the device may be a pipe.
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        ours_alone.add(self._descriptor)
        wanted = array.array("i", [seconds])
        for request in (WDIOC_SETTIMEOUT, WDIOC_GETTIMEOUT):
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._descriptor, request, wanted)
        return wanted[0]

    def feed(self) -> None:
        os.write(self._descriptor, FEED)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        try:
            os.write(descriptor, GOODBYE)
        finally:
            ours_alone.discard(descriptor)
            os.close(descriptor)


class HardwareWatchdog:
    """Arms, feeds and disarms one device; without one it does nothing at all."""

    def __init__(self, loop: Loop, device: Watchdog | None, seconds: float, well: Callable[[], bool]) -> None:
        """`well`: whether it is to be fed now. The device fires after `seconds`, rounded up to whole ones."""
        self._loop, self._device, self._well = loop, device, well
        self._seconds = math.ceil(seconds)
        self._alarm: Alarm | None = None

    @property
    def armed(self) -> bool:
        return self._alarm is not None

    def calm(self) -> None:
        """At the start: a former life may have died with the device armed, and this one is passive."""
        if self._device is not None:
            self.arm()
            self.disarm()

    def arm(self) -> None:
        if self._device is None or self._alarm is not None:
            return
        try:
            seconds = self._device.open(self._seconds)
        except OSError as error:
            log.error("the watchdog device cannot be opened, nothing resets this host if it stands still: %s", error)
            return
        if seconds != self._seconds:
            log.warning("the watchdog device fires after %d s, not after %d s", seconds, self._seconds)
        self._alarm = self._loop.every(seconds / SHARE, self._feed)

    def disarm(self) -> None:
        if self._device is None or self._alarm is None:
            return
        self._alarm.cancel()
        self._alarm = None
        try:
            self._device.close()
        except OSError as error:
            log.error("the watchdog device cannot be stopped: %s", error)

    def _feed(self) -> None:
        assert self._device is not None, "only an armed device is fed"
        if not self._well():
            log.critical("the node does not let go: the watchdog device is not fed any more")
            return
        try:
            self._device.feed()
        except OSError as error:
            log.error("the watchdog device cannot be fed: %s", error)
