"""What only the host can tell at load: its addresses and networks, and what a name or a STUN server says."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import time
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network
from pathlib import Path

from node.config import stun as binding
from node.debug import stun

GET_ADDRESS, GET_NETMASK = 0x8915, 0x891B
"SIOCGIFADDR and SIOCGIFNETMASK."
PATIENCE = 2.0
"Seconds to wait for a name server and a STUN server together."
AGAIN = 30.0
"Seconds until who did not answer is asked again."


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


# ---- what others say: asked only while the configuration is read, and never for long ---------------------------------


_known: dict[str, str] = {}
"What forms stood for. Processes forked from this one know it too."
_failed: dict[str, tuple[float, str]] = {}
"Forms that gave nothing: since when, and why."


def resolve(text: str, *, patient: bool = True) -> str:
    """The IPv4 address that `stun:server[:port]` or `host:name` stands for. Raises OSError.

    What was found once is not asked for again by this process, what failed for half a minute not. A process that has no
    time, as the supervisor's, does not ask at all: not `patient`.
    """
    try:
        address = _known.get(text) or _ask(text, patient=patient)
    except OSError as error:
        if stun.level >= 3:
            stun.say("%s: %s", text, error)
        raise
    if stun.level >= 5:
        stun.say("%s is %s", text, address)
    return address


def _ask(text: str, *, patient: bool) -> str:
    since, why = _failed.get(text, (-AGAIN, "it is not asked for while the node runs"))
    if not patient or time.monotonic() - since < AGAIN:
        raise OSError(why)
    try:
        address = _known[text] = _found(text)
    except OSError as error:
        _failed[text] = time.monotonic(), str(error)
        raise
    return address


def _found(text: str) -> str:
    kind, _colon, rest = text.partition(":")
    if kind not in ("host", "stun"):
        raise OSError("it must begin with stun: or host:")
    if not rest:
        raise OSError("it must name a server")
    until = time.monotonic() + PATIENCE
    if kind == "host":
        return _lookup(rest, until)
    try:
        name, port = binding.server(rest)
    except ValueError as error:
        raise OSError(f"it {error}") from None
    return _binding(_lookup(name, until), port, until)


def _lookup(name: str, until: float) -> str:
    """As the system looks names up, in a process of its own: a dead name server must not hold up the start."""
    try:
        return str(IPv4Address(name))
    except ValueError:
        pass
    try:
        left = max(0.01, until - time.monotonic())
        said = subprocess.run(["getent", "ahostsv4", "--", name], capture_output=True, timeout=left, text=True).stdout
    except subprocess.TimeoutExpired:
        raise OSError(f"no name server tells the address of {name}") from None
    if not said.strip():
        raise OSError(f"no address is known for {name}")
    return said.split()[0]


def _binding(server: str, port: int, until: float) -> str:
    """A binding request, again and again (RFC 8489 6.2.1) until the time is over."""
    transaction = os.urandom(binding.TRANSACTION)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((server, port))
        pause = 0.25
        while (left := until - time.monotonic()) > 0:
            if stun.level >= 7:
                stun.say("asks %s:%d", server, port)
            sock.send(binding.request(transaction))
            address = _heard(sock, transaction, time.monotonic() + min(pause, left))
            if address:
                return address
            pause *= 2
    raise OSError("the STUN server does not answer")


def _heard(sock: socket.socket, transaction: bytes, until: float) -> str:
    while (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            answer = sock.recv(2048)
        except TimeoutError:
            return ""
        if stun.level >= 9:
            stun.say("is answered %s", answer.hex())
        try:
            if address := binding.mapped(answer, transaction):
                return address
        except binding.Refused as error:
            raise OSError(f"the STUN server says {error}") from None
    return ""
