"""The sluice: of registrations that come faster than they can even be refused, a share is left in the kernel.

To read a request and to refuse it takes a tenth of what it takes to serve it. So at ten times the rate that can be
served all time would go into refusals. A socket filter (classic BPF, which needs no privilege) drops some before they cost
us anything, so many that refusing stays below a fixed share. Their senders repeat them; those that get through are served,
or told by a 503 when to come back: which is better, for who hears nothing asks again and again. So a share is left for it.

Only REGISTER: it alone comes from all phones at once, and begins nothing that somebody waits for. What is in a dialog, what a
caller sends and what a watchdog asks is always read. And among them none that is as long as those with credentials: who comes
back to a challenge is not kept waiting, or the challenge was in vain.
"""

from __future__ import annotations

import array
import contextlib
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

SHARE = 0.08
"Of our time: what refusals may take."
LOOK = 0.1
"Seconds between two adjustments."
LEAST = 0.02
"Of the registrations: at least so many are read."
FASTER = 1.3
"Times as many as before, at most, after each look."
OPEN = 0.95
"Whoever passes so many may pass all."
COST = 15e-6
"Seconds that a refusal takes, until it was measured."
DEARER = 2.0
"Times as long as before, at most, each time that it is measured."
ENOUGH = 16
"Registrations from which that is measured."

LONGEST = 0xFFFF
"Bytes that no datagram has."

SO_ATTACH_FILTER = 26
SO_DETACH_FILTER = 27
_INSTRUCTION = struct.Struct("=HBBI").pack
_PROGRAM = struct.Struct("@HP").pack
_LENGTH, _AT_LEAST, _WORD, _EQUALS, _ABOVE, _RETURN = 0x80, 0x35, 0x20, 0x15, 0x25, 0x06
_RANDOM = 0xFFFFF000 + 56
"SKF_AD_OFF + SKF_AD_RANDOM: a random word where the packet has none."
_FIRST_WORD = 8
"Behind the header of UDP."


class Readings(NamedTuple):
    """How many registrations were read and not served at once."""

    all: int
    vain: int
    "Of those: refused, repeated or too old."
    long: int
    "Of those in vain: as long as the ones with credentials."


class Sluice:
    """How many of the registrations are read, and the filter that says so to the kernel."""

    def __init__(self) -> None:
        self.passing = 1.0
        "Of the registrations: the share that is read."
        self.cost = COST
        "Seconds that it takes to read and refuse one."
        self.sparing = True
        "Are those spared that are as long as the ones with credentials?"
        self._refusing = self._refusing_long = 0.0
        "Seconds since the last look; those that went into long ones are in both."
        self._counted, self._seconds = 0, 0.0
        "From which the cost is measured."
        self._looked = 0.0
        self._idle = False
        "Was there a rest since then?"

    def note(self, read: Readings, seconds: float, *, mixed: bool) -> None:
        """So many were read in so many seconds of our own time; `mixed`: and something else was done in them."""
        if not mixed:
            self._counted += read.all
            self._seconds += seconds
        if self._counted >= ENOUGH:
            self.cost += (min(self._seconds / self._counted, DEARER * self.cost) - self.cost) / 4
            self._counted, self._seconds = 0, 0.0
        self._refusing += read.vain * self.cost
        self._refusing_long += read.long * self.cost

    def rest(self) -> None:
        """Nothing is left to do: there is time to read more, whatever refusing takes."""
        self._idle = True

    def adjust(self, now: float) -> bool:
        """By our own clock: let more through, or fewer. Is there another share than before?"""
        since = now - self._looked
        if since < LOOK:
            return False
        share, long, idle = self._refusing / since, self._refusing_long / since, self._idle
        self._looked, self._refusing, self._refusing_long, self._idle = now, 0.0, 0.0, False
        if since > 10 * LOOK:
            return False  # the first look of an overload
        if long > SHARE and self.sparing and self.passing < 1.0:
            self.sparing = False  # somebody makes them long
            return True
        before = self.passing
        wanted = before * SHARE / share if share else 1.0
        # Not in one step: what a tenth of a second brings is not what the next one will.
        wanted = before * FASTER if idle else min(max(wanted, before / 2, LEAST), before * FASTER)
        self.passing = wanted if wanted < OPEN else 1.0
        return self.passing != before

    def open(self) -> bool:
        """Let all through again. Was it otherwise?"""
        before, self.passing = self.passing, 1.0
        self.sparing = True
        return before != 1.0

    def set(self, sockets: Sequence[socket.socket], spared: int = LONGEST) -> None:
        """Tell the kernel. `spared`: so long are the ones with credentials."""
        for sock in sockets:
            if self.passing == 1.0:
                detach(sock)
            else:
                attach(sock, self.passing, spared if self.sparing else LONGEST)


def attach(sock: socket.socket, passing: float, spared: int = LONGEST) -> None:
    """From now on this share of the datagrams that begin with REGI is received, and all others. IPv4 and IPv6 alike.

    And all that have so many bytes.
    """
    instructions = [
        _INSTRUCTION(_LENGTH, 0, 0, 0),
        _INSTRUCTION(_AT_LEAST, 5, 0, _FIRST_WORD + spared),
        _INSTRUCTION(_AT_LEAST, 0, 4, _FIRST_WORD + 4),
        _INSTRUCTION(_WORD, 0, 0, _FIRST_WORD),
        _INSTRUCTION(_EQUALS, 0, 2, int.from_bytes(b"REGI", "big")),
        _INSTRUCTION(_WORD, 0, 0, _RANDOM),
        _INSTRUCTION(_ABOVE, 1, 0, round(passing * 0xFFFFFFFF)),
        _INSTRUCTION(_RETURN, 0, 0, 0xFFFFFFFF),
        _INSTRUCTION(_RETURN, 0, 0, 0),
    ]
    code = array.array("B", b"".join(instructions))
    # A kernel without filters goes on without: more is read then.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, _PROGRAM(len(instructions), code.buffer_info()[0]))


def detach(sock: socket.socket) -> None:
    """All is received. Kept sockets outlive a worker, and so would its filter."""
    with contextlib.suppress(OSError):  # there was none
        sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
