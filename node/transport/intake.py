"""The intake: reads the UDP sockets of a worker, what is urgent before what is new.

With time to spare a wake-up reads what there is, and all of it is served at once. With more to do than that, everything in
the kernel's buffer is looked at first: what continues something is served on the way, what is new waits in the gate, and
gets its turn when the socket is empty or a hundredth of a second is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from operator import sub

from node.debug import tport
from node.sip.flow import Flow, endpoint_text
from node.transport.gate import LATE, Gate
from node.transport.sluice import Readings, Sluice, detach
from node.transport.stolen import Stolen
from node.transport.udp import BATCH, Datagrams

READING = 0.01
"Seconds of our own work for which the UDP socket is read on end when it does not get empty."
SERVING = 0.008
"Seconds of our own work on new requests before the loop looks again for what is more urgent."
RESTING = 0.005
"Seconds after which who has no turn yet is looked at again."
LONGEST_TURN = 0.05
"Seconds by the wall that they may take: others may have the processor."
PROBE = 0.05
"Seconds between two looks at how late the loop is, while there is traffic on streams."


class Intake:
    """Owns the sockets that a worker receives by, and gives turns to what waits in the gate."""

    def __init__(
        self,
        gate: Gate,
        loop: asyncio.AbstractEventLoop,
        *,
        read: Callable[[bytes, Flow], None],
        settle: Callable[[], None],
        may: Callable[[float], bool],
    ) -> None:
        """`read` takes a request whose turn it is, `settle` comes after a batch. `may`: do we still act at this moment?"""
        self.batch = False
        "Is there more to come before it is worth settling?"
        self.sockets: list[Datagrams] = []
        self._gate, self._loop = gate, loop
        self._read, self._settle, self._may = read, settle, may
        self._sluice = Sluice()
        self._stolen = Stolen()
        gate.others = self._stolen
        self._turning: asyncio.Handle | None = None
        self._resting = False
        "Does who waits have no turn yet? Then the next one is when something comes, or soon."
        self._probing: asyncio.TimerHandle | None = None

    @property
    def passing(self) -> float:
        """Of the registrations: the share that is read at all."""
        return self._sluice.passing

    @property
    def dropped(self) -> int:
        """Datagrams that were not read, since the sockets were opened."""
        return sum(each.dropped for each in self.sockets)

    def add(self, datagrams: Datagrams) -> None:
        """A kept socket: whoever had it before us may have been killed, and its filter is still there."""
        detach(datagrams.sock)
        self.sockets.append(datagrams)

    def open(self) -> None:
        """Read from now on."""
        for datagrams in self.sockets:
            if tport.level >= 5:
                tport.say("reads %s of profile %s", endpoint_text(datagrams.local), datagrams.profile)
            self._loop.add_reader(datagrams.sock.fileno(), self._drain, datagrams)

    def deafen(self) -> None:
        """Stop reading. Who reads them after us gets all."""
        for datagrams in self.sockets:
            self._loop.remove_reader(datagrams.sock.fileno())
        self._pass_all()

    def close(self) -> None:
        for each in (self._turning, self._probing):
            if each is not None:
                each.cancel()
        self._turning = self._probing = None
        self._stolen.close()

    def on_streams_drained(self) -> None:
        """Requests have come by streams. Those are not read in one go: how long a round takes is told by a timer."""
        if self._gate.waiting and (self._turning is None or self._resting):
            self._give_turns()
        if self._probing is None:
            self._probing = self._loop.call_later(PROBE, self._on_probe, time.monotonic() + PROBE)

    # ---- inside ----------------------------------------------------------------------------------------------------

    def _drain(self, datagrams: Datagrams) -> None:
        """Read all there is, so far as there is time: what is urgent may lie behind what is not."""
        if tport.level >= 9:
            tport.say("socket %s is readable", endpoint_text(datagrams.local))
        gate = self._gate
        was_stressed, urgent, before = gate.stressed, gate.urgent, self._readings()
        began = 0.0
        self.batch = True
        try:
            if was_stressed:
                gate.age = datagrams.age()
                self._look_at_the_clock()
                # Not by the wall: whoever holds the interpreter's lock, or the processor, would make refusals look dear.
                began = time.thread_time()
            read = count = datagrams.drain()
            now = time.monotonic()
            if count == BATCH or gate.behind():
                gate.stress(now)
            until = time.thread_time() + READING if count == BATCH else 0.0
            while count == BATCH and time.thread_time() < until:
                gate.age = datagrams.age()
                count = datagrams.drain()
                read += count
                now = time.monotonic()
        finally:
            self.batch = False
            self._settle()
        if not gate.stressed:
            return
        urgent = gate.urgent - urgent
        readings = Readings(*map(sub, self._readings(), before))
        if readings.all and was_stressed:
            self._regulate(began, readings, mixed=read > readings.all)
        if count == BATCH and urgent > BATCH // 2:
            # There is more of what is urgent than there was time for: nothing new is begun before that.
            gate.turn_away_overdue(now)
        else:
            self._serve_what_waits(now)

    def _look_at_the_clock(self) -> float:
        """Our own time, which the gate goes by from now on."""
        self._gate.stolen = stolen = self._stolen()
        return time.monotonic() - stolen

    def _readings(self) -> Readings:
        return Readings(self._gate.put_off, self._gate.vain, self._gate.vain_long)

    def _regulate(self, began: float, readings: Readings, *, mixed: bool) -> None:
        """These registrations were read; if not `mixed` nothing else was done.

        Let the kernel keep what we could only refuse, if that takes too much of our time.
        """
        self._sluice.note(readings, time.thread_time() - began, mixed=mixed)
        if self._sluice.adjust(self._look_at_the_clock()):
            self._set_sluice()

    def _set_sluice(self) -> None:
        self._sluice.set([each.sock for each in self.sockets], self._gate.longer)

    def _pass_all(self) -> None:
        if self._sluice.open():
            self._set_sluice()

    def _serve_what_waits(self, now: float) -> None:
        if not self._gate.waiting:
            self._ease(now)
        elif self._turning is None or self._resting:
            self._give_turns()

    def _ease(self, now: float) -> None:
        self._gate.ease(now)
        if not self._gate.stressed:
            self._pass_all()

    def _give_turns(self) -> None:
        """Serve some of what waits, then let the loop look for what is more urgent."""
        if self._turning is not None:
            self._turning.cancel()  # it waited for time to pass, and something has come before
            self._turning = None
        gate = self._gate
        now = time.monotonic()
        if not self._may(now):
            return  # who waits has come by a stream, perhaps, and asks but once: he has his turn when there is more time
        self._look_at_the_clock()
        # By our own work: where others have the processor, reading would go on and serving would stand back.
        until, latest = time.thread_time() + SERVING, now + LONGEST_TURN
        over = False
        self.batch = True
        try:
            while not over and (waiting := gate.turn(now)) is not None:
                self._read(*waiting)
                now = time.monotonic()
                over = now >= latest or time.thread_time() >= until
        finally:
            self.batch = False
            self._settle()
        if not gate.waiting:
            self._sluice.rest()
            self._ease(now)
            return
        self._resting = not over
        if self._resting:
            self._turning = self._loop.call_later(RESTING, self._give_turns)
        else:
            self._turning = self._loop.call_soon(self._give_turns)

    def _on_probe(self, due: float) -> None:
        self._probing = None
        now = time.monotonic()
        if now - due > LATE:
            self._gate.stress(now)
        elif not self._gate.waiting:
            self._ease(now)
