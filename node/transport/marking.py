"""The DSCP of a socket: how routers are to treat what it sends (RFC 2474)."""

from __future__ import annotations

import socket


def mark(sock: socket.socket, dscp: int) -> None:
    """The DSCP is the upper six bits of the TOS byte (RFC 2474 3). An IPv6 socket keeps it under another name."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
