"""How long SIP was silent after a fault, as a phone would find out: OPTIONS every 20 ms, from the fault until it is answered.

A thread of its own, so that neither the test's loop nor a test without one is in its way. While nothing befalls a node
it says nothing. Faults are told by the nodes (`Node.tell`).
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import select
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support import node as node_module
from tests.support.netns import Host
from tests.support.node import STRETCH, Node

INTERVAL = 0.02
NO_FAULT = ("started", "active", "standby", "ready", "woken")
SUDDEN = ("killed", "worker killed", "host dead", "frozen")
"Faults after which nobody is there at first. After others somebody is, and is missed later, if at all."
SETTLED = 0.5
"Seconds that those are watched after the other node has become active."
LIMIT = 30.0 * STRETCH


@dataclass
class Fault:
    """What befell whom, and when somebody answered questions that were asked after it."""

    at: float
    what: str
    node: str
    answers: list[float] = field(default_factory=list)
    until: float = 0.0
    "How long it is asked about."

    @property
    def silence(self) -> float | None:
        """In seconds; None where nobody ever answered."""
        if not self.answers:
            return None
        if self.what in SUDDEN:
            return self.answers[0] - self.at
        return max(later - earlier for earlier, later in itertools.pairwise([self.at, *self.answers]))


class Prober:
    """Use as a context manager; `faults` afterwards has all that happened meanwhile."""

    def __init__(self, servers: Sequence[tuple[str, int]], client: Host | None = None) -> None:
        self.faults: list[Fault] = []
        self._servers = list(dict.fromkeys(servers))
        self._host = client.address if client is not None else "127.0.0.1"
        if ":" in self._servers[0][0]:
            self._host = self._servers[0][0]
        with client.inside() if client is not None else contextlib.nullcontext():
            self._socket = socket.socket(socket.AF_INET6 if ":" in self._host else socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((self._host, 0))
        self._socket.setblocking(False)
        self._wake, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="prober", daemon=True)

    def __enter__(self) -> Prober:
        node_module.listeners.append(self._on_event)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        node_module.listeners.remove(self._on_event)
        self._over.set()
        self._wake.set()
        self._thread.join()
        self._socket.close()

    @property
    def silence(self) -> float | None:
        """The longest of all."""
        return max((s for fault in self.faults if (s := fault.silence) is not None), default=None)

    def _on_event(self, node: Node, what: str) -> None:
        now = time.monotonic()
        if what == "active" and self.faults and self.faults[-1].what not in SUDDEN:
            self.faults[-1].until = min(self.faults[-1].until, now + SETTLED)
        elif what not in NO_FAULT:
            self.faults.append(Fault(now, what, node.name, until=now + LIMIT))
            self._wake.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._wake.wait()
            self._wake.clear()
            while not self._over.is_set() and self._wonders():
                # Asked a moment later: who tells of a death does so right before it.
                self._listen(INTERVAL)
                for server in self._servers:
                    self._ask(server)
            self._listen(INTERVAL)

    def _wonders(self) -> bool:
        fault = self.faults[-1]
        return time.monotonic() < fault.until and not (fault.answers and fault.what in SUDDEN)

    def _ask(self, server: tuple[str, int]) -> None:
        mark = f"{len(self.faults):04x}{secrets.token_hex(6)}"
        us, there = (f"[{host}]" if ":" in host else host for host in (self._host, server[0]))
        port = self._socket.getsockname()[1]
        lines = [
            f"OPTIONS sip:{there}:{server[1]} SIP/2.0",
            f"Via: SIP/2.0/UDP {us}:{port};rport;branch=z9hG4bKp{mark}",
            "Max-Forwards: 70",
            f"From: <sip:prober@{us}:{port}>;tag={mark}",
            f"To: <sip:{there}:{server[1]}>",
            f"Call-ID: {mark}",
            "CSeq: 1 OPTIONS",
            "Content-Length: 0",
        ]
        # A dead node's port answers ICMP; an address that is nobody's at the moment cannot be reached.
        with contextlib.suppress(OSError):
            self._socket.sendto(("\r\n".join(lines) + "\r\n\r\n").encode(), server)

    def _listen(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                return
            try:
                packet = self._socket.recv(65536)
            except OSError:
                continue
            if packet.startswith(b"SIP/2.0 200 "):
                number = int(packet.partition(b"branch=z9hG4bKp")[2][:4] or b"0", 16)
                # What an earlier fault was asked about and nobody heard in time says nothing.
                if number == len(self.faults):
                    self.faults[-1].answers.append(time.monotonic())
