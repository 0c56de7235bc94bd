"""The shared address: set on promotion, announced to the neighbours, removed at demotion.

Netlink and the announcements are written out by hand: it is two messages and two packets, and the supervisor would
otherwise carry a library with an asyncio of its own. The address is given a short lifetime and is set again and
again, so that a node that stands still loses it by the hand of its kernel.
"""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import socket
import struct

from ha.loop import Alarm, Loop
from ha.settings import AddressSettings

log = logging.getLogger(__name__)

RTM_NEWADDR, RTM_DELADDR, NLMSG_ERROR = 20, 21, 2
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_CREATE = 0x001, 0x004, 0x100, 0x400
IFA_ADDRESS, IFA_LOCAL, IFA_CACHEINFO, IFA_FLAGS = 1, 2, 6, 8
IFA_F_NODAD = 0x02
FOREVER = 0xFFFFFFFF

REPEATS = (0.02, 0.04, 0.1, 0.3, 0.7, 1.5, 3.0, 6.0)
"Seconds after the first announcement at which the address is announced again: announcements are not acknowledged."

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class SharedAddress:
    """The address of one node; does nothing at all in mode `none`."""

    def __init__(self, loop: Loop, settings: AddressSettings) -> None:
        self.held = False
        self._loop, self._settings = loop, settings
        self._keeping: Alarm | None = None
        self._announcements: list[Alarm] = []
        self._complaint = ""

    @property
    def wanted(self) -> bool:
        """Is it this node that moves it?"""
        return self._settings.mode != "none"

    def take(self) -> None:
        """Set the address and tell the neighbours, before this returns and a few times more.

        What goes wrong is logged, and tried again.
        """
        if self._settings.mode == "none":
            return
        self._cancel()
        self.held = False
        self._keep()
        self._keeping = self._loop.every(self._settings.lifetime / 4, self._keep)

    def drop(self) -> None:
        """Remove the address, also one that a former life has left. Dropping twice is no error."""
        self._cancel()
        self.held, self._complaint = False, ""
        drop(self._settings)

    def keep_quiet(self) -> None:
        """The address stays, and is announced no more: another host is about to have it."""
        for alarm in self._announcements:
            alarm.cancel()
        self._announcements = []

    def _cancel(self) -> None:
        self.keep_quiet()
        if self._keeping is not None:
            self._keeping.cancel()

    def _keep(self) -> None:
        """Prolong its life. Where it is there for the first time, or again, the neighbours are told."""
        had, self.held = self.held, self._set()
        if self.held and not had:
            log.info("address %s is on %s now", self._settings.address, self._settings.interface)
            self._announce()
            self._announcements = [self._loop.after(delay, self._announce) for delay in REPEATS]

    def _set(self) -> bool:
        try:
            set_address(self._settings.interface, self._settings.address, self._settings.lifetime)
            self._complaint = ""
        except OSError as error:
            if str(error) != self._complaint:
                where = self._settings.interface
                log.error("address %s cannot be set on %s, trying again: %s", self._settings.address, where, error)
            self._complaint = str(error)
        return not self._complaint

    def _announce(self) -> None:
        try:
            announce(self._settings.interface, self._settings.address)
        except OSError as error:
            log.error("address %s cannot be announced: %s", self._settings.address, error)


def drop(settings: AddressSettings) -> None:
    """Remove the shared address from this host; for the supervisor, and for its lease keeper when it is orphaned."""
    if settings.mode == "none":
        return
    try:
        if remove_address(settings.interface, settings.address):
            log.info("address %s is off %s now", settings.address, settings.interface)
    except OSError as error:
        log.error("address %s cannot be removed from %s: %s", settings.address, settings.interface, error)


# ---- netlink (rtnetlink(7)) ----------------------------------------------------------------------------------------


def set_address(interface: str, address: str, lifetime: int = 0) -> None:
    """Add the address, or prolong its life; at once usable (no duplicate address detection). Raises OSError."""
    parsed = ipaddress.ip_interface(address)
    seconds = lifetime or FOREVER
    extra = _attribute(IFA_CACHEINFO, struct.pack("=IIII", seconds, seconds, 0, 0))
    extra += _attribute(IFA_FLAGS, struct.pack("=I", IFA_F_NODAD))
    _netlink(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address(parsed, interface) + extra)


def remove_address(interface: str, address: str) -> bool:
    """Whether it was there. Raises OSError for anything but its absence."""
    try:
        _netlink(RTM_DELADDR, 0, _address(ipaddress.ip_interface(address), interface))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO):
            return False
        raise
    return True


def _address(parsed: Interface, interface: str) -> bytes:
    family = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBI", family, parsed.network.prefixlen, IFA_F_NODAD, 0, socket.if_nametoindex(interface))
    return head + _attribute(IFA_LOCAL, parsed.ip.packed) + _attribute(IFA_ADDRESS, parsed.ip.packed)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value + b"\0" * (-len(value) % 4)


def _netlink(kind: int, flags: int, body: bytes) -> None:
    """One request and its acknowledgement; the kernel answers at once."""
    head = struct.pack("=IHHII", len(body) + 16, kind, flags | NLM_F_REQUEST | NLM_F_ACK, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(1.0)
        sock.send(head + body)
        answer = sock.recv(4096)
    _length, answered, _flags, _sequence, _pid, code = struct.unpack_from("=IHHIIi", answer)
    if answered == NLMSG_ERROR and code:
        raise OSError(-code, os.strerror(-code))


# ---- announcements -------------------------------------------------------------------------------------------------


def announce(interface: str, address: str) -> None:
    """Gratuitous ARP (RFC 5227 3), or an unsolicited neighbour advertisement (RFC 4861 7.2.6). Raises OSError."""
    parsed = ipaddress.ip_interface(address).ip
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
        sock.bind((interface, 0))
        hardware: bytes = sock.getsockname()[4]
        if len(hardware) != 6 or not any(hardware):
            return  # Loopback and point-to-point links have no neighbours to be told.
        if isinstance(parsed, ipaddress.IPv4Address):
            sock.send(arp(hardware, parsed, operation=1))
            sock.send(arp(hardware, parsed, operation=2))
        else:
            sock.send(neighbour_advertisement(hardware, parsed))


def arp(hardware: bytes, address: ipaddress.IPv4Address, operation: int) -> bytes:
    """An announcement: sender and target are the same address; as request (1) or reply (2), some heed only one."""
    target = b"\0" * 6 if operation == 1 else b"\xff" * 6
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
    return b"\xff" * 6 + hardware + b"\x08\x06" + body + hardware + address.packed + target + address.packed


def neighbour_advertisement(hardware: bytes, address: ipaddress.IPv6Address) -> bytes:
    """To all nodes, with the override flag, and our link-layer address as option."""
    everybody = ipaddress.IPv6Address("ff02::1").packed
    body = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + address.packed + struct.pack("!BB", 2, 1) + hardware
    pseudo = address.packed + everybody + struct.pack("!II", len(body), 58)
    body = body[:2] + struct.pack("!H", _checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 0x60000000, len(body), 58, 255) + address.packed + everybody
    return b"\x33\x33\x00\x00\x00\x01" + hardware + b"\x86\xdd" + head + body


def _checksum(packet: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(packet) // 2}H", packet))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
