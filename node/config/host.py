"""What only the host can tell at load: its addresses and networks, and what a name or a STUN server says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import threading
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, ip_network
from pathlib import Path

from node.debug import stun

GET_ADDRESS, GET_NETMASK = 0x8915, 0x891B
"SIOCGIFADDR and SIOCGIFNETMASK."
PATIENCE = 2.0
"Seconds to wait for a name server or a STUN server."
STUN_PORT = 3478
MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST, BINDING_RESPONSE = 0x0001, 0x0101
MAPPED_ADDRESS, XOR_MAPPED_ADDRESS = 0x0001, 0x0020


def local_ip_v4() -> str:
    """The address this host would use towards the world; nothing is sent.

    A host on a network of its own has no route to the world: then the first interface's address.
    """
    return _towards(socket.AF_INET, "198.51.100.1") or next(iter(_interface_addresses()), "127.0.0.1")


def _interface_addresses() -> list[str]:
    addresses = []
    for _index, name in socket.if_nameindex():
        with contextlib.suppress(OSError):
            addresses.append(_ask_interface(name, GET_ADDRESS))
    return [address for address in addresses if not address.startswith("127.")]


def local_ip_v6() -> str:
    return _towards(socket.AF_INET6, "2001:db8::1") or "::1"


def _towards(family: socket.AddressFamily, destination: str) -> str:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def interface_ip(name: str, family: str = "auto") -> str:
    """Address of a network interface; raises OSError when it has none. `family`: auto, ipv4, ipv6."""
    if family != "ipv6":
        try:
            return _ask_interface(name, GET_ADDRESS)
        except OSError:
            if family == "ipv4":
                raise
    for line in _proc_if_inet6():
        words = line.split()
        if words[5] == name and words[3] == "00":
            return str(IPv6Address(bytes.fromhex(words[0])))
    raise OSError(f"interface {name} has no address")


def _proc_if_inet6() -> list[str]:
    try:
        return Path("/proc/net/if_inet6").read_text().splitlines()
    except OSError:
        return []


def _ask_interface(name: str, question: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, question, struct.pack("256s", name.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])


def local_mask_v4(ip: str) -> str:
    """Netmask of the interface that has the address."""
    for _index, name in socket.if_nameindex():
        try:
            if _ask_interface(name, GET_ADDRESS) == ip:
                return _ask_interface(name, GET_NETMASK)
        except OSError:
            continue
    return "255.255.255.0"


def own_networks() -> list[IPv4Network]:
    """The network of this host, as `localnet.auto` holds it."""
    ip = local_ip_v4()
    network = ip_network(f"{ip}/{local_mask_v4(ip)}", strict=False)
    assert isinstance(network, IPv4Network)
    return [network]


def resolve(text: str) -> str:
    """The address that `stun:server[:port]` or `host:name` stands for. Raises OSError."""
    try:
        address = _resolve(text)
    except OSError as error:
        if stun.level >= 3:
            stun.say("%s: %s", text, error)
        raise
    if stun.level >= 5:
        stun.say("%s is %s", text, address)
    return address


@lru_cache(maxsize=64)
def _resolve(text: str) -> str:
    kind, _colon, rest = text.partition(":")
    if kind not in ("host", "stun"):
        raise OSError("it must begin with stun: or host:")
    if not rest:
        raise OSError("it must name a server")
    if kind == "host":
        return _lookup(rest)
    server, _colon, port = rest.partition(":")
    return _binding(_lookup(server), int(port) if port.isdecimal() else STUN_PORT)


def _lookup(name: str) -> str:
    """getaddrinfo with a limit: a dead name server must not hold up the start."""
    found: list[str] = []

    def ask() -> None:
        try:
            found.extend(str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET))
        except OSError:
            return

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    if not found:
        raise OSError(f"no address is known for {name}")
    return found[0]


def _binding(server: str, port: int) -> str:
    """RFC 5389 binding request: how the world sees us."""
    transaction = os.urandom(12)
    request = struct.pack("!HHI12s", BINDING_REQUEST, 0, MAGIC_COOKIE, transaction)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, port))
        for _ in range(4):
            sock.settimeout(PATIENCE / 4)
            if stun.level >= 7:
                stun.say("asks %s:%d", server, port)
            sock.send(request)
            try:
                answer = sock.recv(2048)
            except TimeoutError:
                continue
            if stun.level >= 9:
                stun.say("%s:%d answers %s", server, port, answer.hex())
            address = mapped_address(answer, transaction)
            if address:
                return address
    raise OSError("the STUN server does not answer")


def mapped_address(answer: bytes, transaction: bytes) -> str:
    """The IPv4 address of a binding response; empty when the answer is none."""
    if len(answer) < 20 or answer[8:20] != transaction:
        return ""
    kind, length = struct.unpack_from("!HH", answer)
    if kind != BINDING_RESPONSE:
        return ""
    at = 20
    while at + 12 <= min(len(answer), 20 + length):
        attribute, size = struct.unpack_from("!HH", answer, at)
        if attribute in (MAPPED_ADDRESS, XOR_MAPPED_ADDRESS) and answer[at + 5] == 1:
            (number,) = struct.unpack_from("!I", answer, at + 8)
            return socket.inet_ntoa(
                struct.pack("!I", number ^ (MAGIC_COOKIE if attribute == XOR_MAPPED_ADDRESS else 0))
            )
        at += 4 + size + (-size % 4)
    return ""
