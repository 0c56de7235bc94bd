"""UDP: drained up to 64 datagrams a wake-up, sent without waiting.

No asyncio transport: it asks for a 256 KiB buffer for each datagram, which costs five times the datagram itself.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from node.sip.flow import Address, Flow

BATCH = 64
"Datagrams read before the loop gets its turn again."
BUFFER = 4 << 20
"Bytes the kernel may keep for us: a burst of registrations of a whole site."

PASSING = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED, errno.EINTR})
"Send errors that say nothing about the destination: the retransmission may get through."


class Datagrams:
    """One UDP socket of a profile."""

    def __init__(self, sock: socket.socket, profile: str, *, arrived: Callable[[bytes, Flow], None]) -> None:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            if sock.getsockopt(socket.SOL_SOCKET, option) < BUFFER:
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        name = sock.getsockname()
        self.sock = sock
        self.profile = profile
        self.local: Address = (name[0], name[1])
        self.failures = 0
        "Datagrams that the kernel did not take."
        self._arrived = arrived
        self._plain = sock.family == socket.AF_INET

    def drain(self) -> None:
        """Read what is there, at most a batch."""
        recvfrom, arrived, profile, local, plain = (
            self.sock.recvfrom,
            self._arrived,
            self.profile,
            self.local,
            self._plain,
        )
        for _ in range(BATCH):
            try:
                data, remote = recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            arrived(data, Flow(profile, "UDP", local, remote if plain else (remote[0], remote[1])))

    def send(self, data: bytes, remote: Address) -> int:
        """Send; the errno if the kernel did not take it, else 0."""
        try:
            self.sock.sendto(data, remote)
        except OSError as error:
            self.failures += 1
            return error.errno or errno.EIO
        return 0

    def close(self) -> None:
        self.sock.close()
