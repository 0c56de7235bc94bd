"""The load of the relays: phones that send 50 packets a second each and count what they get.

All of them are sockets of this process, sent from in slots of one millisecond, so that packets come spread over 20 ms as
from real phones. Whoever relays meets the same load.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

from node.media.rtp import header

SLOTS = 20
"Of one millisecond: the packets of 20 ms are spread over them."
HOST = "127.0.0.1"


class Endpoint:
    """One phone, as cheap as can be: 160 bytes of silence to one port, whatever comes back is counted."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind((HOST, 0))
        self.port: int = self.socket.getsockname()[1]
        self.packet = header(0, 1, 160, self.port) + b"\xff" * 160
        self.sequence = 0
        self.received = 0

    def aim(self, port: int) -> None:
        """Send to this port, and take packets from nowhere else."""
        self.socket.connect((HOST, port))

    def send(self) -> None:
        self.sequence += 1
        number, stamp = self.sequence & 0xFFFF, self.sequence * 160 & 0xFFFFFFFF
        self.socket.send(self.packet[:2] + number.to_bytes(2, "big") + stamp.to_bytes(4, "big") + self.packet[8:])

    def take(self) -> bool:
        """Take in one packet, if one is there."""
        try:
            self.socket.recv(2048)
        except BlockingIOError:
            return False
        self.received += 1
        return True


def load(endpoints: Sequence[Endpoint], seconds: float) -> tuple[int, int, float]:
    """Send for so long: packets sent, packets that came, and how long it lasted."""
    slots = [endpoints[slot::SLOTS] for slot in range(SLOTS)]
    before, sent, began = _received(endpoints), 0, time.monotonic()
    for tick in range(int(seconds * 1000)):
        for endpoint in slots[tick % SLOTS]:
            endpoint.send()
            sent += 1
        for endpoint in slots[(tick + SLOTS // 2) % SLOTS]:
            endpoint.take()
        due = began + (tick + 1) / 1000 - time.monotonic()
        if due > 0:
            time.sleep(due)
    lasted = time.monotonic() - began
    time.sleep(0.1)  # what is still on its way belongs to this load
    for endpoint in endpoints:
        while endpoint.take():
            pass
    return sent, _received(endpoints) - before, lasted


def close(endpoints: Sequence[Endpoint]) -> None:
    for endpoint in endpoints:
        endpoint.socket.close()


def _received(endpoints: Sequence[Endpoint]) -> int:
    return sum(endpoint.received for endpoint in endpoints)
