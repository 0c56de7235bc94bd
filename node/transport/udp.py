"""UDP: drained up to 64 datagrams a wake-up, sent without waiting.

No asyncio transport: it asks for a 256 KiB buffer for each datagram, which costs five times the datagram itself.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable, Mapping

from node.config.profile import ProfileSettings
from node.sip.flow import Address, Flow
from node.transport.marking import mark

BATCH = 64
"Datagrams read at once."
BUFFER = 4 << 20
"Bytes the kernel may keep for us: a burst of registrations of a whole site."

SO_TIMESTAMPNS = 35
"Linux: the kernel notes when each datagram came. (Python's socket module has no name for it.)"
_TIMESPEC = struct.Struct("@qq")
SO_MEMINFO = 55
"Linux: nine numbers of a socket's memory, the last one what was dropped."
_MEMINFO = struct.Struct("@9I")

PASSING = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED, errno.EINTR})
"Send errors that say nothing about the destination: the retransmission may get through."


class Datagrams:
    """One UDP socket of a profile."""

    def __init__(self, sock: socket.socket, profile: str, *, arrived: Callable[[bytes, Flow], None]) -> None:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            if sock.getsockopt(socket.SOL_SOCKET, option) < BUFFER:
                sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        name = sock.getsockname()
        self.sock = sock
        self.profile = profile
        self.local: Address = (name[0], name[1])
        self.failures = 0
        "Datagrams that the kernel did not take."
        self._arrived = arrived
        self._plain = sock.family == socket.AF_INET

    def mark(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Bear the DSCP of our profile from now on."""
        if self.profile in settings:
            mark(self.sock, settings[self.profile].sip_dscp)

    def drain(self) -> int:
        """Read what is there, at most a batch. How many were read; with a full batch there is perhaps more."""
        recvfrom, arrived, profile, local, plain = (
            self.sock.recvfrom,
            self._arrived,
            self.profile,
            self.local,
            self._plain,
        )
        for count in range(BATCH):
            try:
                data, remote = recvfrom(65535)
            except BlockingIOError:
                return count
            except OSError:
                continue  # an ICMP error of an earlier datagram
            arrived(data, Flow(profile, "UDP", local, remote if plain else (remote[0], remote[1])))
        return BATCH

    def age(self) -> float:
        """Seconds that the next datagram has waited in the kernel's buffer; 0 if there is none."""
        try:
            _, ancillary, _, _ = self.sock.recvmsg(1, socket.CMSG_SPACE(_TIMESPEC.size), socket.MSG_PEEK)
        except OSError:
            return 0.0
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(value)
                since: float = seconds + nanoseconds / 1e9
                return max(0.0, time.time() - since)
        return 0.0

    @property
    def dropped(self) -> int:
        """Datagrams that the kernel has not kept for us: its buffer was full, or the sluice shut."""
        try:
            found = self.sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
        except OSError:
            return 0
        return int(_MEMINFO.unpack(found)[-1]) if len(found) == _MEMINFO.size else 0

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
